//! What a pushed manifest says, parsed and judged without I/O: what it is, and what it needs.

use std::collections::{BTreeMap, HashSet};

use pitlane_release::{
    digest::Digest,
    oci::{DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST},
};
use serde::{Deserialize, Serialize};

use super::{
    error::ApiError,
    names::{parse_digest, shown},
};

/// More descriptors than any image has; each costs a look at the disk.
const MAX_DESCRIPTORS: usize = 4096;

/// A manifest that makes sense, not yet that everything it names is here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Blobs that must be here, with their sizes: config and layers.
    pub(super) blobs: Vec<(Digest, u64)>,
    /// Manifests that must be in this repository, with their sizes: children of an index.
    pub(super) children: Vec<(Digest, u64)>,
    /// The manifest that this one speaks of; it may come later.
    pub(super) subject: Option<Digest>,
    /// The entry for the subject's list of referrers.
    pub(super) entry: Entry,
}

/// A descriptor as the referrers list and the repository's links hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<WireDescriptor>,
    layers: Option<Vec<WireDescriptor>>,
    manifests: Option<Vec<WireDescriptor>>,
    subject: Option<WireDescriptor>,
    annotations: Option<BTreeMap<String, String>>,
    /// Of the retired image format, which has no digests to check.
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Vec<String>,
}

impl WireDescriptor {
    /// Layers that are meant to be fetched elsewhere need not be here.
    fn elsewhere(&self) -> bool {
        let foreign = ["nondistributable", ".foreign."];
        !self.urls.is_empty() || foreign.iter().any(|word| self.media_type.contains(word))
    }

    fn pinned(&self) -> Result<(Digest, u64), ApiError> {
        Ok((parse_digest(&self.digest)?, self.size))
    }
}

/// Parses a manifest of this `Content-Type`.
pub(super) fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Parsed, ApiError> {
    let known = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
    let media_type = content_type.map_or("", |t| t.split(';').next().unwrap_or(t).trim());
    let Some(media_type) = known.into_iter().find(|k| *k == media_type) else {
        return Err(ApiError::manifest_invalid(format!(
            "Content-Type `{}` is not a manifest's: send one of {}",
            shown(media_type),
            known.join(", ")
        )));
    };
    let wire: Wire = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::manifest_invalid(format!(
            "the manifest cannot be read: {error}; push it as its media type says"
        ))
    })?;
    check_kind(&wire, media_type)?;

    let mut blobs = Vec::new();
    let mut children = Vec::new();
    if let Some(config) = &wire.config {
        blobs.push(config.pinned()?);
    }
    for layer in wire.layers.iter().flatten().filter(|layer| !layer.elsewhere()) {
        blobs.push(layer.pinned()?);
    }
    for child in wire.manifests.iter().flatten() {
        children.push(child.pinned()?);
    }
    if blobs.len() + children.len() > MAX_DESCRIPTORS {
        return Err(ApiError::manifest_invalid(format!(
            "the manifest names {} blobs and manifests, more than {MAX_DESCRIPTORS}: split it",
            blobs.len() + children.len()
        )));
    }
    let mut seen = HashSet::new();
    blobs.retain(|entry| seen.insert(*entry));
    seen.clear();
    children.retain(|entry| seen.insert(*entry));

    let subject =
        wire.subject.as_ref().map(|s| s.pinned().map(|(digest, _)| digest)).transpose()?;
    // Older clients name an artifact by its config's media type (distribution specification).
    let by_config = || wire.config.as_ref().map(|config| config.media_type.clone());
    let artifact_type = wire.artifact_type.clone().filter(|t| !t.is_empty()).or_else(by_config);
    let entry = Entry {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        artifact_type,
        annotations: wire.annotations.unwrap_or_default(),
    };
    Ok(Parsed { blobs, children, subject, entry })
}

