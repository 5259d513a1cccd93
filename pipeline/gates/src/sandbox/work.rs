//! A program's own folder, and reading from it what a stranger wrote there.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};
use tempfile::TempDir;

/// The folder: anybody may write in it, but only who is shown it can reach it.
#[derive(Debug)]
pub(crate) struct Work {
    // Only ours, so that other users of the host do not reach the one inside.
    _outer: TempDir,
    inner: PathBuf,
}

impl Work {
    pub(crate) fn new() -> io::Result<Self> {
        let outer = tempfile::Builder::new()
            .prefix("pitlane-gate-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()?;
        let inner = outer.path().join("own");
        fs::create_dir(&inner)?;
        // The program inside is another user, whose number is not ours to give files to.
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o777))?;
        Ok(Self { _outer: outer, inner })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.inner
    }

    /// Puts a file there, for the program to read.
    pub(crate) fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.inner.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))
    }

    /// Reads a file that the program left: a regular one, by no link, of at most so many bytes and
    /// one. A link would be followed by us, who may read more than the program.
    pub(crate) fn read(&self, name: &Path, most: usize) -> io::Result<Vec<u8>> {
        let folder = File::open(&self.inner)?;
        let how = OpenHow::new()
            // Not to wait for whoever opens the other end of a pipe.
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .mode(Mode::empty())
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let file = File::from(openat2(&folder, name, how)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_beneath_are_read() {
        let work = Work::new().unwrap();
        work.put("good", "text").unwrap();
        assert_eq!(work.read(Path::new("good"), 100).unwrap(), b"text");
        assert_eq!(work.read(Path::new("good"), 2).unwrap().len(), 3, "more than wanted is seen");
        symlink("/etc/passwd", work.path().join("link")).unwrap();
        symlink("good", work.path().join("inner-link")).unwrap();
        symlink("/etc", work.path().join("folder")).unwrap();
        fs::create_dir(work.path().join("directory")).unwrap();
        let pipe = work.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR).unwrap();
        for bad in [
            "link",
            "inner-link",
            "folder/passwd",
            "../own/good",
            "/etc/passwd",
            "directory",
            "pipe",
            "none",
        ] {
            assert!(work.read(Path::new(bad), 100).is_err(), "{bad}");
        }
    }
}
