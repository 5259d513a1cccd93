//! What each repository holds: manifests, tags, referrers and blobs, one small file each.
//!
//! ```text
//! repositories/<name>/_manifests/<hex>          the manifest's entry: media type, size, subject
//! repositories/<name>/_tags/<tag>               sha256:<hex>
//! repositories/<name>/_referrers/<subject>/<hex> the referrer's descriptor
//! repositories/<name>/_blobs/<hex>              empty: the repository holds this blob
//! ```
//! A repository's path components never begin with `_`, so names and links cannot collide.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use pitlane_release::digest::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    disk::{if_exists, names},
    manifest::{self, Entry, Parsed},
    names::{Repo, Tag},
};

/// No link file is larger: annotations are part of a manifest of at most a few MiB.
const MAX_LINK_BYTES: u64 = 32 * 1024 * 1024;
/// How deep repository names may nest (255 bytes, two a level), for the walk over all of them.
const MAX_DEPTH: usize = 128;

/// A repository's record of a manifest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Link {
    /// Media type, digest and size.
    #[serde(flatten)]
    pub(super) entry: Entry,
    /// In whose referrers list it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Digest>,
}

/// The link files under one root folder.
#[derive(Clone, Debug)]
pub(super) struct Links {
    root: PathBuf,
}

impl Links {
    /// `root`: the registry's folder.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.join("repositories") }
    }

    fn repo(&self, repo: &Repo) -> PathBuf {
        self.root.join(repo.as_str())
    }

    pub(super) fn manifest_path(&self, repo: &Repo, digest: &Digest) -> PathBuf {
        self.repo(repo).join("_manifests").join(digest.hex())
    }

    pub(super) fn tag_path(&self, repo: &Repo, tag: &Tag) -> PathBuf {
        self.repo(repo).join("_tags").join(tag.as_str())
    }

    pub(super) fn referrer_path(&self, repo: &Repo, subject: &Digest, digest: &Digest) -> PathBuf {
        self.repo(repo).join("_referrers").join(subject.hex()).join(digest.hex())
    }

    /// Whether anything was ever pushed to it.
    pub(super) fn exists(&self, repo: &Repo) -> bool {
        self.repo(repo).join("_manifests").is_dir()
    }

    /// The repository's record of a manifest.
    pub(super) fn manifest(&self, repo: &Repo, digest: &Digest) -> io::Result<Option<Link>> {
        read_json(&self.manifest_path(repo, digest))
    }

    /// What a manifest of a repository says; `None` when it is not there, or was altered on the
    /// disk. `open` gives a blob and its size.
    pub(super) fn parsed(
        &self,
        repo: &Repo,
        digest: &Digest,
        open: impl FnOnce(&Digest) -> io::Result<Option<(fs::File, u64)>>,
        max: u64,
    ) -> io::Result<Option<Parsed>> {
        let Some(link) = self.manifest(repo, digest)? else { return Ok(None) };
        let Some((file, size)) = open(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(size.min(max)).read_to_end(&mut bytes)?;
        let parsed = manifest::parse(Some(&link.entry.media_type), &bytes).ok();
        Ok(parsed.filter(|parsed| parsed.entry.digest == *digest))
    }

    /// What a tag points to.
    pub(super) fn tag(&self, repo: &Repo, tag: &Tag) -> io::Result<Option<Digest>> {
        let Some(text) = read(&self.tag_path(repo, tag))? else { return Ok(None) };
        let text = String::from_utf8_lossy(&text);
        // A torn file after a power cut without flushing: as good as none.
        Ok(text.trim_end().parse().ok())
    }

    pub(super) fn blob_path(&self, repo: &Repo, digest: &Digest) -> PathBuf {
        self.repo(repo).join("_blobs").join(digest.hex())
    }

    /// Whether the repository holds a blob.
    pub(super) fn has_blob(&self, repo: &Repo, digest: &Digest) -> io::Result<bool> {
        Ok(if_exists(fs::metadata(self.blob_path(repo, digest)))?.is_some())
    }

    /// Notes that the repository holds a blob; tells whether that is news.
    pub(super) fn link_blob(&self, repo: &Repo, digest: &Digest) -> io::Result<bool> {
        let path = self.blob_path(repo, digest);
        let make = || match fs::File::create_new(&path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        };
        match make() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(self.repo(repo).join("_blobs"))?;
                make()
            }
            other => other,
        }
    }

    /// The digests of all blobs of a repository.
    pub(super) fn blobs(&self, repo: &Repo) -> io::Result<Vec<Digest>> {
        let names = names(&self.repo(repo).join("_blobs"))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// The subjects that have a list of referrers, sorted.
    pub(super) fn subjects(&self, repo: &Repo) -> io::Result<Vec<Digest>> {
        let names = names(&self.repo(repo).join("_referrers"))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// All tags, sorted by their bytes.
    pub(super) fn tags(&self, repo: &Repo) -> io::Result<Vec<String>> {
        names(&self.repo(repo).join("_tags"))
    }

    /// The digests that refer to a subject, sorted.
    pub(super) fn referrers(&self, repo: &Repo, subject: &Digest) -> io::Result<Vec<Digest>> {
        let folder = self.repo(repo).join("_referrers").join(subject.hex());
        Ok(names(&folder)?.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// One entry of a subject's list.
    pub(super) fn referrer(
        &self,
        repo: &Repo,
        subject: &Digest,
        digest: &Digest,
    ) -> io::Result<Option<Entry>> {
        read_json(&self.referrer_path(repo, subject, digest))
    }

    /// The digests of all manifests of a repository.
    pub(super) fn manifests(&self, repo: &Repo) -> io::Result<Vec<Digest>> {
        let names = names(&self.repo(repo).join("_manifests"))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// All repositories that a manifest was pushed to, sorted.
    pub(super) fn repositories(&self) -> io::Result<Vec<Repo>> {
        let mut found = self.places()?;
        found.retain(|repo| self.exists(repo));
        Ok(found)
    }

    /// All repositories, also those that hold nothing but blobs, sorted.
    pub(super) fn places(&self) -> io::Result<Vec<Repo>> {
        let mut found = Vec::new();
        self.walk("", 0, &mut found)?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn walk(&self, below: &str, depth: usize, found: &mut Vec<Repo>) -> io::Result<()> {
        for name in names(&self.root.join(below))? {
            if name == "_manifests" || name == "_blobs" {
                found.extend(Repo::parse(below));
            }
            if name.starts_with('_') || depth >= MAX_DEPTH {
                continue;
            }
            let next = if below.is_empty() { name } else { format!("{below}/{name}") };
            self.walk(&next, depth + 1, found)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = if_exists(fs::File::open(path))? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(MAX_LINK_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    // As with tags: what does not parse was torn, and is as good as none.
    Ok(read(path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}
