//! The archive that `docker save` gives, read as an attack: its own names, sizes and digests are
//! believed only after they were made again from the bytes.
//!
//! Two shapes are in use: `ID/layer.tar` with a link where a layer stands twice (Docker up to 24,
//! Podman), and `blobs/sha256/HEX` (Docker from 25). `manifest.json` leads through both; what else
//! is in the archive is not looked at.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read, Seek as _, Write as _},
    path::Path,
};

use pitlane_release::{
    Digest, Platform,
    oci::{Descriptor, ImageConfig, LAYER_GZIP, LAYER_TAR, MAX_CONFIG, MAX_LAYERS, parse_config},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::Layer;

/// Largest `manifest.json`.
const MAX_MANIFEST: u64 = 1024 * 1024;
/// Most entries: four a layer in the older shape, and a few documents.
const MAX_ENTRIES: usize = 8 * MAX_LAYERS;
/// Largest extended header: it holds names of at most 4 KiB.
const MAX_EXTENDED: u64 = 64 * 1024;
/// How much is read at a time.
const CHUNK: usize = 256 * 1024;

/// Why what the engine gave back is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SavedFault {
    /// Not such an archive.
    #[error("the engine's archive is not usable: {0}")]
    Archive(String),
    /// More than the limit.
    #[error("the image has more than {max} bytes; raise limits.image_bytes if it needs more")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// The config is none, or of another platform.
    #[error("the image's config is not usable: {0}")]
    Config(String),
    /// A layer is not what the config says.
    #[error("layer {number} is {found}, and the config says {wanted}")]
    Layer {
        /// Which, from 1.
        number: usize,
        /// Digest of what came.
        found: Digest,
        /// Digest in the config.
        wanted: Digest,
    },
    /// Reading or writing failed.
    #[error("the image could not be read back")]
    Io(#[from] io::Error),
}

/// An image that was read back.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<Layer>,
}

/// `manifest.json`: one line for each image. Other fields are the engine's.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// A file of the archive, on disk under no name that it brought.
struct Kept {
    file: tempfile::NamedTempFile,
    digest: Digest,
    size: u64,
}

enum Entry {
    File(Kept),
    Link(String),
}

/// Reads an archive; layers land in `blobs` under their digests.
pub(crate) fn read(
    archive: impl Read,
    platform: Platform,
    blobs: &Path,
    max: u64,
) -> Result<Saved, SavedFault> {
    let wrong = |why: String| SavedFault::Archive(why);
    std::fs::create_dir_all(blobs)?;
    let mut entries = unpack(archive, blobs, max)?;
    let manifest = small(&mut entries, "manifest.json", MAX_MANIFEST)?;
    let lines: Vec<Line> = serde_json::from_slice(&manifest)
        .map_err(|error| wrong(format!("manifest.json: {error}")))?;
    let [line] = <[Line; 1]>::try_from(lines)
        .map_err(|lines| wrong(format!("{} images in it, one was asked for", lines.len())))?;
    let bytes = small(&mut entries, &line.config, MAX_CONFIG)?;
    let config = parse_config(&bytes).map_err(|error| SavedFault::Config(error.to_string()))?;
    let found = format!("{}/{}", config.os, config.architecture);
    if found.parse() != Ok(platform) {
        let why =
            format!("it is for {found}, {platform} was built; is each base of that platform?");
        return Err(SavedFault::Config(why));
    }
    let wanted = &config.rootfs.diff_ids;
    if wanted.len() != line.layers.len() || wanted.len() > MAX_LAYERS {
        let why = format!(
            "{} layers in the archive, {} in the config, at most {MAX_LAYERS}",
            line.layers.len(),
            wanted.len()
        );
        return Err(SavedFault::Config(why));
    }
    let mut layers: Vec<Layer> = Vec::new();
    // A layer may stand twice; it is one file.
    let mut done: HashMap<String, usize> = HashMap::new();
    for (at, (name, wanted)) in line.layers.iter().zip(wanted).enumerate() {
        let name = resolve(&entries, name)?;
        let layer = match done.get(&name) {
            Some(&earlier) => layers[earlier].clone(),
            None => keep(entries.remove(&name), &name, blobs, max)?,
        };
        if layer.diff_id != *wanted {
            let (number, found, wanted) = (at + 1, layer.diff_id, *wanted);
            return Err(SavedFault::Layer { number, found, wanted });
        }
        done.entry(name).or_insert(at);
        layers.push(layer);
    }
    Ok(Saved { config, layers })
}

/// Follows the archive's own links, among the archive's own names.
fn resolve(entries: &BTreeMap<String, Entry>, name: &str) -> Result<String, SavedFault> {
    let name = normal(name).ok_or_else(|| SavedFault::Archive(format!("the name {name:?}")))?;
    match entries.get(&name) {
        // One link, never a chain: engines make none.
        Some(Entry::Link(to)) => Ok(to.clone()),
        _ => Ok(name),
    }
}

