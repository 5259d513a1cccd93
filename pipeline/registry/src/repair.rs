//! What a registry mends when it was not closed: a kill between two files that belong together.
//!
//! Each of them is put or removed in an order of which every beginning is harmless; here the rest
//! is made good. A folder from before repositories noted their blobs is brought up to date too.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use pitlane_release::digest::Digest;

use super::{
    disk::{flush, if_exists},
    links::Links,
    names::Repo,
    store::blob_path,
};

/// Says that the folder was closed.
const CLOSED: &str = "closed";

/// Notes when it is dropped that all is in order. The last thing that a registry lets go of.
#[derive(Debug)]
pub(super) struct Closing(PathBuf);

impl Closing {
    /// Opens the folder: whether it was closed before.
    pub(super) fn open(root: &Path) -> io::Result<(Self, bool)> {
        let path = root.join(CLOSED);
        let was_closed = if_exists(fs::remove_file(&path))?.is_some();
        if was_closed {
            flush(root)?;
        }
        Ok((Self(path), was_closed))
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, b"");
    }
}

/// Mends the links below a root of which the blobs have their final names.
pub(super) fn repair(root: &Path, links: &Links, max_manifest: u64) -> io::Result<()> {
    let mut mended = 0u64;
    for repo in links.places()? {
        mended += lists(links, &repo)?;
        for digest in links.manifests(&repo)? {
            mended += manifest(root, links, &repo, &digest, max_manifest)?;
        }
    }
    if mended > 0 {
        tracing::info!(mended, "registry mended links after it was not closed");
    }
    Ok(())
}

/// Entries of lists whose manifest never came, or is gone.
fn lists(links: &Links, repo: &Repo) -> io::Result<u64> {
    let mut mended = 0;
    for subject in links.subjects(repo)? {
        for digest in links.referrers(repo, &subject)? {
            if links.manifest(repo, &digest)?.is_none() {
                if_exists(fs::remove_file(links.referrer_path(repo, &subject, &digest)))?;
                mended += 1;
            }
        }
    }
    Ok(mended)
}

/// A manifest's place in the list of its subject, and the repository's claim on its blobs.
fn manifest(root: &Path, links: &Links, repo: &Repo, digest: &Digest, max: u64) -> io::Result<u64> {
    let mut mended = 0;
    let Some(link) = links.manifest(repo, digest)? else { return Ok(0) };
    if let Some(subject) = link.subject
        && links.referrer(repo, &subject, digest)?.is_none()
    {
        let path = links.referrer_path(repo, &subject, digest);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let temporary = root.join("tmp/mended");
        fs::write(&temporary, serde_json::to_vec(&link.entry)?)?;
        fs::rename(temporary, path)?;
        mended += 1;
    }
    let open = |digest: &Digest| {
        let Some(file) = if_exists(File::open(blob_path(root, digest)))? else { return Ok(None) };
        let size = file.metadata()?.len();
        Ok(Some((file, size)))
    };
    let Some(parsed) = links.parsed(repo, digest, open, max)? else {
        tracing::warn!(repository = %repo, %digest, "a manifest cannot be read: push it again");
        return Ok(mended);
    };
    for (blob, _) in parsed.blobs {
        if blob_path(root, &blob).exists() {
            mended += u64::from(links.link_blob(repo, &blob)?);
        }
    }
    Ok(mended)
}
