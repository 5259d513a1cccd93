//! cosign's `.sig` and `.att` tags: signatures and attestations from before bundles.

use pitlane_release::{
    Digest, Repository,
    bundle::MAX_BUNDLE,
    evidence::LegacyLayer,
    oci,
    sigstore::DSSE_LAYER,
    simple::{self, MAX_PAYLOAD, SIMPLE_SIGNING},
};

use crate::{FetchError, Source};

/// Most layers fetched of one tag; each signer and each attestation adds one.
const MAX_LAYERS: usize = 64;
/// Most bytes of all layers of one image; a flood ends here.
const MAX_TOTAL: u64 = 32 * 1024 * 1024;

/// Everything under the two tags of a manifest. What is not there is no error.
pub(crate) async fn layers(
    source: &Source,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<LegacyLayer>, FetchError> {
    let (signatures, attestations) = tokio::try_join!(
        of_tag(source, repository, digest, simple::SIG),
        of_tag(source, repository, digest, simple::ATT)
    )?;
    Ok([signatures, attestations].concat())
}

async fn of_tag(
    source: &Source,
    repository: &Repository,
    digest: &Digest,
    suffix: &str,
) -> Result<Vec<LegacyLayer>, FetchError> {
    let manifest = match source.legacy(repository, digest, suffix).await {
        Ok(bytes) => oci::parse_manifest(&bytes),
        Err(FetchError::NotFound { .. } | FetchError::TooLarge { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // What is no manifest holds no signature; the admission core says that there is none.
    let Ok(manifest) = manifest else { return Ok(Vec::new()) };
    let mut found: Vec<LegacyLayer> = Vec::new();
    let mut total = 0;
    for layer in manifest.layers {
        if found.len() >= MAX_LAYERS {
            break;
        }
        let cap = match layer.media_type.as_str() {
            SIMPLE_SIGNING => MAX_PAYLOAD,
            DSSE_LAYER => MAX_BUNDLE,
            _ => continue,
        };
        // Sizes are a stranger's word: what is too large is left out before it is added up, so
        // that it neither overflows nor takes the place of what follows.
        if layer.size > cap {
            continue;
        }
        total += layer.size;
        if total > MAX_TOTAL {
            break;
        }
        let payload = match source.blob(repository, &layer.digest, layer.size).await {
            Ok(bytes) => bytes,
            Err(FetchError::NotFound { .. } | FetchError::TooLarge { .. }) => continue,
            Err(error) => return Err(error),
        };
        let (media_type, annotations) = (layer.media_type, layer.annotations);
        found.push(LegacyLayer { media_type, payload, annotations });
    }
    Ok(found)
}
