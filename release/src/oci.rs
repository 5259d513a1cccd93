//! The parts of OCI images that releases are made of: descriptors, manifests, indexes, configs.
//!
//! Source: OCI image spec 1.1. Docker's media types of the same shapes are read too, because
//! registries and builders still serve them. Documents are kept as exact bytes wherever they are
//! hashed; these types are only their reading.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Platform};

/// Largest manifest or index read (distribution spec: registries should take at least 4 MiB).
pub const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
/// Largest image config read.
pub const MAX_CONFIG: u64 = 1024 * 1024;
/// Most layers a car image may have.
pub const MAX_LAYERS: usize = 128;

/// Media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of an image config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of an uncompressed layer.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media type of a gzip layer.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Media type of the empty config of artifacts.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's gzip layer.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Whether this media type is an index, in either family.
pub fn is_index(media_type: &str) -> bool {
    media_type == INDEX || media_type == DOCKER_INDEX
}

/// Whether this media type is an image manifest, in either family.
pub fn is_manifest(media_type: &str) -> bool {
    media_type == MANIFEST || media_type == DOCKER_MANIFEST
}

/// A pointer to content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformSpec>,
    /// What kind of artifact, in a list of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor of these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// A descriptor of known content.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A platform as an index spells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformSpec {
    /// GOARCH.
    pub architecture: String,
    /// GOOS.
    pub os: String,
    /// The variant (`v8`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl PlatformSpec {
    /// The platform meant, if releases are made for it.
    pub fn known(&self) -> Option<Platform> {
        let variant_ok = matches!(
            (self.architecture.as_str(), self.variant.as_deref()),
            (_, None) | ("arm64", Some("v8"))
        );
        let text = format!("{}/{}", self.os, self.architecture);
        text.parse().ok().filter(|_| variant_ok)
    }
}

impl From<Platform> for PlatformSpec {
    fn from(platform: Platform) -> Self {
        Self {
            architecture: platform.architecture().into(),
            os: platform.os().into(),
            variant: None,
        }
    }
}

/// An image manifest, or an artifact's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// What it speaks of (referrers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The children.
    pub manifests: Vec<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    /// The child of this platform.
    pub fn child(&self, platform: Platform) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .find(|d| d.platform.as_ref().and_then(PlatformSpec::known) == Some(platform))
    }
}

/// The parts of an image config that matter for starting it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// GOARCH.
    pub architecture: String,
    /// GOOS.
    pub os: String,
    /// How to start it.
    #[serde(default)]
    pub config: StartConfig,
    /// The layers by the digests of their uncompressed bytes.
    pub rootfs: RootFs,
    /// RFC 3339 creation time; for reproducible images the commit's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How each layer came to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// How to start an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StartConfig {
    /// `uid[:gid]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Where it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The layers of a config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, base first.
    pub diff_ids: Vec<Digest>,
}

/// One line of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What made the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether no layer belongs to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_layer: Option<bool>,
}

/// Why a document is no image we handle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {digest} is not usable: {why}")]
pub struct OciError {
    /// manifest, index or config.
    pub what: &'static str,
    /// Its digest.
    pub digest: Digest,
    /// What is wrong.
    pub why: String,
}

/// Reads a manifest from its exact bytes.
pub fn parse_manifest(bytes: &[u8]) -> Result<ImageManifest, OciError> {
    let fail = |why: String| OciError { what: "manifest", digest: Digest::of(bytes), why };
    let manifest: ImageManifest =
        serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
    if ambiguous(bytes) {
        return Err(fail("it is an index and a manifest at once".into()));
    }
    if manifest.schema_version != 2 {
        return Err(fail(format!("schemaVersion {}, want 2", manifest.schema_version)));
    }
    if let Some(other) = manifest.media_type.as_deref().filter(|m| !is_manifest(m)) {
        return Err(fail(format!("media type `{other}` is no image manifest's")));
    }
    if manifest.layers.len() > MAX_LAYERS {
        return Err(fail(format!("{} layers, at most {MAX_LAYERS}", manifest.layers.len())));
    }
    Ok(manifest)
}

/// Reads an index from its exact bytes.
pub fn parse_index(bytes: &[u8]) -> Result<ImageIndex, OciError> {
    let fail = |why: String| OciError { what: "index", digest: Digest::of(bytes), why };
    let index: ImageIndex =
        serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
    if ambiguous(bytes) {
        return Err(fail("it is an index and a manifest at once".into()));
    }
    if index.schema_version != 2 {
        return Err(fail(format!("schemaVersion {}, want 2", index.schema_version)));
    }
    if let Some(other) = index.media_type.as_deref().filter(|m| !is_index(m)) {
        return Err(fail(format!("media type `{other}` is no index's")));
    }
    Ok(index)
}

/// Reads a list of referrers. Entries that are none we could fetch (another digest algorithm,
/// another shape) are left out: anybody may attach anything, and one stranger's entry must not
/// hide the others.
pub fn parse_referrers(bytes: &[u8]) -> Result<Vec<Descriptor>, OciError> {
    #[derive(Deserialize)]
    struct List {
        manifests: Vec<serde_json::Value>,
    }
    let fail = |why: String| OciError { what: "index", digest: Digest::of(bytes), why };
    let list: List = serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
    Ok(list.manifests.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}

/// A document that reads as an index and as a manifest means two things (CVE-2021-41190).
fn ambiguous(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape {
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let shape = serde_json::from_slice::<Shape>(bytes);
    shape.is_ok_and(|s| s.manifests.is_some() && (s.config.is_some() || s.layers.is_some()))
}

/// Reads an image config from its exact bytes.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig, OciError> {
    let fail = |why: String| OciError { what: "config", digest: Digest::of(bytes), why };
    let config: ImageConfig =
        serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
    if config.rootfs.kind != "layers" {
        return Err(fail(format!("rootfs type `{}`, want layers", config.rootfs.kind)));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_no_manifest_and_the_reverse() {
        let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(parse_index(index).is_ok());
        assert!(parse_manifest(index).is_err());
        let config = Descriptor::of(EMPTY, b"{}");
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []});
        let manifest = serde_json::to_vec(&manifest).unwrap();
        assert!(parse_manifest(&manifest).is_ok());
        assert!(parse_index(&manifest).is_err());
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{"mediaType":"","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}}"#;
        assert!(parse_manifest(both).is_err());
        assert!(parse_index(both).is_err());
        let strange = br#"{"manifests":[{"digest":"sha512:00"},{"mediaType":"x","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}]}"#;
        assert_eq!(parse_referrers(strange).unwrap().len(), 1);
        assert!(parse_manifest(br#"{"schemaVersion":1,"config":{},"layers":[]}"#).is_err());
    }

    #[test]
    fn a_variant_other_than_v8_is_another_platform() {
        let mut spec = PlatformSpec::from(Platform::LinuxArm64);
        assert_eq!(spec.known(), Some(Platform::LinuxArm64));
        spec.variant = Some("v8".into());
        assert_eq!(spec.known(), Some(Platform::LinuxArm64));
        spec.variant = Some("v7".into());
        assert_eq!(spec.known(), None);
    }
}
