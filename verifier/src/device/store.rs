//! Content store: `ROOT/blobs/sha256/<hex>`, filled by streaming, read by hashing.
//!
//! A path proves nothing: who owns the disk can change a file between hashing and use. So nothing
//! here hands out a path or a "verified" file. A [`BlobReader`] hashes the very bytes that its
//! reader consumes, through one descriptor, and the reader must throw its result away unless
//! [`BlobReader::finish`] agrees.
//!
//! Power cut: a blob is written to `partial/`, flushed, renamed, and its directory flushed; a name
//! under `blobs/` therefore never stands for a half-written file, and if a disk lies about
//! flushing, the hash at the next start still says so.

mod blob;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

pub use blob::{BlobReader, BlobWriter};
use pitlane_release::{Digest, oci::Descriptor};
use sha2::{Digest as _, Sha256};

/// How much the store may hold, and how much of the disk it leaves to others.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Most bytes of finished and partial blobs together.
    pub total: u64,
    /// Bytes of the file system that stay free: a full disk also stops logs and state.
    pub reserve: u64,
}

impl Default for StoreLimits {
    /// 8 GiB (three car images with CUDA), 256 MiB left free.
    fn default() -> Self {
        Self { total: 8 << 30, reserve: 256 << 20 }
    }
}

/// Why the store has no answer, or why bytes were not taken.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system failed.
    #[error("content store: {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The blob is not there.
    #[error("content store has no blob {0}; fetch it again")]
    Absent(Digest),
    /// The bytes are not those the descriptor names.
    #[error("blob {want} is damaged: {why}; it is dropped and must be fetched again")]
    Damaged {
        /// What was asked for.
        want: Digest,
        /// Length or digest found instead.
        why: String,
    },
    /// The blob would not fit.
    #[error("blob {digest} of {size} bytes does not fit: {why}")]
    Full {
        /// Which blob.
        digest: Digest,
        /// Its length.
        size: u64,
        /// Which limit.
        why: String,
    },
    /// Somebody else writes this blob now.
    #[error("blob {0} is being written by another process; try again later")]
    Busy(Digest),
    /// The descriptor asks for more than the caller would hold in memory.
    #[error("blob {digest} has {size} bytes, at most {cap} are read into memory")]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// What its descriptor says.
        size: u64,
        /// The caller's cap.
        cap: u64,
    },
}

impl StoreError {
    /// Whether dropping the blob and fetching it again can help.
    pub const fn refetch(&self) -> bool {
        matches!(self, Self::Absent(_) | Self::Damaged { .. })
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::Io { what, path, source }
}

/// Makes a directory (and its parents) that only its owner may enter.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Flushes a directory: what was renamed into it survives a power cut from now on.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The content store of one car.
#[derive(Clone, Debug)]
pub struct Store {
    blobs: PathBuf,
    partial: PathBuf,
    limits: StoreLimits,
}

impl Store {
    /// Opens the store under `root`, making its directories (0700) where they are missing.
    pub fn open(root: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        let store = Self {
            blobs: root.join("blobs").join("sha256"),
            partial: root.join("partial"),
            limits,
        };
        for dir in [&store.blobs, &store.partial] {
            private_dir(dir).map_err(io_error("cannot make", dir))?;
        }
        Ok(store)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// Whether a finished file of the right length is there. Says nothing about its content:
    /// that is decided while it is read.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        fs::symlink_metadata(self.path(&descriptor.digest))
            .is_ok_and(|meta| meta.is_file() && meta.len() == descriptor.size)
    }

