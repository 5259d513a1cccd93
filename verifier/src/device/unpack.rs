//! From verified blobs to a root file system, hashing while unpacking.
//!
//! A layer is read once: its compressed bytes are hashed, decompressed, hashed again (the
//! diffID), parsed and written in one pass. Only when both digests agree is the tree kept; on
//! any failure it is removed. So the bytes that were checked are the bytes that run, whoever can
//! write to the disk under the store.
//!
//! Rules are strict where image builders agree and hostile layers do not: nothing is skipped or
//! repaired silently, an odd entry refuses the image and the error names entry and rule.

mod path;
mod tape;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use pitlane_release::{
    Digest,
    oci::{self, Descriptor, ImageConfig, ImageManifest},
};
use sha2::{Digest as _, Sha256};

use self::{
    path::{EntryPath, Meaning},
    tape::{Kind, Tape},
    tree::{Seen, Tree},
};
use super::store::{Store, StoreError};

/// Docker's uncompressed layer, beside those that `oci` names.
const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Reads and writes go in pieces of this size.
const BUFFER: usize = 128 * 1024;
/// Bytes a gzip layer may always grow to, before the ratio counts: sparse small layers compress
/// far better than programs do.
const RATIO_FREE: u64 = 64 << 20;
/// Growth allowed beyond that. Programs and weights stay below 10; deflate itself ends at 1032.
const MAX_RATIO: u64 = 100;

/// What an image may cost to unpack.
#[derive(Clone, Copy, Debug)]
pub struct UnpackLimits {
    /// Most tar headers in all layers together.
    pub entries: u64,
    /// Most uncompressed bytes in all layers together.
    pub bytes: u64,
}

impl Default for UnpackLimits {
    /// 100 000 entries, 4 GiB: a CUDA base with room, far from filling a car's disk.
    fn default() -> Self {
        Self { entries: 100_000, bytes: 4 << 30 }
    }
}

