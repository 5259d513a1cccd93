//! The folder as a standard OCI image layout: `oci-layout` and `index.json`.
//!
//! `index.json` lists every tag as `<repository>:<tag>`, so that other tools can read the folder
//! (`skopeo inspect oci:ROOT:cars/donkey:v1`). It is derived from the link files a second or so
//! after they change and at open and close; nothing here reads it back.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use super::{error::RegistryError, links::Links, names::Tag};

/// A larger index helps nobody, and is written whole after every change.
const MAX_TAGS: usize = 10_000;
const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Keeps `index.json` in step with the tags.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    links: Links,
    changed: AtomicBool,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), links: Links::new(root), changed: AtomicBool::new(true) }
    }

    /// Says that tags changed.
    pub(super) fn touch(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Writes the index when something changed.
    pub(super) fn refresh(&self) {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.write() {
            tracing::warn!(%error, "registry could not write index.json");
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut manifests = Vec::new();
        'all: for repo in self.links.repositories()? {
            for tag in self.links.tags(&repo)?.iter().filter_map(|tag| Tag::parse(tag).ok()) {
                let Some(digest) = self.links.tag(&repo, &tag)? else { continue };
                let Some(link) = self.links.manifest(&repo, &digest)? else { continue };
                if manifests.len() == MAX_TAGS {
                    tracing::warn!(MAX_TAGS, "index.json lists the first tags only");
                    break 'all;
                }
                manifests.push(json!({
                    "mediaType": link.entry.media_type,
                    "digest": digest,
                    "size": link.entry.size,
                    "annotations": { "org.opencontainers.image.ref.name": format!("{repo}:{tag}") },
                }));
            }
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": pitlane_release::oci::INDEX,
            "manifests": manifests,
        });
        let temporary = self.root.join("tmp/index.json");
        fs::write(&temporary, index.to_string())?;
        fs::rename(temporary, self.root.join("index.json"))
    }
}

/// Makes a new folder a layout; refuses one that is something else.
pub(super) fn prepare(root: &Path) -> Result<(), RegistryError> {
    let marker = root.join("oci-layout");
    match fs::read(&marker) {
        Ok(bytes) => {
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let ours = value.get("imageLayoutVersion").is_some_and(|version| version == "1.0.0");
            if ours { Ok(()) } else { Err(RegistryError::NotALayout(root.to_owned())) }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut entries = fs::read_dir(root).map_err(RegistryError::io("list", root))?;
            // The lock file is ours.
            let foreign = entries.any(|e| e.is_ok_and(|e| e.file_name() != super::LOCK_FILE));
            if foreign {
                return Err(RegistryError::NotALayout(root.to_owned()));
            }
            let temporary = root.join(".oci-layout.new");
            fs::write(&temporary, VERSION).map_err(RegistryError::io("write", &temporary))?;
            fs::rename(&temporary, &marker).map_err(RegistryError::io("write", &marker))
        }
        Err(e) => Err(RegistryError::io("read", &marker)(e)),
    }
}
