//! From an image's name to everything the admission core wants to see about it.

use std::collections::BTreeMap;

use pitlane_release::{
    Digest, Evidence, ImageRef, Platform, Policy, Repository,
    admit::signed_releases,
    bundle::{BUNDLE, MAX_BUNDLE},
    evidence::LegacyLayer,
    oci::{self, Descriptor},
    policy::Formats,
};

use crate::{FetchError, Source, legacy, statement_tag};

/// Most bytes of bundles read for one image; a flood of referrers ends here.
const MAX_BUNDLES_TOTAL: u64 = 32 * 1024 * 1024;

/// Gathers the evidence about an image for one platform.
///
/// For policies with `drive:` it starts from the release statement under its own tag and
/// fetches exactly what a statement of the policy's authorities names; only when there is none
/// it looks through the referrers. For other policies the referrers are the evidence.
///
/// # Errors
/// When anything that must be there cannot be had. What merely is not there is no error.
pub async fn gather(
    source: &Source,
    policy: &Policy,
    image: &ImageRef,
    platform: Platform,
) -> Result<Evidence, FetchError> {
    gather_for(source, policy, image, platform, None).await
}

/// The same, with the release statements to go by given, so that a release can be judged before
/// its statement is the one that cars look at.
pub async fn gather_for(
    source: &Source,
    policy: &Policy,
    image: &ImageRef,
    platform: Platform,
    given: Option<Vec<Vec<u8>>>,
) -> Result<Evidence, FetchError> {
    let repository = &image.repository;
    let reference = match (&image.digest, &image.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.clone(),
        (None, None) => "latest".to_owned(),
    };
    let top = source.manifest(repository, &reference).await?;
    let digest = image.digest.unwrap_or_else(|| Digest::of(&top));

    let content = content(source, repository, &top, platform);
    let signed = async {
        match given {
            Some(statements) if policy.drive.is_some() => {
                Ok(Signed { statements, ..Signed::default() })
            }
            // Policies without `drive:` go by the signatures among the referrers.
            _ => signed(source, policy, repository, &digest).await,
        }
    };
    let ((manifest, config), signed) = tokio::try_join!(content, signed)?;
    let Signed { bundles, legacy, statements } = signed;

    let mut named = BTreeMap::new();
    let mut newest = signed_releases(policy, &statements);
    newest.extend(signed_releases(policy, &bundles));
    newest.retain(|signed| signed.statement.is_about(&digest));
    let counter = newest.iter().map(|signed| signed.statement.predicate.counter).max();
    newest.retain(|signed| Some(signed.statement.predicate.counter) == counter);
    for item in newest.iter().flat_map(|signed| &signed.statement.predicate.evidence) {
        // What is larger than it says, or than anything may be, is as good as not there.
        match source.blob(repository, &item.digest, item.size.min(MAX_BUNDLE)).await {
            Ok(bytes) => drop(named.insert(item.digest, bytes)),
            Err(FetchError::NotFound { .. } | FetchError::TooLarge { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let requested = repository.pin(digest);
    Ok(Evidence { requested, top, manifest, config, bundles, legacy, statements, named })
}

type Content = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The platform's manifest and config.
async fn content(
    source: &Source,
    repository: &Repository,
    top: &[u8],
    platform: Platform,
) -> Result<Content, FetchError> {
    let manifest = match oci::parse_index(top) {
        Ok(index) => match index.child(platform) {
            Some(child) => source.manifest(repository, &child.digest.to_string()).await?,
            None => return Ok((None, None)),
        },
        Err(_) => top.to_vec(),
    };
    let config = match oci::parse_manifest(&manifest) {
        Ok(parsed) => {
            let digest = parsed.config.digest;
            Some(source.blob(repository, &digest, oci::MAX_CONFIG).await?)
        }
        // The admission core says what is wrong with it.
        Err(_) => None,
    };
    Ok((Some(manifest), config))
}

/// What was signed about an image, in the fields of [`Evidence`].
#[derive(Debug, Default)]
pub struct Signed {
    /// Bundles at the image.
    pub bundles: Vec<Vec<u8>>,
    /// What lies under cosign's `.sig` and `.att` tags.
    pub legacy: Vec<LegacyLayer>,
    /// Bundles that may hold its release statement.
    pub statements: Vec<Vec<u8>>,
}

/// What was signed about a manifest or index, without its content.
pub async fn signed(
    source: &Source,
    policy: &Policy,
    repository: &Repository,
    digest: &Digest,
) -> Result<Signed, FetchError> {
    if policy.drive.is_some() {
        let statements = match source.manifest(repository, &statement_tag(digest)).await {
            Ok(bytes) => bundle_of(source, repository, &bytes).await?,
            Err(FetchError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        if !signed_releases(policy, &statements).is_empty() {
            return Ok(Signed { statements, ..Signed::default() });
        }
        let bundles = referrers(source, repository, digest).await?;
        return Ok(Signed { bundles, statements, ..Signed::default() });
    }
    let wants = |what: fn(Formats) -> bool| {
        policy.authorities.iter().any(|authority| what(authority.formats))
    };
    let bundles = async {
        match wants(Formats::bundles) {
            true => referrers(source, repository, digest).await,
            false => Ok(Vec::new()),
        }
    };
    let legacy = async {
        match wants(Formats::legacy) {
            true => legacy::layers(source, repository, digest).await,
            false => Ok(Vec::new()),
        }
    };
    let (bundles, legacy) = tokio::try_join!(bundles, legacy)?;
    Ok(Signed { bundles, legacy, statements: Vec::new() })
}

async fn referrers(
    source: &Source,
    repository: &Repository,
    digest: &Digest,
) -> Result<Vec<Vec<u8>>, FetchError> {
    let mut bundles: Vec<Vec<u8>> = Vec::new();
    for descriptor in source.referrers(repository, digest).await? {
        // The artifact type in the list is whatever a client wrote there (cosign writes the
        // type of the empty config), so the manifest itself is asked.
        let bytes = match source.manifest(repository, &descriptor.digest.to_string()).await {
            Ok(bytes) => bytes,
            Err(FetchError::NotFound { .. } | FetchError::TooLarge { .. }) => continue,
            Err(error) => return Err(error),
        };
        bundles.extend(bundle_of(source, repository, &bytes).await?);
        if bundles.iter().map(|b| b.len() as u64).sum::<u64>() > MAX_BUNDLES_TOTAL {
            break;
        }
    }
    Ok(bundles)
}

/// The bundle in a referrer manifest, if it holds one: a list of one, or of none.
pub async fn bundle_of(
    source: &Source,
    repository: &Repository,
    manifest: &[u8],
) -> Result<Vec<Vec<u8>>, FetchError> {
    let Ok(manifest) = oci::parse_manifest(manifest) else { return Ok(Vec::new()) };
    let is_bundle = |layer: &&Descriptor| layer.media_type == BUNDLE && layer.size <= MAX_BUNDLE;
    let Some(layer) = manifest.layers.iter().find(is_bundle) else { return Ok(Vec::new()) };
    match source.blob(repository, &layer.digest, layer.size).await {
        Ok(bytes) => Ok(vec![bytes]),
        Err(FetchError::NotFound { .. } | FetchError::TooLarge { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
