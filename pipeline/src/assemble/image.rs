//! Puts base, runtime and model together: configs, manifests, and the index over them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use pitlane_release::{
    CarKind, Commit, Digest, Platform, RepoName,
    oci::{
        CONFIG, Descriptor, History, INDEX, ImageConfig, ImageIndex, ImageManifest, MANIFEST,
        PlatformSpec,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    base,
    crates::{self, Crate},
    layer::{Blob, Entry, EntryContent, gzip_layer, model_layer, read_whole, write_atomically},
    parts::Part,
    seen::Seen,
};

/// The time of everything that has none of its own.
pub(crate) const EPOCH: &str = "1970-01-01T00:00:00Z";
/// Largest runtime binary.
const MAX_RUNTIME: u64 = 256 * 1024 * 1024;
/// Changes when the runtime layer is made differently, so that old cache entries are not used.
const CACHE_VERSION: u32 = 2;

/// What an image is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The base's OCI layout.
    pub base: &'a Path,
    /// Platform → runtime binary.
    pub runtime: &'a BTreeMap<Platform, PathBuf>,
    /// Platforms to build.
    pub platforms: &'a [Platform],
    /// The model file.
    pub model: &'a Path,
    /// The card's bytes.
    pub card: &'a [u8],
    /// Notes that go into manifests and configs: source, revision, version.
    pub annotations: &'a BTreeMap<String, String>,
    /// RFC 3339 time of the commit.
    pub created: Option<&'a str>,
    /// Where runtime layers are kept between releases.
    pub cache: &'a Path,
}

/// The images of a release before they are pushed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assembled {
    /// The index.
    pub index: Blob,
    /// Platform → its image.
    pub images: BTreeMap<Platform, Built>,
    /// Digest of the model file.
    pub model: Digest,
    /// Digest of the model layer.
    pub model_layer: Digest,
}

/// One platform's image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// Its manifest.
    pub manifest: Blob,
    /// Its config.
    pub config: Blob,
    /// Its layers, base first.
    pub layers: Vec<Blob>,
    /// Digest of the base's manifest.
    pub base: Digest,
    /// Digest of the runtime binary.
    pub runtime: Digest,
    /// What the base is made of; empty for a base that does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_parts: Vec<Part>,
    /// What the runtime is made of; empty for a binary that does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crates: Vec<Crate>,
}

/// Assembles the images.
pub fn assemble(inputs: &Inputs<'_>) -> anyhow::Result<Assembled> {
    let (model_blob, model) = model_layer(inputs.model, inputs.card)?;
    let layer = model_blob.descriptor.digest;
    let mut images = BTreeMap::new();
    let mut children = Vec::new();
    for platform in inputs.platforms {
        let image = build(inputs, *platform, &model_blob, &model)?;
        let mut child = image.manifest.descriptor.clone();
        child.platform = Some(PlatformSpec::from(*platform));
        children.push(child);
        images.insert(*platform, image);
    }
    let index = ImageIndex {
        schema_version: 2,
        media_type: Some(INDEX.into()),
        manifests: children,
        annotations: annotations(inputs, &model),
    };
    let index = Blob::inline(INDEX, &serde_json::to_vec(&index)?);
    Ok(Assembled { index, images, model, model_layer: layer })
}

fn build(
    inputs: &Inputs<'_>,
    platform: Platform,
    model_blob: &Blob,
    model: &Digest,
) -> anyhow::Result<Built> {
    let base = base::read(inputs.base, platform)?;
    let binary = inputs
        .runtime
        .get(&platform)
        .with_context(|| format!("no runtime binary for {platform} in the pipeline file"))?;
    let runtime = runtime_layer(binary, inputs.cache)?;

    let mut layers = base.layers;
    layers.push(runtime.blob);
    layers.push(model_blob.clone());
    let mut config = base.config;
    config.rootfs.diff_ids.push(runtime.diff_id);
    config.rootfs.diff_ids.push(model_blob.descriptor.digest);
    start(&mut config, inputs, model);
    let config = Blob::inline(CONFIG, &serde_json::to_vec(&config)?);

    let mut descriptors: Vec<Descriptor> =
        layers.iter().map(|blob| blob.descriptor.clone()).collect();
    if let Some(last) = descriptors.last_mut() {
        last.annotations.insert("dev.pitlane.model.digest".into(), model.to_string());
    }
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(MANIFEST.into()),
        artifact_type: None,
        config: config.descriptor.clone(),
        layers: descriptors,
        subject: None,
        annotations: annotations(inputs, model),
    };
    let manifest = Blob::inline(MANIFEST, &serde_json::to_vec(&manifest)?);
    Ok(Built {
        manifest,
        config,
        layers,
        base: base.digest,
        runtime: runtime.binary,
        base_parts: base.parts,
        crates: runtime.crates,
    })
}

/// How the container starts, and what it says of itself.
fn start(config: &mut ImageConfig, inputs: &Inputs<'_>, model: &Digest) {
    let created = inputs.created.unwrap_or(EPOCH).to_owned();
    let step = |what: &str| History {
        created: Some(created.clone()),
        created_by: Some(format!("pitlane assemble: {what}")),
        ..History::default()
    };
    config.history.extend([step("runtime"), step("model")]);
    config.created = Some(created);
    let start = &mut config.config;
    start.entrypoint = Some(vec!["/usr/bin/pitlane-car".into()]);
    start.cmd = Some(vec!["drive".into(), "--model".into(), "/models/pilot.onnx".into()]);
    start.labels = Some(annotations(inputs, model));
}

