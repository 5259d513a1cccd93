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
    origin::{Origin, Parts},
    seen::Seen,
};

/// The time of everything that has none of its own.
pub(crate) const EPOCH: &str = "1970-01-01T00:00:00Z";
/// Where the runtime is in an image.
pub(crate) const RUNTIME: &str = "/usr/bin/pitlane-car";
/// The annotation with the model's digest.
const MODEL_NOTE: &str = "dev.pitlane.model.digest";
/// Largest runtime binary.
pub(crate) const MAX_RUNTIME: u64 = 256 * 1024 * 1024;
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
    /// What it is made of beside the model.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Assembles the images.
pub fn assemble(inputs: &Inputs<'_>) -> anyhow::Result<Assembled> {
    let (model_blob, model) = model_layer(inputs.model, inputs.card)?;
    let notes = annotations(inputs.annotations, inputs.created.unwrap_or(EPOCH), &model);
    let mut images = BTreeMap::new();
    for platform in inputs.platforms {
        let image = build(inputs, *platform, &model_blob, &notes)?;
        images.insert(*platform, image);
    }
    together(images, &notes, &model_blob, model)
}

/// The index over the images of all platforms.
pub(crate) fn together(
    images: BTreeMap<Platform, Built>,
    notes: &BTreeMap<String, String>,
    model_blob: &Blob,
    model: Digest,
) -> anyhow::Result<Assembled> {
    let children = images.iter().map(|(platform, image)| {
        let mut child = image.manifest.descriptor.clone();
        child.platform = Some(PlatformSpec::from(*platform));
        child
    });
    let index = ImageIndex {
        schema_version: 2,
        media_type: Some(INDEX.into()),
        manifests: children.collect(),
        annotations: notes.clone(),
    };
    let index = Blob::inline(INDEX, &serde_json::to_vec(&index)?);
    Ok(Assembled { index, images, model, model_layer: model_blob.descriptor.digest })
}

fn build(
    inputs: &Inputs<'_>,
    platform: Platform,
    model_blob: &Blob,
    notes: &BTreeMap<String, String>,
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
    start(&mut config, inputs.created.unwrap_or(EPOCH), notes);
    let config = Blob::inline(CONFIG, &serde_json::to_vec(&config)?);
    let manifest = manifest(&config, &layers, notes)?;
    let origin = Origin::Parts(Parts {
        base: base.digest,
        runtime: runtime.binary,
        base_parts: base.parts,
        crates: runtime.crates,
    });
    Ok(Built { manifest, config, layers, origin })
}

/// The manifest over config and layers; the last layer is the model's.
pub(crate) fn manifest(
    config: &Blob,
    layers: &[Blob],
    notes: &BTreeMap<String, String>,
) -> serde_json::Result<Blob> {
    let mut descriptors: Vec<Descriptor> =
        layers.iter().map(|blob| blob.descriptor.clone()).collect();
    if let (Some(last), Some(model)) = (descriptors.last_mut(), notes.get(MODEL_NOTE)) {
        last.annotations.insert(MODEL_NOTE.into(), model.clone());
    }
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(MANIFEST.into()),
        artifact_type: None,
        config: config.descriptor.clone(),
        layers: descriptors,
        subject: None,
        annotations: notes.clone(),
    };
    Ok(Blob::inline(MANIFEST, &serde_json::to_vec(&manifest)?))
}

/// How the container starts, and what it says of itself.
fn start(config: &mut ImageConfig, created: &str, notes: &BTreeMap<String, String>) {
    config.history.extend([laid("runtime", created), laid("model", created)]);
    config.created = Some(created.to_owned());
    let start = &mut config.config;
    start.entrypoint = Some(vec![RUNTIME.into()]);
    start.cmd = Some(vec!["drive".into(), "--model".into(), "/models/pilot.onnx".into()]);
    start.labels = Some(notes.clone());
}

/// The history of a layer of ours.
pub(crate) fn laid(what: &str, created: &str) -> History {
    History {
        created: Some(created.to_owned()),
        created_by: Some(format!("pitlane assemble: {what}")),
        ..History::default()
    }
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

/// The same with the time and the model's digest.
pub(crate) fn annotations(
    notes: &BTreeMap<String, String>,
    created: &str,
    model: &Digest,
) -> BTreeMap<String, String> {
    let mut notes = notes.clone();
    notes.insert("org.opencontainers.image.created".into(), created.to_owned());
    notes.insert(MODEL_NOTE.into(), model.to_string());
    notes
}

/// A runtime layer, as it is kept between releases.
#[derive(Serialize, Deserialize)]
pub(crate) struct Runtime {
    pub(crate) blob: Blob,
    pub(crate) diff_id: Digest,
    pub(crate) binary: Digest,
    pub(crate) crates: Vec<Crate>,
}

/// The layer of a runtime binary, from the cache when this very binary was packed before.
pub(crate) fn runtime_layer(binary: &Path, cache: &Path) -> anyhow::Result<Runtime> {
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
