//! Where a signer's socket lies: made with its mode, removed when it ends.

use std::{
    io::ErrorKind,
    os::unix::{fs::FileTypeExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::stat::{Mode, umask},
    unistd::{Gid, chown},
};
use tokio::net::UnixListener;

/// A listening socket, whose file goes with it.
#[derive(Debug)]
pub struct Place {
    /// Where callers come in.
    pub listener: UnixListener,
    path: PathBuf,
}

impl Place {
    /// Makes the socket: for its owner alone, or for a group, too.
    ///
    /// # Errors
    /// When something else is there, or another signer listens there.
    pub fn new(path: &Path, group: Option<Gid>) -> anyhow::Result<Self> {
        let shown = path.display();
        match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| shown.to_string()),
            Ok(found) if !found.file_type().is_socket() => {
                bail!("{shown}: something else is there; name a path for a socket");
            }
            // What a signer that was killed left behind.
            Ok(_) if UnixStream::connect(path).is_err() => std::fs::remove_file(path)?,
            Ok(_) => bail!("{shown}: another signer listens there"),
        }
        // Never open to others, not even until a chmod.
        let before = umask(Mode::from_bits_truncate(if group.is_some() { 0o117 } else { 0o177 }));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.with_context(|| format!("{shown}: no socket can be made there"))?;
        let place = Self { listener, path: path.to_owned() };
        if group.is_some() {
            chown(path, None, group).with_context(|| format!("{shown}: not given to the group"))?;
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}
