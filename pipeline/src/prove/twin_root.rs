//! A root for the twin: its own binary, the host's libraries, and nothing else of the host.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Where the twin's binary appears.
pub(super) const TWIN: &str = "/pitlane-twin";
/// Where programs and libraries of a system lie; older ones keep some outside of `/usr`.
const SYSTEM: &[&str] = &["/usr", "/lib", "/lib64", "/lib32"];

/// Makes the empty places in `root` and gives the binds that fill them (host, inside).
pub(super) fn lay_out(root: &Path, twin: &Path) -> io::Result<Vec<(PathBuf, &'static str)>> {
    open_dir(root)?;
    for dir in ["run", "out", "tmp"] {
        open_dir(&root.join(dir))?;
    }
    fs::write(root.join(&TWIN[1..]), [])?;
    let mut binds = vec![(twin.to_owned(), TWIN)];
    for &path in SYSTEM {
        let place = root.join(&path[1..]);
        match fs::symlink_metadata(path) {
            // Merged systems: /lib is a link to usr/lib, and stays one.
            Ok(found) if found.is_symlink() => symlink(fs::read_link(path)?, place)?,
            Ok(found) if found.is_dir() => {
                open_dir(&place)?;
                binds.push((PathBuf::from(path), path));
            }
            _ => {}
        }
    }
    Ok(binds)
}

/// A directory that every user may read, whatever our umask.
fn open_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// A directory that the jailed user may write: inside of one that only we may enter.
pub(super) fn shared_dir(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}
