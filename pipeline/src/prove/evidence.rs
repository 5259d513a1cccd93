//! Carries what a jailed twin wrote to the evidence: bounded, and never through a link.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Reads a file that an untrusted program may have made. None if there is no such file.
pub(super) fn read(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    // Without O_NONBLOCK a pipe in the file's place would keep us waiting.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file: File = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if !file.metadata()?.is_file() {
        return refuse("not a plain file".into());
    }
    let mut bytes = vec![];
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return refuse(format!("larger than {max} bytes"));
    }
    Ok(Some(bytes))
}

/// Copies such a file to the evidence; gives its new path and bytes, none if there is no file.
pub(super) fn keep(from: &Path, to: &Path, max: u64) -> io::Result<Option<(PathBuf, Vec<u8>)>> {
    let Some(bytes) = read(from, max)? else { return Ok(None) };
    fs::write(to, &bytes)?;
    Ok(Some((to.to_owned(), bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_pipes_and_giants_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("secret"), "key").unwrap();
        std::os::unix::fs::symlink(at("secret"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(at("dir")).unwrap();
        assert_eq!(read(&at("secret"), 3).unwrap().unwrap(), b"key");
        assert!(read(&at("absent"), 3).unwrap().is_none());
        for name in ["link", "pipe", "dir"] {
            assert!(read(&at(name), 100).is_err(), "{name}");
        }
        assert!(read(&at("secret"), 2).is_err(), "larger than allowed");
    }
}