/// What images say of where they come from (OCI image spec, pre-defined annotations).
pub fn notes(
    source: &RepoName,
    commit: &Commit,
    tag: &str,
    kind: &CarKind,
) -> BTreeMap<String, String> {
    let note = |key: &str| format!("org.opencontainers.image.{key}");
    BTreeMap::from([
        (note("source"), source.to_string()),
        (note("revision"), commit.to_string()),
        (note("version"), tag.to_owned()),
        (note("title"), kind.to_string()),
    ])
}

fn annotations(inputs: &Inputs<'_>, model: &Digest) -> BTreeMap<String, String> {
    let mut notes = inputs.annotations.clone();
    let created = inputs.created.unwrap_or(EPOCH).to_owned();
    notes.insert("org.opencontainers.image.created".into(), created);
    notes.insert("dev.pitlane.model.digest".into(), model.to_string());
    notes
}

/// A runtime layer, as it is kept between releases.
#[derive(Serialize, Deserialize)]
struct Runtime {
    blob: Blob,
    diff_id: Digest,
    binary: Digest,
    crates: Vec<Crate>,
}

/// The layer of a runtime binary, from the cache when this very binary was packed before.
fn runtime_layer(binary: &Path, cache: &Path) -> anyhow::Result<Runtime> {
    let shown = binary.display();
    let size = fs::metadata(binary)
        .with_context(|| format!("{shown}: no such runtime binary; run `make runtime`"))?
        .len();
    anyhow::ensure!(size <= MAX_RUNTIME, "{shown}: {size} bytes, at most {MAX_RUNTIME}");
    fs::create_dir_all(cache)?;
    let note =
        |digest: &Digest| cache.join(format!("runtime-v{CACHE_VERSION}-{}.json", digest.hex()));
    let seen = Seen::of(binary)?;
    if let Some(kept) = seen.digest(cache).and_then(|digest| kept(&note(&digest))) {
        return Ok(kept);
    }
    let bytes = read_whole(binary, MAX_RUNTIME)?;
    let digest = Digest::of(&bytes);
    seen.keep(cache, digest)?;
    let note = note(&digest);
    if let Some(kept) = kept(&note) {
        return Ok(kept);
    }
    let dir = |path| Entry { path, mode: 0o755, content: EntryContent::Dir };
    let entries = [
        dir("usr/"),
        dir("usr/bin/"),
        Entry { path: "usr/bin/pitlane-car", mode: 0o755, content: EntryContent::Bytes(&bytes) },
    ];
    let (blob, diff_id) = gzip_layer(&entries, cache)?;
    let crates = crates::of(&bytes).with_context(|| shown.to_string())?;
    let made = Runtime { blob, diff_id, binary: digest, crates };
    write_atomically(&note, &serde_json::to_vec(&made)?)?;
    Ok(made)
}

/// A cache entry whose blob is still there, whole. Its digest is checked again by the registry
/// that takes it, and by the check step that reads it back.
fn kept(note: &Path) -> Option<Runtime> {
    let kept: Runtime = serde_json::from_slice(&fs::read(note).ok()?).ok()?;
    let super::Place::File { path } = &kept.blob.place else { return None };
    let size = fs::metadata(path).ok()?.len();
    (size == kept.blob.descriptor.size).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs_in(dir: &Path, model: &[u8]) -> Assembled {
        let rootfs = dir.join("rootfs");
        fs::create_dir_all(rootfs.join("usr/lib")).unwrap();
        fs::write(rootfs.join("usr/lib/x.so"), b"library").unwrap();
        let both = Platform::ALL;
        let bases = both.map(|p| (p, rootfs.clone())).into();
        let layout = dir.join("layout");
        base::pack(&bases, &BTreeMap::new(), &layout).unwrap();
        let binary = dir.join("car");
        fs::write(&binary, b"runtime").unwrap();
        let file = dir.join("m.onnx");
        fs::write(&file, model).unwrap();
        assemble(&Inputs {
            base: &layout,
            runtime: &both.map(|p| (p, binary.clone())).into(),
            platforms: &both,
            model: &file,
            card: b"card",
            annotations: &BTreeMap::from([("a".into(), "b".into())]),
            created: None,
            cache: &dir.join("cache"),
        })
        .unwrap()
    }

    #[test]
    fn the_same_inputs_give_the_same_digests_elsewhere() {
        let [a, b] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let first = inputs_in(a.path(), b"model");
        let second = inputs_in(b.path(), b"model");
        assert_eq!(first.index.descriptor, second.index.descriptor);
        let again = inputs_in(a.path(), b"model");
        assert_eq!(first.index.descriptor, again.index.descriptor, "with a warm cache");
        let other = inputs_in(b.path(), b"model 2");
        assert_ne!(first.index.descriptor, other.index.descriptor);
    }

    #[test]
    fn the_model_is_one_blob_for_all_platforms() {
        let dir = tempfile::tempdir().unwrap();
        let made = inputs_in(dir.path(), b"model");
        let last: Vec<Digest> =
            made.images.values().map(|i| i.layers.last().unwrap().descriptor.digest).collect();
        assert_eq!(last, [made.model_layer, made.model_layer]);
        let manifests: Vec<Digest> =
            made.images.values().map(|i| i.manifest.descriptor.digest).collect();
        assert_ne!(manifests[0], manifests[1]);
    }
}
