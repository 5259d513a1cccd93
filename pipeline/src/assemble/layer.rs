//! Layers: deterministic tar archives, and where their bytes are.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_release::{
    Digest,
    oci::{Descriptor, LAYER_GZIP, LAYER_TAR},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How much is read at a time: large enough for the hash, small for the memory.
const CHUNK: usize = 256 * 1024;

/// A blob of an image under construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// What it is.
    pub descriptor: Descriptor,
    /// Where its bytes are.
    pub place: Place,
}

/// Where a blob's bytes are. Large ones stay where they lie on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Place {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
    },
    /// A file between two short pieces: a tar archive around a model.
    Framed {
        /// Before the file, base64.
        head: String,
        /// The file.
        path: PathBuf,
        /// After the file, base64.
        tail: String,
    },
    /// Written out here, base64: configs and other small documents.
    Inline {
        /// The bytes.
        data: String,
    },
}

impl Blob {
    /// A small document.
    pub fn inline(media_type: &str, bytes: &[u8]) -> Self {
        let descriptor = Descriptor::of(media_type, bytes);
        Self { descriptor, place: Place::Inline { data: STANDARD.encode(bytes) } }
    }

    /// Opens its bytes for reading.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let decode =
            |text: &str| STANDARD.decode(text).map(io::Cursor::new).map_err(io::Error::other);
        Ok(match &self.place {
            Place::File { path } => Box::new(open(path)?),
            Place::Framed { head, path, tail } => {
                Box::new(decode(head)?.chain(open(path)?).chain(decode(tail)?))
            }
            Place::Inline { data } => Box::new(decode(data)?),
        })
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// A file to be put into a layer.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Its path in the image, without a leading slash.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: EntryContent<'a>,
}

/// What an entry is.
#[derive(Debug)]
pub enum EntryContent<'a> {
    /// A directory.
    Dir,
    /// A file with these bytes.
    Bytes(&'a [u8]),
    /// A symbolic link.
    Link(&'a str),
}

/// The header of an entry: owned by root, dated by the epoch.
fn header(entry: &Entry<'_>, size: u64) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.mode(tar::HeaderMode::Deterministic);
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(entry.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    match entry.content {
        EntryContent::Dir => {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, entry.path, io::empty())?;
        }
        EntryContent::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, entry.path, target)?;
        }
        EntryContent::Bytes(_) => {
            header.set_entry_type(tar::EntryType::Regular);
            // The data is appended by the caller; only the header is wanted, with the right
            // size. `append_data` writes it before it reads.
            header.set_path(entry.path)?;
            header.set_cksum();
            builder.get_mut().extend_from_slice(header.as_bytes());
        }
    }
    // Without the end-of-archive blocks that `into_inner` would add.
    Ok(std::mem::take(builder.get_mut()))
}

const fn padding(size: u64) -> usize {
    ((512 - size % 512) % 512) as usize
}

/// Writes an uncompressed archive of these entries, in the order given.
pub fn write_tar(entries: &[Entry<'_>], out: &mut impl Write) -> io::Result<()> {
    for entry in entries {
        let bytes = match entry.content {
            EntryContent::Bytes(bytes) => bytes,
            _ => &[],
        };
        out.write_all(&header(entry, bytes.len() as u64)?)?;
        out.write_all(bytes)?;
        out.write_all(&[0; 512][..padding(bytes.len() as u64)])?;
    }
    out.write_all(&[0; 1024])
}

/// A model layer around a model file that stays on disk, with the digest of the model itself.
///
/// The layer's and the model's digest are made by two threads, each with its own pass over the
/// file: hashing is what takes the time, and the second pass reads from the page cache.
pub fn model_layer(model: &Path, card: &[u8]) -> io::Result<(Blob, Digest)> {
    let file = open(model)?;
    let size = file.metadata()?.len();
    let dir = Entry { path: "models/", mode: 0o755, content: EntryContent::Dir };
    let card_entry =
        Entry { path: "models/pilot.yaml", mode: 0o644, content: EntryContent::Bytes(card) };
    let onnx = Entry { path: "models/pilot.onnx", mode: 0o644, content: EntryContent::Bytes(&[]) };
    let mut head = header(&dir, 0)?;
    head.extend(header(&card_entry, card.len() as u64)?);
    head.extend_from_slice(card);
    head.resize(head.len() + padding(card.len() as u64), 0);
    head.extend(header(&onnx, size)?);
    let tail = vec![0; padding(size) + 1024];

    let mut layer = Sha256::new_with_prefix(&head);
    let mut alone = Sha256::new();
    let (seen, seen_alone) = std::thread::scope(|scope| {
        let other = scope.spawn(|| hash(open(model)?, &mut alone));
        let seen = hash(file, &mut layer)?;
        let failed = |_| Err(io::Error::other("hashing a model failed"));
        io::Result::Ok((seen, other.join().unwrap_or_else(failed)?))
    })?;
    if seen != size || seen_alone != size {
        return Err(io::Error::other(format!("{} changed while it was read", model.display())));
    }
    layer.update(&tail);
    let total = head.len() as u64 + size + tail.len() as u64;
    let digest = Digest::from_bytes(layer.finalize().into());
    let blob = Blob {
        descriptor: Descriptor::new(LAYER_TAR, digest, total),
        place: Place::Framed {
            head: STANDARD.encode(&head),
            path: model.to_owned(),
            tail: STANDARD.encode(&tail),
        },
    };
    Ok((blob, Digest::from_bytes(alone.finalize().into())))
}

/// Hashes a file to its end; the number of bytes.
fn hash(mut file: File, hasher: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut seen = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(seen);
        }
        seen += n as u64;
        hasher.update(&buffer[..n]);
    }
}

