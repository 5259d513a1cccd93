//! One blob on its way into the store or out of it, hashed as it passes.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::PathBuf,
};

use pitlane_release::{Digest, oci::Descriptor};
use sha2::{Digest as _, Sha256};

#[cfg(doc)]
use super::Store;
use super::{StoreError, io_error, remove_if_there, sync_dir};

/// A blob on its way in. Dropped without [`Self::commit`], its bytes stay for a later
/// [`Store::resume`].
#[derive(Debug)]
pub struct BlobWriter {
    pub(super) file: File,
    pub(super) hasher: Sha256,
    pub(super) written: u64,
    pub(super) descriptor: Descriptor,
    pub(super) path: PathBuf,
    pub(super) to: PathBuf,
}

impl BlobWriter {
    /// Bytes there so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Starts over, when the other side could not resume.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(io_error("cannot empty", &self.path))?;
        self.file.rewind().map_err(io_error("cannot seek in", &self.path))?;
        (self.hasher, self.written) = (Sha256::new(), 0);
        Ok(())
    }

    /// Checks length and digest, then makes the blob durable under its name.
    pub fn commit(self) -> Result<(), StoreError> {
        let found = Digest::from_bytes(self.hasher.finalize().into());
        if let Err(error) = judge(&self.descriptor, self.written, found) {
            remove_if_there(&self.path)?;
            return Err(error);
        }
        self.file.sync_all().map_err(io_error("cannot flush", &self.path))?;
        fs::rename(&self.path, &self.to).map_err(io_error("cannot rename to", &self.to))?;
        let dir = self.to.parent().unwrap_or(&self.to);
        sync_dir(dir).map_err(io_error("cannot flush", dir))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.descriptor.size - self.written;
        if bytes.len() as u64 > room {
            return Err(io::Error::other(format!(
                "blob {} is longer than its {} bytes",
                self.descriptor.digest, self.descriptor.size
            )));
        }
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A blob on its way out: hashes what it gives.
#[derive(Debug)]
pub struct BlobReader {
    pub(super) file: File,
    pub(super) hasher: Sha256,
    pub(super) read: u64,
    pub(super) descriptor: Descriptor,
}

impl BlobReader {
    /// What it reads.
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Hashes what was not consumed, then says whether all bytes were those of the descriptor.
    /// Whatever was made of them must be thrown away on an error.
    pub fn finish(mut self) -> Result<(), StoreError> {
        let mut rest = vec![0; 64 * 1024];
        // One byte more than promised is enough to know.
        while self.read <= self.descriptor.size {
            match self.read(&mut rest) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let path = self.descriptor.digest.to_string();
                    return Err(StoreError::Io { what: "cannot read", path, source });
                }
            }
        }
        judge(&self.descriptor, self.read, Digest::from_bytes(self.hasher.finalize().into()))
    }
}

impl Read for BlobReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        // A file longer than its descriptor is given away for one byte only; `finish` names it.
        let room = (self.descriptor.size + 1).saturating_sub(self.read);
        let want = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let n = self.file.read(&mut bytes[..want])?;
        self.hasher.update(&bytes[..n]);
        self.read += n as u64;
        Ok(n)
    }
}

fn judge(want: &Descriptor, size: u64, found: Digest) -> Result<(), StoreError> {
    let why = if size != want.size {
        let more = if size > want.size { "more than " } else { "" };
        format!("{more}{} bytes, want {}", size.min(want.size), want.size)
    } else if found == want.digest {
        return Ok(());
    } else {
        format!("its digest is {found}")
    };
    Err(StoreError::Damaged { want: want.digest, why })
}
