//! The base layout: what every car image starts from, as an OCI image layout on disk.
//!
//! Made once from the root file systems of `make base`, read at every release.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, bail};
use pitlane_release::{
    Digest, Platform,
    oci::{
        self, CONFIG, Descriptor, History, INDEX, ImageConfig, ImageIndex, ImageManifest, MANIFEST,
        PlatformSpec, RootFs, StartConfig,
    },
};

use super::{
    layer::{Blob, Entry, EntryContent, Place, gzip_layer, write_atomically},
    parts::{self, Part},
};

/// Most bytes of a root file system that is packed.
const MAX_ROOTFS: u64 = 512 * 1024 * 1024;

/// The base image of one platform.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// Its layers, where they lie.
    pub layers: Vec<Blob>,
    /// Its config.
    pub config: ImageConfig,
    /// Its manifest's digest, for provenance.
    pub digest: Digest,
    /// What it is made of; empty for a base that does not say.
    pub parts: Vec<Part>,
}

/// Reads the base of a platform from a layout.
pub fn read(layout: &Path, platform: Platform) -> anyhow::Result<BaseImage> {
    let shown = layout.display();
    let index = read_json(&layout.join("index.json"), oci::MAX_MANIFEST)
        .with_context(|| format!("{shown} is no OCI image layout; run `make base`"))?;
    let index = oci::parse_index(&index)?;
    let blob = |descriptor: &Descriptor| layout.join("blobs/sha256").join(descriptor.digest.hex());
    let child = index
        .child(platform)
        .with_context(|| format!("{shown} has no base for {platform}; run `make base`"))?;
    let manifest = checked(&blob(child), child)?;
    let manifest = oci::parse_manifest(&manifest)?;
    let config = oci::parse_config(&checked(&blob(&manifest.config), &manifest.config)?)?;
    let layers = manifest.layers.iter().map(|descriptor| {
        let path = blob(descriptor);
        let size = fs::metadata(&path).map_or(0, |m| m.len());
        if size != descriptor.size {
            bail!("{}: {size} bytes, want {}; run `make base`", path.display(), descriptor.size);
        }
        Ok(Blob { descriptor: descriptor.clone(), place: Place::File { path } })
    });
    let layers = layers.collect::<Result<_, _>>()?;
    let parts = parts::of_notes(&manifest.annotations)
        .with_context(|| format!("{}: run `make base`", blob(child).display()))?;
    Ok(BaseImage { layers, config, digest: child.digest, parts })
}

fn read_json(path: &Path, cap: u64) -> anyhow::Result<Vec<u8>> {
    let size = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if size > cap {
        bail!("{}: {size} bytes, at most {cap} are read", path.display());
    }
    Ok(fs::read(path)?)
}

fn checked(path: &Path, descriptor: &Descriptor) -> anyhow::Result<Vec<u8>> {
    let bytes = read_json(path, oci::MAX_MANIFEST)?;
    if Digest::of(&bytes) != descriptor.digest {
        bail!("{} is not {}; run `make base`", path.display(), descriptor.digest);
    }
    Ok(bytes)
}