    /// Those of `descriptors` that must be fetched, each once, in order.
    pub fn missing<'d>(
        &self,
        descriptors: impl IntoIterator<Item = &'d Descriptor>,
    ) -> Vec<&'d Descriptor> {
        let mut seen = BTreeSet::new();
        descriptors.into_iter().filter(|d| seen.insert(d.digest) && !self.has(d)).collect()
    }

    /// Starts writing a blob from its first byte.
    pub fn writer(&self, descriptor: &Descriptor) -> Result<BlobWriter, StoreError> {
        let mut writer = self.resume(descriptor)?;
        writer.restart()?;
        Ok(writer)
    }

    /// Goes on with a fetch that was cut off: [`BlobWriter::written`] is where the caller's range
    /// request starts. What is there already is hashed again, not trusted.
    pub fn resume(&self, descriptor: &Descriptor) -> Result<BlobWriter, StoreError> {
        let path = self.partial.join(descriptor.digest.hex());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(io_error("cannot open", &path))?;
        file.try_lock().map_err(|_| StoreError::Busy(descriptor.digest))?;
        self.check_room(descriptor)?;
        let mut hasher = Sha256::new();
        let mut written =
            io::copy(&mut Read::by_ref(&mut file).take(descriptor.size + 1), &mut hasher)
                .map_err(io_error("cannot read", &path))?;
        if written > descriptor.size {
            (written, hasher) = (0, Sha256::new());
            file.set_len(0).map_err(io_error("cannot empty", &path))?;
        }
        file.seek(SeekFrom::Start(written)).map_err(io_error("cannot seek in", &path))?;
        Ok(BlobWriter {
            file,
            hasher,
            written,
            descriptor: descriptor.clone(),
            to: self.path(&descriptor.digest),
            path,
        })
    }

    fn check_room(&self, descriptor: &Descriptor) -> Result<(), StoreError> {
        let full = |why| StoreError::Full { digest: descriptor.digest, size: descriptor.size, why };
        let used = self.used()?;
        if used.saturating_add(descriptor.size) > self.limits.total {
            return Err(full(format!(
                "the store holds {used} of {} bytes; raise the limit or let it drop old images",
                self.limits.total
            )));
        }
        let disk = nix::sys::statvfs::statvfs(&self.blobs)
            .map_err(|e| io_error("cannot measure", &self.blobs)(e.into()))?;
        #[expect(clippy::useless_conversion, reason = "the width differs between platforms")]
        let free =
            u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size()));
        if free < descriptor.size.saturating_add(self.limits.reserve) {
            return Err(full(format!(
                "{free} bytes of the disk are free and {} stay reserved; free some space",
                self.limits.reserve
            )));
        }
        Ok(())
    }

    /// Bytes held, finished and partial.
    pub fn used(&self) -> Result<u64, StoreError> {
        let mut sum = 0_u64;
        for dir in [&self.blobs, &self.partial] {
            for entry in fs::read_dir(dir).map_err(io_error("cannot list", dir))? {
                let meta =
                    entry.and_then(|e| e.metadata()).map_err(io_error("cannot list", dir))?;
                sum = sum.saturating_add(meta.len());
            }
        }
        Ok(sum)
    }

    /// Opens a blob for one reading from start to end, hashed on the way.
    pub fn reader(&self, descriptor: &Descriptor) -> Result<BlobReader, StoreError> {
        let path = self.path(&descriptor.digest);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => StoreError::Absent(descriptor.digest),
                _ => io_error("cannot open", &path)(error),
            })?;
        Ok(BlobReader { file, hasher: Sha256::new(), read: 0, descriptor: descriptor.clone() })
    }

    /// A small blob in memory, after its digest agreed (image configs). `cap` bounds the memory.
    pub fn read(&self, descriptor: &Descriptor, cap: u64) -> Result<Vec<u8>, StoreError> {
        let digest = descriptor.digest;
        if descriptor.size > cap {
            return Err(StoreError::TooLarge { digest, size: descriptor.size, cap });
        }
        let mut reader = self.reader(descriptor)?;
        let mut bytes = Vec::new();
        let read = reader.read_to_end(&mut bytes);
        self.settle(reader)?;
        read.map_err(io_error("cannot read", &self.path(&digest)))?;
        Ok(bytes)
    }

    /// Puts bytes that are in memory already (manifests, configs, statements).
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, StoreError> {
        let descriptor = Descriptor::of(media_type, bytes);
        if !self.has(&descriptor) {
            let mut writer = self.writer(&descriptor)?;
            writer.write_all(bytes).map_err(io_error("cannot write", &self.partial))?;
            writer.commit()?;
        }
        Ok(descriptor)
    }

    /// Reads the blob through and says whether it is intact; a damaged one is dropped.
    pub fn scrub(&self, descriptor: &Descriptor) -> Result<(), StoreError> {
        self.settle(self.reader(descriptor)?)
    }

    /// Ends a reading; a damaged blob is dropped, so that [`Self::missing`] names it again.
    pub fn settle(&self, reader: BlobReader) -> Result<(), StoreError> {
        let digest = reader.descriptor.digest;
        let result = reader.finish();
        if let Err(StoreError::Damaged { .. }) = &result {
            self.remove(&digest)?;
        }
        result
    }

    /// Drops one blob; no error when it is not there.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        remove_if_there(&self.path(digest))
    }

    /// Drops all blobs but `keep`, and all partial ones that nobody writes now. Returns how many
    /// files and bytes went. Call it after the state that names `keep` is on disk.
    pub fn gc(&self, keep: &BTreeSet<Digest>) -> Result<(usize, u64), StoreError> {
        let keep: BTreeSet<String> = keep.iter().map(Digest::hex).collect();
        let (mut files, mut bytes) = (0, 0);
        for (dir, finished) in [(&self.blobs, true), (&self.partial, false)] {
            for entry in fs::read_dir(dir).map_err(io_error("cannot list", dir))? {
                let entry = entry.map_err(io_error("cannot list", dir))?;
                let kept = entry.file_name().to_str().is_some_and(|name| keep.contains(name));
                let busy = || File::open(entry.path()).is_ok_and(|f| f.try_lock_shared().is_err());
                if (finished && kept) || (!finished && busy()) {
                    continue;
                }
                bytes += entry.metadata().map_or(0, |meta| meta.len());
                files += 1;
                remove_if_there(&entry.path())?;
            }
        }
        Ok((files, bytes))
    }
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}
