//! Taking manifests and tags out of a repository, each step so that a crash after it is harmless.

use std::{fs, io, sync::Arc};

use axum::response::Response;
use pitlane_release::{digest::Digest, oci::is_index};

use super::{
    Registry,
    blobs::accepted,
    disk::{flush, if_exists},
    error::ApiError,
    links::Link,
    manifests::find,
    names::{Reference, Repo, Tag},
    store::blocking,
};

/// DELETE: a tag alone, or a manifest with all its tags. A manifest that an index names stays.
pub(super) async fn delete(
    registry: Arc<Registry>,
    repo: Repo,
    reference: Reference,
) -> Result<Response, ApiError> {
    blocking(move || {
        let links = &registry.links;
        let _alone = registry.gate.alone();
        let link = find(&registry, &repo, &reference)?;
        match &reference {
            Reference::Tag(tag) => {
                let path = links.tag_path(&repo, tag);
                if_exists(fs::remove_file(&path)).map_err(|e| failed(&e))?;
                path.parent().map_or(Ok(()), flush).map_err(|e| failed(&e))?;
            }
            Reference::Digest(digest) => {
                if let Some(by) = index_of(&registry, &repo, digest)? {
                    return Err(ApiError::denied(format!(
                        "{repo}@{digest} is in use by the index {by}: delete that first"
                    )));
                }
                remove(&registry, &repo, &link).map_err(|e| failed(&e))?;
            }
        }
        registry.layout.touch();
        Ok(())
    })
    .await?;
    accepted()
}

/// An index of the repository that names a manifest.
fn index_of(registry: &Registry, repo: &Repo, digest: &Digest) -> Result<Option<Digest>, ApiError> {
    for other in registry.links.manifests(repo).map_err(|e| failed(&e))? {
        let link = registry.links.manifest(repo, &other).map_err(|e| failed(&e))?;
        if !link.is_some_and(|link| is_index(&link.entry.media_type)) {
            continue;
        }
        let parsed = registry.parsed(repo, &other).map_err(|e| failed(&e))?;
        if parsed.is_some_and(|parsed| parsed.children.iter().any(|(child, _)| child == digest)) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// Takes a manifest out of a repository: its tags, its place among the referrers, its link, in an
/// order of which every beginning can be repaired. The bytes are left to the collector. For who
/// holds the gate alone.
pub(super) fn remove(registry: &Registry, repo: &Repo, link: &Link) -> io::Result<()> {
    let (links, digest) = (&registry.links, link.entry.digest);
    let mut gone = Vec::new();
    for tag in links.tags(repo)? {
        let Ok(tag) = Tag::parse(&tag) else { continue };
        if links.tag(repo, &tag)? == Some(digest) {
            gone.push(links.tag_path(repo, &tag));
        }
    }
    gone.extend(link.subject.map(|subject| links.referrer_path(repo, &subject, &digest)));
    gone.push(links.manifest_path(repo, &digest));
    for path in gone {
        if_exists(fs::remove_file(&path))?;
        path.parent().map_or(Ok(()), flush)?;
    }
    registry.shares.of(repo).release(link.entry.size);
    Ok(())
}

fn failed(error: &io::Error) -> ApiError {
    ApiError::storage("remove a repository's links", error)
}