/// One document must not read as an image to one client and as an index to another.
fn check_kind(wire: &Wire, media_type: &str) -> Result<(), ApiError> {
    let fail = |why: String| Err(ApiError::manifest_invalid(why));
    if wire.schema_version != 2 || wire.fs_layers.is_some() {
        return fail("only schemaVersion 2 is taken: push with a current client".to_owned());
    }
    match &wire.media_type {
        Some(inner) if inner != media_type => {
            return fail(format!(
                "the manifest calls itself `{}` but is sent as `{media_type}`: make them agree",
                shown(inner)
            ));
        }
        None if media_type.starts_with("application/vnd.docker.") => {
            return fail("a Docker manifest must hold its mediaType: add it".to_owned());
        }
        _ => {}
    }
    let is_index = media_type == INDEX || media_type == DOCKER_INDEX;
    if is_index && (wire.config.is_some() || wire.layers.is_some()) {
        return fail("an index must not have config or layers: remove them".to_owned());
    }
    if !is_index && wire.manifests.is_some() {
        return fail("an image manifest must not have manifests: remove them".to_owned());
    }
    if is_index && wire.manifests.is_none() {
        return fail("an index must have manifests: add them".to_owned());
    }
    if !is_index && wire.config.is_none() {
        return fail("an image manifest must have a config: add it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(byte: u8) -> String {
        Digest::from_bytes([byte; 32]).to_string()
    }

    fn descriptor(byte: u8) -> Value {
        json!({ "mediaType": "application/x", "digest": digest(byte), "size": byte })
    }

    fn image() -> Value {
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(1), "layers": [descriptor(2), descriptor(2)],
        })
    }

    fn with(mut value: Value, key: &str, part: Value) -> Value {
        value[key] = part;
        value
    }

    #[test]
    fn an_image_and_an_index() {
        let bytes = with(image(), "subject", descriptor(9)).to_string();
        let parsed = parse(Some(&format!("{MANIFEST}; charset=utf-8")), bytes.as_bytes()).unwrap();
        let pinned = |byte: u8| (Digest::from_bytes([byte; 32]), u64::from(byte));
        assert_eq!(parsed.blobs, [pinned(1), pinned(2)]);
        assert_eq!(parsed.subject, Some(pinned(9).0));
        assert_eq!(parsed.entry.artifact_type.as_deref(), Some("application/x"));
        assert_eq!(parsed.entry.size, bytes.len() as u64);

        let index =
            json!({ "schemaVersion": 2, "manifests": [descriptor(3)], "artifactType": "a/b" });
        let parsed = parse(Some(INDEX), index.to_string().as_bytes()).unwrap();
        assert_eq!(parsed.children, [pinned(3)]);
        assert_eq!(parsed.entry.artifact_type.as_deref(), Some("a/b"));
    }

    #[test]
    fn foreign_layers_need_not_be_here() {
        let mut layer = descriptor(7);
        layer["urls"] = json!(["https://example.com/layer"]);
        let parsed =
            parse(Some(MANIFEST), with(image(), "layers", json!([layer])).to_string().as_bytes());
        assert_eq!(parsed.unwrap().blobs.len(), 1);
    }

    #[test]
    fn every_refusal() {
        let long: Vec<Value> = (0..=MAX_DESCRIPTORS).map(|_| descriptor(3)).collect();
        let duplicate = image().to_string().replacen("\"config\"", "\"layers\":[],\"config\"", 1);
        for (why, content_type, bytes) in [
            ("no content type", None, image().to_string()),
            ("another content type", Some("application/json"), image().to_string()),
            (
                "schema 1",
                Some("application/vnd.docker.distribution.manifest.v1+json"),
                "{}".to_owned(),
            ),
            ("not JSON", Some(MANIFEST), "{".to_owned()),
            ("empty", Some(MANIFEST), String::new()),
            ("not an object", Some(MANIFEST), "[]".to_owned()),
            ("after the end", Some(MANIFEST), format!("{}x", image())),
            ("a key twice", Some(MANIFEST), duplicate),
            ("no version", Some(MANIFEST), "{}".to_owned()),
            ("version 1", Some(MANIFEST), with(image(), "schemaVersion", json!(1)).to_string()),
            ("types differ", Some(INDEX), image().to_string()),
            (
                "no inner type",
                Some(DOCKER_MANIFEST),
                with(image(), "mediaType", Value::Null).to_string(),
            ),
            ("both kinds", Some(MANIFEST), with(image(), "manifests", json!([])).to_string()),
            (
                "index with layers",
                Some(INDEX),
                json!({"schemaVersion":2,"manifests":[],"layers":[]}).to_string(),
            ),
            ("index without manifests", Some(INDEX), json!({"schemaVersion":2}).to_string()),
            ("no config", Some(MANIFEST), with(image(), "config", Value::Null).to_string()),
            (
                "bad digest",
                Some(MANIFEST),
                with(image(), "config", json!({"mediaType":"a","digest":"sha512:00","size":1}))
                    .to_string(),
            ),
            (
                "negative size",
                Some(MANIFEST),
                with(image(), "config", json!({"mediaType":"a","digest":digest(1),"size":-1}))
                    .to_string(),
            ),
            (
                "bad subject",
                Some(MANIFEST),
                with(image(), "subject", json!({"mediaType":"a","digest":"x","size":1}))
                    .to_string(),
            ),
            ("too many", Some(INDEX), json!({"schemaVersion":2,"manifests":long}).to_string()),
            ("too deep", Some(MANIFEST), format!("{}{}", "[".repeat(200), "]".repeat(200))),
        ] {
            assert!(parse(content_type, bytes.as_bytes()).is_err(), "{why}");
        }
    }
}