/// A gzip layer, written to `dir` under its digest, and its diffID. Compressed at the highest
/// level: it is made once per runtime or base, and downloaded by every car.
pub fn gzip_layer(entries: &[Entry<'_>], dir: &Path) -> io::Result<(Blob, Digest)> {
    std::fs::create_dir_all(dir)?;
    // Through to the disk as it is made: a service that packs one large layer keeps the memory.
    let file = Hashed::new(io::BufWriter::new(tempfile::NamedTempFile::new_in(dir)?));
    let gzip = flate2::GzBuilder::new().write(file, flate2::Compression::best());
    let mut plain = Hashed::new(gzip);
    write_tar(entries, &mut plain)?;
    let (gzip, diff_id, _) = plain.finish();
    let (file, digest, size) = gzip.finish()?.finish();
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    let path = dir.join(digest.hex());
    file.persist(&path)?;
    let descriptor = Descriptor::new(LAYER_GZIP, digest, size);
    Ok((Blob { descriptor, place: Place::File { path } }, diff_id))
}

/// A writer that hashes and counts what goes through it.
struct Hashed<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), size: 0 }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest::from_bytes(self.hasher.finalize().into()), self.size)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads a file into memory, at most `max` bytes.
///
/// The room that is asked for is more than the C library keeps for later (32 MiB, mallopt(3)
/// `M_MMAP_THRESHOLD`), so that a service gives the memory back; what is not written to costs
/// nothing.
pub fn read_whole(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    const KEPT_FOR_LATER: usize = 33 << 20;
    let too_large = |size: u64| io::Error::other(format!("{size} bytes, at most {max} are read"));
    let file = open(path)?;
    let size = file.metadata()?.len();
    if size > max {
        return Err(too_large(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).max(KEPT_FOR_LATER));
    file.take(max + 1).read_to_end(&mut bytes)?;
    // It grew while it was read.
    if bytes.len() as u64 > max { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// Writes a file so that it is there whole or not at all, also after a power failure.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The name is the folder's to keep.
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_layer_is_the_archive_it_says_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0_usize, 1, 511, 512, 513, 300_000] {
            let model = dir.path().join("m.onnx");
            let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
            std::fs::write(&model, &bytes).unwrap();
            let (blob, digest) = model_layer(&model, b"card").unwrap();
            assert_eq!(digest, Digest::of(&bytes));
            let mut plain = Vec::new();
            blob.open().unwrap().read_to_end(&mut plain).unwrap();
            assert_eq!(Descriptor::of(LAYER_TAR, &plain), blob.descriptor, "{size}");
            let mut want = Vec::new();
            let entries = [
                Entry { path: "models/", mode: 0o755, content: EntryContent::Dir },
                Entry {
                    path: "models/pilot.yaml",
                    mode: 0o644,
                    content: EntryContent::Bytes(b"card"),
                },
                Entry {
                    path: "models/pilot.onnx",
                    mode: 0o644,
                    content: EntryContent::Bytes(&bytes),
                },
            ];
            write_tar(&entries, &mut want).unwrap();
            assert_eq!(plain, want, "{size}");
            let names: Vec<String> = tar::Archive::new(&plain[..])
                .entries()
                .unwrap()
                .map(|e| e.unwrap().path().unwrap().display().to_string())
                .collect();
            assert_eq!(names, ["models/", "models/pilot.yaml", "models/pilot.onnx"]);
        }
    }

    #[test]
    fn layers_do_not_depend_on_when_and_where() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let entries =
            [Entry { path: "usr/bin/x", mode: 0o755, content: EntryContent::Bytes(b"binary") }];
        let made = dirs.each_ref().map(|dir| gzip_layer(&entries, dir.path()).unwrap());
        assert_eq!(made[0].0.descriptor, made[1].0.descriptor);
        // A golden digest: a change of library or settings would change every image there is.
        insta::assert_snapshot!(made[0].1, @"sha256:b5b2f10998f7331d949937f6684a3565ff99da566c8c56f589a7a94924dfd545");
        insta::assert_snapshot!(made[0].0.descriptor.digest, @"sha256:06332d6fb00aa83664bb0266237f8ed8a9b98d47a49a87d789ceea72a6a18521");
    }
}