/// Why a layer is refused. The texts follow "layer …, entry …: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant says in its text what it is")]
pub enum Rule {
    #[error("its name is absolute")]
    Absolute,
    #[error("its name leads out by `..`")]
    ParentDir,
    #[error("its name is not usable: {0}")]
    Name(&'static str),
    #[error("a second entry of this name in one layer")]
    Duplicate,
    #[error("it replaces what the same layer put there")]
    Conflict,
    #[error("a {0} has no place in a car image")]
    Kind(&'static str),
    #[error("its path leads through `{0}`, which is no directory")]
    ThroughLink(String),
    #[error("`{0}` is not there")]
    Missing(String),
    #[error("this link is not usable: {0}")]
    Link(&'static str),
    #[error("this whiteout is not usable: {0}")]
    Whiteout(&'static str),
    #[error("the image has something there that is no {0}, and the profile mounts over it")]
    MountPoint(&'static str),
    #[error("more than {0} entries")]
    TooManyEntries(u64),
    #[error("more than {0} bytes uncompressed")]
    TooManyBytes(u64),
    #[error("broken tar header: {0}")]
    Header(String),
    #[error("broken pax header: {0}")]
    Pax(String),
    #[error("the archive ends {0}")]
    Truncated(&'static str),
    #[error("data after the end of the archive")]
    Trailing,
    #[error("broken compression: {0}")]
    Compression(String),
    #[error("diffID {found}, the image config says {want}")]
    DiffId { found: Box<Digest>, want: Box<Digest> },
    #[error("media type `{0}` is not supported: push the layer as tar or gzip")]
    MediaType(String),
}

/// Why an image was not unpacked. Nothing of it is left on disk.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The layer breaks a rule: an answer, it will not get better.
    #[error("layer {layer}{}: {rule}", entry.as_ref().map(|e| format!(", entry `{e}`")).unwrap_or_default())]
    Refused {
        /// Which layer.
        layer: Digest,
        /// Which entry, with odd bytes escaped.
        entry: Option<String>,
        /// Which rule.
        rule: Rule,
    },
    /// Manifest and config do not fit each other.
    #[error("image config {config}: {why}")]
    Config {
        /// The config blob.
        config: Digest,
        /// What does not fit.
        why: String,
    },
    /// A blob is absent or damaged: see [`StoreError::refetch`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system failed: no answer.
    #[error("unpacking layer {layer}: {what}")]
    Io {
        /// Which layer.
        layer: Digest,
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What unpacking cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Tar headers read.
    pub entries: u64,
    /// Uncompressed bytes hashed.
    pub bytes: u64,
}

/// A failure inside a layer, before it is known which.
enum Fail {
    Rule(Rule),
    Io(&'static str, io::Error),
}

impl Fail {
    const fn io(what: &'static str, source: io::Error) -> Self {
        Self::Io(what, source)
    }

    /// An error of the stream: a limit hit, broken compression, or the disk.
    fn stream(error: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error.kind() {
            InvalidInput | InvalidData | UnexpectedEof => {
                Self::Rule(Rule::Compression(error.to_string()))
            }
            // A limit of ours comes through as the rule itself.
            _ => match error.downcast::<Rule>() {
                Ok(rule) => Self::Rule(rule),
                Err(error) => Self::Io("cannot read", error),
            },
        }
    }
}

impl From<Rule> for Fail {
    fn from(rule: Rule) -> Self {
        Self::Rule(rule)
    }
}

/// Reads config and layers of `manifest` from the store and unpacks them to `root`, which must
/// not exist (its parent must, and should be 0700). `mount_points` are absolute paths that shall
/// exist in the result: directories (`true`) or files.
///
/// # Errors
/// See [`UnpackError`]; `root` is removed on every error.
pub fn unpack(
    store: &Store,
    manifest: &ImageManifest,
    root: &Path,
    limits: UnpackLimits,
    mount_points: &[(PathBuf, bool)],
) -> Result<Unpacked, UnpackError> {
    let config = read_config(store, manifest)?;
    let layer = manifest.config.digest;
    fs::DirBuilder::new().mode(0o755).create(root).map_err(|source| UnpackError::Io {
        layer,
        what: format!("cannot make {}", root.display()),
        source,
    })?;
    let result = fill(store, manifest, &config, root, limits, mount_points);
    if result.is_err() {
        // A leftover would be swept at the next start too; the error to tell is the first.
        let _ = fs::remove_dir_all(root);
    }
    result
}

/// The image config, after its digest agreed and its layers fit the manifest's.
pub fn read_config(store: &Store, manifest: &ImageManifest) -> Result<ImageConfig, UnpackError> {
    let digest = manifest.config.digest;
    let bytes = store.read(&manifest.config, oci::MAX_CONFIG)?;
    let fail = |why| UnpackError::Config { config: digest, why };
    let config = oci::parse_config(&bytes).map_err(|error| fail(error.why))?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids || layers == 0 || layers > oci::MAX_LAYERS {
        return Err(fail(format!("{diff_ids} diffIDs for {layers} layers")));
    }
    Ok(config)
}

fn fill(
    store: &Store,
    manifest: &ImageManifest,
    config: &ImageConfig,
    root: &Path,
    limits: UnpackLimits,
    mount_points: &[(PathBuf, bool)],
) -> Result<Unpacked, UnpackError> {
    let of = |layer: Digest, entry: Option<String>| {
        move |fail: Fail| match fail {
            Fail::Rule(rule) => UnpackError::Refused { layer, entry, rule },
            Fail::Io(what, source) => {
                let what = entry.map_or_else(|| what.to_owned(), |e| format!("{what} `{e}`"));
                UnpackError::Io { layer, what, source }
            }
        }
    };
    let mut tree = Tree::open(root).map_err(of(manifest.config.digest, None))?;
    let mut sum = Unpacked::default();
    for (layer, want) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let left =
            UnpackLimits { entries: limits.entries - sum.entries, bytes: limits.bytes - sum.bytes };
        let cost = apply(store, layer, want, &mut tree, left, &of)?;
        sum.entries += cost.entries;
        sum.bytes += cost.bytes;
    }
    for (path, directory) in mount_points {
        let path = path.as_os_str().as_encoded_bytes();
        let entry = EntryPath::parse(path.strip_prefix(b"/").unwrap_or(path)).map_err(Fail::from);
        entry
            .and_then(|entry| tree.mount_point(&entry, *directory))
            .map_err(of(manifest.config.digest, Some(shown(path))))?;
    }
    tree.finish().map_err(of(manifest.config.digest, None))?;
    Ok(sum)
}

/// One layer onto the tree.
fn apply<E: FnOnce(Fail) -> UnpackError>(
    store: &Store,
    layer: &Descriptor,
    want: &Digest,
    tree: &mut Tree,
    limits: UnpackLimits,
    of: &impl Fn(Digest, Option<String>) -> E,
) -> Result<Unpacked, UnpackError> {
    let gzip = match layer.media_type.as_str() {
        oci::LAYER_TAR | DOCKER_LAYER_TAR => false,
        oci::LAYER_GZIP | oci::DOCKER_LAYER_GZIP => true,
        other => {
            let rule = Rule::MediaType(other.chars().take(120).collect());
            return Err(of(layer.digest, None)(rule.into()));
        }
    };
    let mut blob = store.reader(layer)?;
    let (result, found) = if gzip {
        let growth = RATIO_FREE.max(layer.size.saturating_mul(MAX_RATIO));
        let input = BufReader::with_capacity(BUFFER, &mut blob);
        let cap = limits.bytes.min(growth);
        let mut plain =
            Plain { inner: MultiGzDecoder::new(input), hasher: Some(Sha256::new()), read: 0, cap };
        let result = entries(&mut plain, tree, limits.entries);
        let found = plain.hasher.map(|hasher| Digest::from_bytes(hasher.finalize().into()));
        (result.map(|entries| Unpacked { entries, bytes: plain.read }), found)
    } else {
        let mut plain = Plain { inner: &mut blob, hasher: None, read: 0, cap: limits.bytes };
        let result = entries(&mut plain, tree, limits.entries);
        // Uncompressed: blob digest and diffID are hashes of the same bytes.
        (result.map(|entries| Unpacked { entries, bytes: plain.read }), None)
    };
    // A damaged blob is said to be damaged, whatever its parser made of it.
    store.settle(blob)?;
    let cost = result.map_err(|(fail, entry)| of(layer.digest, entry)(fail))?;
    let found = found.unwrap_or(layer.digest);
    if found != *want {
        return Err(of(layer.digest, None)(
            Rule::DiffId { found: found.into(), want: (*want).into() }.into(),
        ));
    }
    Ok(cost)
}

/// Unpacks one uncompressed stream to its very end; returns the number of headers.
fn entries(stream: impl Read, tree: &mut Tree, max: u64) -> Result<u64, (Fail, Option<String>)> {
    let mut tape = Tape::new(BufReader::with_capacity(BUFFER, stream), max);
    let mut seen = Seen::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let step = tape.next().and_then(|entry| match entry {
            None => Ok(false),
            Some(entry) => one(&entry, &mut tape, tree, &mut seen, &mut buffer).map(|()| true),
        });
        match step {
            Ok(true) => {}
            Ok(false) => return Ok(tape.headers()),
            Err(fail) => return Err((fail, tape.at)),
        }
    }
}

fn one<R: BufRead>(
    entry: &tape::Entry,
    tape: &mut Tape<R>,
    tree: &mut Tree,
    seen: &mut Seen,
    buffer: &mut [u8],
) -> Result<(), Fail> {
    let path = match EntryPath::parse(&entry.name)?.meaning()? {
        Meaning::Entry(path) => path,
        _ if entry.kind != Kind::File || entry.size != 0 => {
            return Err(Rule::Whiteout("it is no empty file").into());
        }
        Meaning::Whiteout(path) => return tree.whiteout(&path, seen),
        Meaning::Opaque(path) => return tree.opaque(&path, seen),
    };
    if path.is_root() && entry.kind != Kind::Dir {
        return Err(Rule::Name("it is the root itself").into());
    }
    if seen.contains(path.bytes()) {
        return Err(Rule::Duplicate.into());
    }
    match entry.kind {
        Kind::Dir => tree.dir(&path, entry, seen)?,
        Kind::File => tree.file(&path, entry, seen, tape, buffer)?,
        Kind::Symlink => tree.symlink(&path, entry, seen)?,
        Kind::HardLink => tree.hard_link(&path, entry, seen)?,
    }
    seen.insert(path.bytes().to_vec());
    Ok(())
}

/// The uncompressed bytes of a layer: counted, capped, and hashed.
struct Plain<R> {
    inner: R,
    hasher: Option<Sha256>,
    read: u64,
    cap: u64,
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(bytes)?;
        self.read += n as u64;
        if self.read > self.cap {
            return Err(io::Error::other(Rule::TooManyBytes(self.cap)));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes[..n]);
        }
        Ok(n)
    }
}

/// A name from a layer, safe to print: bytes that could steer a terminal or a log are escaped.
fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(200)].escape_ascii().to_string()
}
