//! The few file operations that durable state needs, as a seam: tests record them and replay
//! every power cut.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

/// Operations on the files of one directory.
pub trait Fs {
    /// The content of a file; `None` when it is not there. More than `cap` bytes are an error.
    fn read(&self, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>>;
    /// Creates or replaces a file. Not durable before [`Self::sync`].
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content of a file durable (not its name).
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file another name, replacing what has it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names in the directory durable.
    fn sync_dir(&mut self) -> io::Result<()>;
}

/// A real directory.
#[derive(Clone, Debug)]
pub struct Dir(PathBuf);

impl Dir {
    /// Makes the directory (0700) where it is missing.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        super::store::private_dir(&path)?;
        Ok(Self(path))
    }
}

impl Fs for Dir {
    fn read(&self, name: &str, cap: usize) -> io::Result<Option<Vec<u8>>> {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(cap as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > cap {
            return Err(io::Error::other(format!("{name} is longer than {cap} bytes")));
        }
        Ok(Some(bytes))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags);
        options.open(self.0.join(name))?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        File::open(self.0.join(name))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        super::store::sync_dir(&self.0)
    }
}
