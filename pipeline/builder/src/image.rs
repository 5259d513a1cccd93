//! `Built`: an image on disk, in the shapes that releases are made of.

use std::{collections::BTreeMap, path::PathBuf};

use pitlane_release::{
    Digest, Platform,
    oci::{CONFIG, Descriptor, ImageConfig, ImageManifest, MANIFEST},
};
use serde::Serialize;

/// The image of one platform. Every digest was made here from the bytes that lie on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// Its platform, as the config says, too.
    pub platform: Platform,
    /// The manifest over config and layers.
    pub manifest: Document,
    /// The config.
    pub config: Document,
    /// The layers, base first.
    pub layers: Vec<Layer>,
    /// Digest of the context's archive.
    pub context: Digest,
    /// Digest of the Dockerfile in it.
    pub dockerfile: Digest,
    /// Image that it starts or copies from → what the engine calls it (its id).
    pub bases: BTreeMap<String, String>,
    /// The engine, for provenance: `Docker Engine 20.10.24`.
    pub engine: String,
}

/// A small document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// What it is.
    pub descriptor: Descriptor,
    /// Its bytes.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// What it is.
    pub descriptor: Descriptor,
    /// The digest of its archive without compression, as the config lists it.
    pub diff_id: Digest,
    /// Where it lies.
    pub path: PathBuf,
}

impl Document {
    fn of<T: Serialize>(media_type: &str, value: &T) -> Self {
        // These types hold strings and numbers alone.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        Self { descriptor: Descriptor::of(media_type, &bytes), bytes }
    }
}

/// Config and manifest of an image that was read back.
pub(crate) fn documents(
    mut config: ImageConfig,
    layers: &[Layer],
    created: Option<&str>,
    annotations: &BTreeMap<String, String>,
) -> (Document, Document) {
    if let Some(created) = created {
        config.created = Some(created.to_owned());
        for step in &mut config.history {
            step.created = Some(created.to_owned());
        }
    }
    let config = Document::of(CONFIG, &config);
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(MANIFEST.into()),
        artifact_type: None,
        config: config.descriptor.clone(),
        layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
        subject: None,
        annotations: annotations.clone(),
    };
    (config, Document::of(MANIFEST, &manifest))
}