/// Moves a layer to its digest.
fn keep(entry: Option<Entry>, name: &str, blobs: &Path, max: u64) -> Result<Layer, SavedFault> {
    let Some(Entry::File(mut kept)) = entry else {
        return Err(SavedFault::Archive(format!("{name:?} is not in it, or a link to a link")));
    };
    let file = kept.file.as_file_mut();
    file.rewind()?;
    let mut magic = [0; 4];
    let seen = file.read(&mut magic)?;
    let (media_type, diff_id) = match &magic[..seen] {
        [0x1f, 0x8b, ..] => (LAYER_GZIP, unpacked(file, max)?),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            return Err(SavedFault::Archive(format!("{name:?} is zstd, which cars cannot read")));
        }
        _ => (LAYER_TAR, kept.digest),
    };
    let path = blobs.join(kept.digest.hex());
    kept.file.persist(&path).map_err(|error| error.error)?;
    Ok(Layer { descriptor: Descriptor::new(media_type, kept.digest, kept.size), diff_id, path })
}

/// The digest of what a gzip file unpacks to, at most `max` bytes of it.
fn unpacked(file: &mut File, max: u64) -> Result<Digest, SavedFault> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut plain = flate2::read::MultiGzDecoder::new(io::BufReader::new(file)).take(max + 1);
    if io::copy(&mut plain, &mut hasher)? > max {
        return Err(SavedFault::TooLarge { max });
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// Takes a document out.
fn small(
    entries: &mut BTreeMap<String, Entry>,
    name: &str,
    max: u64,
) -> Result<Vec<u8>, SavedFault> {
    let name = resolve(entries, name)?;
    let Some(Entry::File(mut kept)) = entries.remove(&name) else {
        return Err(SavedFault::Archive(format!("{name:?} is not in it")));
    };
    if kept.size > max {
        let size = kept.size;
        return Err(SavedFault::Archive(format!(
            "{name:?} has {size} bytes, at most {max} are read"
        )));
    }
    let mut bytes = Vec::new();
    let file = kept.file.as_file_mut();
    file.rewind()?;
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Brings the archive to disk, every file hashed.
fn unpack(
    archive: impl Read,
    blobs: &Path,
    max: u64,
) -> Result<BTreeMap<String, Entry>, SavedFault> {
    let wrong = |why: String| SavedFault::Archive(why);
    // Headers and padding of the entries come on top of the layers.
    let room = max + (MAX_ENTRIES as u64) * 4096;
    let mut archive = tar::Archive::new(archive.take(room + 1));
    let mut out = BTreeMap::new();
    let (mut count, mut total) = (0, 0_u64);
    // Raw: extensions are refused or skipped here, not collected in memory.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(wrong(format!("more than {MAX_ENTRIES} entries")));
        }
        let path = entry.path_bytes();
        let name = std::str::from_utf8(&path).ok().and_then(normal);
        let name =
            name.ok_or_else(|| wrong(format!("the name {:?}", String::from_utf8_lossy(&path))))?;
        let size = entry.header().entry_size()?;
        total = total.saturating_add(size);
        if total > max {
            return Err(SavedFault::TooLarge { max });
        }
        let new = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                Entry::File(spool(&mut entry, blobs, size)?)
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let to = entry.link_name_bytes().unwrap_or_default().into_owned();
                let to = String::from_utf8(to).ok();
                let beside = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let whole = match entry.header().entry_type() {
                    tar::EntryType::Link => to,
                    // From where the link lies; an absolute one leads out.
                    _ => to.filter(|to| !to.starts_with('/')).map(|to| match beside {
                        "" => to,
                        beside => format!("{beside}/{to}"),
                    }),
                };
                let to = whole.as_deref().and_then(normal);
                Entry::Link(to.ok_or_else(|| wrong(format!("{name:?} is a link to elsewhere")))?)
            }
            tar::EntryType::Directory => continue,
            tar::EntryType::XHeader | tar::EntryType::XGlobalHeader => {
                harmless(&mut entry, size)?;
                continue;
            }
            kind => return Err(wrong(format!("{name:?} is of the kind {kind:?}"))),
        };
        if out.insert(name.clone(), new).is_some() {
            return Err(wrong(format!("{name:?} stands twice in it")));
        }
    }
    Ok(out)
}

/// Writes a file of the archive to disk and hashes it.
fn spool(entry: &mut impl Read, blobs: &Path, size: u64) -> Result<Kept, SavedFault> {
    let mut file = tempfile::NamedTempFile::new_in(blobs)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK).max(1))];
    let mut seen = 0;
    loop {
        let n = entry.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        file.write_all(&buffer[..n])?;
        seen += n as u64;
    }
    if seen != size {
        return Err(SavedFault::Archive(format!("it ends after {seen} of {size} bytes of a file")));
    }
    Ok(Kept { file, digest: Digest::from_bytes(hasher.finalize().into()), size })
}

/// An extended header may speak of times and owners. A name or size in it would mean another
/// archive to another reader; a layer of more than 8 GiB has one, and is refused by it.
fn harmless(entry: &mut impl Read, size: u64) -> Result<(), SavedFault> {
    let wrong = |why: &str| SavedFault::Archive(format!("an extended header {why}"));
    if size > MAX_EXTENDED {
        return Err(wrong("of more than 64 KiB"));
    }
    let mut bytes = Vec::new();
    entry.take(MAX_EXTENDED).read_to_end(&mut bytes)?;
    for record in tar::PaxExtensions::new(&bytes) {
        let record = record?;
        if matches!(record.key_bytes(), b"path" | b"linkpath" | b"size") {
            return Err(wrong("with a name or a size"));
        }
    }
    Ok(())
}

/// A name of the archive without `.` and `..`, or none when it leads out.
fn normal(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let whole = parts.join("/");
    let fits = !whole.contains(['\0', '\\']) && !name.starts_with('/');
    fits.then_some(whole)
}

#[cfg(test)]
mod tests;