/// Packs root file systems into a layout at `out`, replacing what was there. The parts of each
/// must be among its files.
pub fn pack(
    rootfs: &BTreeMap<Platform, std::path::PathBuf>,
    parts: &BTreeMap<Platform, Vec<Part>>,
    out: &Path,
) -> anyhow::Result<Digest> {
    let blobs = out.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut children = Vec::new();
    for (platform, dir) in rootfs {
        let files = collect(dir)?;
        let parts = parts.get(platform).map_or(&[][..], Vec::as_slice);
        parts::fit(parts, |path| find(&files, path))
            .with_context(|| format!("{} is not what the lock says", dir.display()))?;
        let entries: Vec<Entry<'_>> = files.iter().map(Owned::entry).collect();
        let (layer, diff_id) = gzip_layer(&entries, &blobs)?;
        let config = ImageConfig {
            architecture: platform.architecture().into(),
            os: platform.os().into(),
            config: StartConfig {
                env: Some(vec!["ORT_DISABLE_TELEMETRY=1".into(), "HOME=/nonexistent".into()]),
                user: Some("65532:65532".into()),
                working_dir: Some("/".into()),
                ..StartConfig::default()
            },
            rootfs: RootFs { kind: "layers".into(), diff_ids: vec![diff_id] },
            created: Some(super::image::EPOCH.into()),
            history: vec![History {
                created: Some(super::image::EPOCH.into()),
                created_by: Some("pitlane base".into()),
                ..History::default()
            }],
        };
        let config = store(&blobs, CONFIG, &serde_json::to_vec(&config)?)?;
        let manifest = ImageManifest {
            schema_version: 2,
            media_type: Some(MANIFEST.into()),
            artifact_type: None,
            config,
            layers: vec![layer.descriptor],
            subject: None,
            annotations: parts::note(parts)?,
        };
        let mut child = store(&blobs, MANIFEST, &serde_json::to_vec(&manifest)?)?;
        child.platform = Some(PlatformSpec::from(*platform));
        children.push(child);
    }
    let index = ImageIndex {
        schema_version: 2,
        media_type: Some(INDEX.into()),
        manifests: children,
        annotations: BTreeMap::new(),
    };
    let index = serde_json::to_vec(&index)?;
    write_atomically(&out.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    write_atomically(&out.join("index.json"), &index)?;
    Ok(Digest::of(&index))
}

fn store(blobs: &Path, kind: &str, bytes: &[u8]) -> anyhow::Result<Descriptor> {
    let descriptor = Descriptor::of(kind, bytes);
    write_atomically(&blobs.join(descriptor.digest.hex()), bytes)?;
    Ok(descriptor)
}

/// A file system entry read into memory.
struct Owned {
    path: String,
    mode: u32,
    content: OwnedContent,
}

enum OwnedContent {
    Dir,
    Bytes(Vec<u8>),
    Link(String),
}

impl Owned {
    fn entry(&self) -> Entry<'_> {
        let content = match &self.content {
            OwnedContent::Dir => EntryContent::Dir,
            OwnedContent::Bytes(bytes) => EntryContent::Bytes(bytes),
            OwnedContent::Link(target) => EntryContent::Link(target),
        };
        Entry { path: &self.path, mode: self.mode, content }
    }
}

/// The bytes of a file among those that were collected.
fn find<'a>(files: &'a [Owned], path: &str) -> Option<&'a [u8]> {
    let found = files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
    match &files[found].content {
        OwnedContent::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// Everything below a directory, sorted by path, so that no file system's order matters.
fn collect(root: &Path) -> anyhow::Result<Vec<Owned>> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut found = Vec::new();
    let mut total = 0;
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        let list = fs::read_dir(&dir)
            .with_context(|| format!("{}: cannot be read; run `make base`", dir.display()))?;
        for item in list {
            let item = item?;
            let path = item.path();
            let relative = path.strip_prefix(root)?.to_str().map(str::to_owned);
            let mut name =
                relative.with_context(|| format!("{}: the name is not UTF-8", path.display()))?;
            let meta = fs::symlink_metadata(&path)?;
            let executable = meta.permissions().mode() & 0o111 != 0;
            let (mode, content) = if meta.is_dir() {
                name.push('/');
                todo.push(path);
                let world = name == "tmp/";
                (if world { 0o1777 } else { 0o755 }, OwnedContent::Dir)
            } else if meta.is_symlink() {
                let target = fs::read_link(&path)?;
                let target = target.to_str().context("a link's target is not UTF-8")?;
                (0o777, OwnedContent::Link(target.to_owned()))
            } else if meta.is_file() {
                total += meta.len();
                if total > MAX_ROOTFS {
                    bail!("{}: more than {MAX_ROOTFS} bytes", root.display());
                }
                (if executable { 0o755 } else { 0o644 }, OwnedContent::Bytes(fs::read(&path)?))
            } else {
                bail!("{}: neither file, directory nor link", path.display());
            };
            found.push(Owned { path: name, mode, content });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
