//! Looks at a registry's folder that nobody has open, and says what is not as it must be.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::Path,
};

use pitlane_release::digest::Digest;

use super::{
    disk::{if_exists, names},
    links::Links,
    names::{Repo, Tag},
    store::{blob_path, hash_file},
};

/// Largest manifest that is read; no registry was opened with a larger limit by our programs.
const MAX_MANIFEST: u64 = 64 << 20;

/// Reads everything, and gives a line for each thing that is wrong: blobs that are not what they
/// are called, manifests that cannot be read or name what is not there, tags and lists that lead
/// nowhere.
///
/// # Errors
/// When the folder cannot be read.
pub fn check(root: &Path) -> io::Result<Vec<String>> {
    let links = Links::new(root);
    let mut wrong = Vec::new();
    let mut sizes = HashMap::new();
    for name in names(&root.join("blobs/sha256"))? {
        let path = root.join("blobs/sha256").join(&name);
        match Digest::from_hex(&name) {
            Ok(digest) if hash_file(&path)? == digest => {
                sizes.insert(digest, fs::metadata(&path)?.len());
            }
            _ => wrong.push(format!("blob {name} is not what it is called")),
        }
    }
    let folder = Folder { root, links: &links, sizes };
    for repo in links.places()? {
        folder.manifests(&repo, &mut wrong)?;
        folder.tags(&repo, &mut wrong)?;
    }
    Ok(wrong)
}

struct Folder<'a> {
    root: &'a Path,
    links: &'a Links,
    /// Of whole blobs.
    sizes: HashMap<Digest, u64>,
}

impl Folder<'_> {
    fn manifests(&self, repo: &Repo, wrong: &mut Vec<String>) -> io::Result<()> {
        let links = self.links;
        let open = |digest: &Digest| {
            let path = blob_path(self.root, digest);
            let Some(file) = if_exists(File::open(path))? else { return Ok(None) };
            let size = file.metadata()?.len();
            Ok(Some((file, size)))
        };
        for digest in links.manifests(repo)? {
            let name = format!("{repo}@{digest}");
            let Some(parsed) = links.parsed(repo, &digest, open, MAX_MANIFEST)? else {
                wrong.push(format!("manifest {name} cannot be read"));
                continue;
            };
            for (blob, size) in &parsed.blobs {
                if self.sizes.get(blob) != Some(size) {
                    wrong.push(format!("manifest {name} needs blob {blob}, which is not there"));
                }
                if !links.has_blob(repo, blob)? {
                    wrong
                        .push(format!("{repo} does not hold blob {blob} of its manifest {digest}"));
                }
            }
            for (child, _) in &parsed.children {
                if links.manifest(repo, child)?.is_none() {
                    wrong.push(format!("index {name} needs manifest {child}, which is not there"));
                }
            }
            if let Some(subject) = parsed.subject
                && links.referrer(repo, &subject, &digest)?.is_none()
            {
                wrong.push(format!("manifest {name} is not in the list of its subject {subject}"));
            }
        }
        for subject in links.subjects(repo)? {
            for digest in links.referrers(repo, &subject)? {
                if links.manifest(repo, &digest)?.is_none() {
                    wrong.push(format!("{repo}: {digest} refers to {subject}, but is not there"));
                }
            }
        }
        Ok(())
    }

    fn tags(&self, repo: &Repo, wrong: &mut Vec<String>) -> io::Result<()> {
        for name in self.links.tags(repo)? {
            let tag = Tag::parse(&name).ok();
            let digest = tag.map(|tag| self.links.tag(repo, &tag)).transpose()?.flatten();
            let there = digest.map(|digest| self.links.manifest(repo, &digest)).transpose()?;
            if there.flatten().is_none() {
                wrong.push(format!("tag {repo}:{name} leads nowhere"));
            }
        }
        Ok(())
    }
}
