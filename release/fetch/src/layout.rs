//! Reading from an OCI image layout: a directory with `index.json` and `blobs/sha256/…`.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use pitlane_release::{
    Digest, Repository,
    oci::{self, Descriptor, ImageIndex},
};

use crate::{FetchError, MAX_REFERRERS};

/// The annotation that carries a tag in a layout's index (OCI image layout spec).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation by which `cosign save` says what it put into a layout, and its values for
/// signatures and attestations (sigstore/cosign, `pkg/oci/layout`).
const COSIGN_KIND: &str = "kind";
const COSIGN_SIGS: &str = "dev.cosignproject.cosign/sigs";
const COSIGN_ATTS: &str = "dev.cosignproject.cosign/atts";

/// A directory that is an OCI image layout.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Opens a layout; its `index.json` must be there.
    pub fn open(root: &Path) -> Result<Self, FetchError> {
        let layout = Self { root: root.to_owned() };
        layout.index()?;
        Ok(layout)
    }

    /// What its `index.json` lists.
    pub fn index(&self) -> Result<ImageIndex, FetchError> {
        let bytes = read(&self.root.join("index.json"), oci::MAX_MANIFEST)?;
        Ok(oci::parse_index(&bytes)?)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Vec<u8>, FetchError> {
        if let Ok(digest) = reference.parse() {
            return read(&self.path(&digest), oci::MAX_MANIFEST);
        }
        // Tools write the tag alone, the whole name, or the name without its registry.
        let names = [
            reference.to_owned(),
            format!("{repository}:{reference}"),
            format!("{}:{reference}", repository.path()),
        ];
        let tagged =
            |d: &&Descriptor| d.annotations.get(REF_NAME).is_some_and(|name| names.contains(name));
        match self.index()?.manifests.iter().find(tagged) {
            Some(found) => read(&self.path(&found.digest), oci::MAX_MANIFEST),
            None => Err(FetchError::NotFound {
                what: format!("tag {reference}"),
                place: self.root.display().to_string(),
            }),
        }
    }

    /// A manifest's old signatures or attestations: under their tag, or as `cosign save` puts
    /// them beside the one image that it saves. Each says itself which image it is about.
    pub(crate) fn legacy(
        &self,
        repository: &Repository,
        tag: &str,
        suffix: &str,
    ) -> Result<Vec<u8>, FetchError> {
        let tagged = self.manifest(repository, tag);
        if !matches!(tagged, Err(FetchError::NotFound { .. })) {
            return tagged;
        }
        let want = match suffix {
            pitlane_release::simple::SIG => COSIGN_SIGS,
            _ => COSIGN_ATTS,
        };
        let saved = |d: &&Descriptor| d.annotations.get(COSIGN_KIND).is_some_and(|k| k == want);
        match self.index()?.manifests.iter().find(saved) {
            Some(found) => read(&self.path(&found.digest), oci::MAX_MANIFEST),
            None => tagged,
        }
    }

    pub(crate) fn blob(&self, digest: &Digest, cap: u64) -> Result<Vec<u8>, FetchError> {
        read(&self.path(digest), cap)
    }

    pub(crate) fn stream(
        &self,
        descriptor: &Descriptor,
        from: u64,
        sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), FetchError> {
        let path = self.path(&descriptor.digest);
        let fail = |why: std::io::Error| failed(&path, &why);
        let mut file = open(&path)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(from)).map_err(fail)?;
        let mut file = file.take(descriptor.size.saturating_sub(from));
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match file.read(&mut buffer).map_err(fail)? {
                0 => return Ok(()),
                n => sink(&buffer[..n]).map_err(fail)?,
            }
        }
    }

    pub(crate) fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, FetchError> {
        let mut found = Vec::new();
        for descriptor in self.index()?.manifests.into_iter().take(10 * MAX_REFERRERS) {
            let Ok(bytes) = read(&self.path(&descriptor.digest), oci::MAX_MANIFEST) else {
                continue;
            };
            let subject = oci::parse_manifest(&bytes).ok().and_then(|manifest| manifest.subject);
            if subject.is_some_and(|subject| subject.digest == *digest) {
                found.push(descriptor);
            }
        }
        found.truncate(MAX_REFERRERS);
        Ok(found)
    }

    pub(crate) fn tags(&self, max: usize) -> Result<Vec<String>, FetchError> {
        let manifests = self.index()?.manifests;
        let names = manifests.iter().filter_map(|d| d.annotations.get(REF_NAME));
        let tag = |name: &String| name.rsplit(':').next().unwrap_or(name).to_owned();
        Ok(names.map(tag).take(max).collect())
    }
}

fn failed(path: &Path, why: &std::io::Error) -> FetchError {
    FetchError::File { path: path.display().to_string(), why: why.to_string() }
}

fn open(path: &Path) -> Result<File, FetchError> {
    File::open(path).map_err(|why| match why.kind() {
        std::io::ErrorKind::NotFound => FetchError::NotFound {
            what: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            place: path.parent().unwrap_or(path).display().to_string(),
        },
        _ => failed(path, &why),
    })
}

fn read(path: &Path, cap: u64) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    let mut file = open(path)?.take(cap + 1);
    file.read_to_end(&mut bytes).map_err(|why| failed(path, &why))?;
    if bytes.len() as u64 > cap {
        return Err(FetchError::TooLarge { what: path.display().to_string(), cap });
    }
    Ok(bytes)
}
