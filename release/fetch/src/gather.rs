//! From an image's name to everything the admission core wants to see about it.

use std::collections::BTreeMap;

use pitlane_release::{
    Digest, Evidence, ImageRef, Platform, Policy, Repository,
    admit::signed_releases,
    bundle::{BUNDLE, MAX_BUNDLE},
    oci::{self, Descriptor},
};

use crate::{FetchError, Source, statement_tag};

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
            Some(statements) if policy.drive.is_some() => Ok((Vec::new(), statements)),
            // Policies without `drive:` go by the signatures among the referrers.
            _ => signed(source, policy, repository, &digest).await,
        }
    };
    let ((manifest, config), (bundles, statements)) = tokio::try_join!(content, signed)?;

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
    Ok(Evidence { requested, top, manifest, config, bundles, statements, named })
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

/// Bundles at the image, and bundles that may hold its release statement.
async fn signed(
    source: &Source,
    policy: &Policy,
    repository: &Repository,
    digest: &Digest,
) -> Result<(Vec<Vec<u8>>, Vec<Vec<u8>>), FetchError> {
    if policy.drive.is_some() {
        let statements = match source.manifest(repository, &statement_tag(digest)).await {
            Ok(bytes) => bundle_of(source, repository, &bytes).await?,
            Err(FetchError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        if !signed_releases(policy, &statements).is_empty() {
            return Ok((Vec::new(), statements));
        }
        let bundles = referrers(source, repository, digest).await?;
        return Ok((bundles, statements));
    }
    Ok((referrers(source, repository, digest).await?, Vec::new()))
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
