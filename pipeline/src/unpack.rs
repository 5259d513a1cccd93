//! A root file system from an image's layers: a candidate's, or a gate's. They are a stranger's, so they
//! are unpacked as the car does it: every path is walked from the root's descriptor, one component at a
//! time, never through a link.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{Mode, SFlag, fchmod, fstatat, mkdirat},
    unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat},
};
use pitlane_release::oci::LAYER_GZIP;

use crate::assemble::Blob;

/// Most entries of all layers together; a desktop has 300 000.
const MAX_ENTRIES: u64 = 500_000;
/// Longest path (bytes), as Linux has it.
const MAX_PATH: usize = 4096;
const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Most bytes of all layers together.
    pub bytes: u64,
    /// What is done about devices and pipes.
    pub devices: Devices,
}

/// What is done about devices and pipes, which are never made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Devices {
    /// The image is refused, as cars refuse it.
    Refused,
    /// They are left out.
    LeftOut,
}

/// Unpacks layers into a new directory at `root`; what was there is removed first.
pub(crate) fn unpack(layers: &[Blob], root: &Path, rules: Rules) -> anyhow::Result<()> {
    if root.exists() {
        std::fs::remove_dir_all(root)?;
    }
    std::fs::create_dir_all(root)?;
    let root = open(root, FOLDER, Mode::empty())?;
    let mut tree = Tree { root, rules, entries: 0, bytes: 0 };
    for blob in layers {
        let reader = blob.open()?;
        let reader: Box<dyn Read> = match blob.descriptor.media_type == LAYER_GZIP {
            true => Box::new(flate2::read::MultiGzDecoder::new(reader)),
            false => reader,
        };
        let layer = blob.descriptor.digest;
        tree.layer(reader).with_context(|| format!("unpacking {layer}"))?;
    }
    Ok(())
}

struct Tree {
    root: OwnedFd,
    rules: Rules,
    entries: u64,
    bytes: u64,
}

impl Tree {
    fn layer(&mut self, reader: impl Read) -> anyhow::Result<()> {
        let mut archive = tar::Archive::new(reader);
        // What this layer brought: its whiteouts are about lower layers.
        let mut own: BTreeSet<PathBuf> = BTreeSet::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            self.entries += 1;
            self.bytes = self.bytes.saturating_add(entry.size());
            ensure!(self.entries <= MAX_ENTRIES, "more than {MAX_ENTRIES} entries");
            let max = self.rules.bytes;
            ensure!(self.bytes <= max, "more than {max} bytes");
            let shown = entry.path_bytes().escape_ascii().to_string();
            self.entry(&mut entry, &mut own).with_context(|| format!("entry `{shown}`"))?;
        }
        Ok(())
    }

    fn entry<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        own: &mut BTreeSet<PathBuf>,
    ) -> anyhow::Result<()> {
        let kind = entry.header().entry_type();
        if kind == tar::EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = plain(&entry.path()?)?;
        let Some(name) = path.file_name() else {
            ensure!(kind.is_dir(), "it is the root, and no directory");
            return Ok(());
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let parent = self.folder(folder)?;
        if name == ".wh..wh..opq" {
            return empty(&parent, folder, own);
        }
        if let Some(gone) = name.as_bytes().strip_prefix(b".wh.") {
            let gone = Path::new(std::ffi::OsStr::from_bytes(gone));
            ensure!(gone.components().count() == 1, "it takes nothing away");
            return remove(&parent, gone, &folder.join(gone), own);
        }
        let mode = Mode::from_bits_truncate(entry.header().mode()? & 0o1777);
        let there = found(&parent, name.as_ref())?;
        if !(kind.is_dir() && there == Some(SFlag::S_IFDIR)) {
            remove(&parent, name.as_ref(), &path, &BTreeSet::new())?;
        }
        match kind {
            tar::EntryType::Directory => {
                if there != Some(SFlag::S_IFDIR) {
                    mkdirat(&parent, name, Mode::S_IRWXU)?;
                }
                // Ours to fill, whatever it says.
                fchmod(openat(&parent, name, FOLDER, Mode::empty())?, mode | Mode::S_IRWXU)?;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                let fd = openat(&parent, name, flags | OFlag::O_NOFOLLOW, Mode::S_IRUSR)?;
                let mut file = File::from(fd);
                io::copy(entry, &mut file)?;
                fchmod(&file, mode & Mode::from_bits_truncate(0o777))?;
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                ensure!(!target.is_empty() && target.len() < MAX_PATH, "a link without a target");
                symlinkat(std::ffi::OsStr::from_bytes(&target), &parent, name)?;
            }
            tar::EntryType::Link => {
                let target = plain(&entry.link_name()?.context("a link without a target")?)?;
                let target_name = target.file_name().context("a link to the root")?;
                let from = self.folder(target.parent().unwrap_or(Path::new("")))?;
                linkat(&from, target_name, &parent, name, AtFlags::empty())
                    .with_context(|| format!("a link to {}", target.display()))?;
            }
            _ if self.rules.devices == Devices::LeftOut => return Ok(()),
            other => bail!("a {other:?} has no place in a car image, cars refuse it"),
        }
        own.insert(path);
        Ok(())
    }

    /// A folder by its path, made where it is missing, never through a link.
    fn folder(&self, path: &Path) -> anyhow::Result<OwnedFd> {
        let mut fd = self.root.try_clone()?;
        for part in path.components() {
            let part = part.as_os_str();
            let next = match openat(&fd, part, FOLDER, Mode::empty()) {
                Err(Errno::ENOENT) => {
                    let mode = Mode::from_bits_truncate(0o755);
                    mkdirat(&fd, part, mode)?;
                    openat(&fd, part, FOLDER, Mode::empty())
                }
                other => other,
            };
            fd = next.with_context(|| {
                format!("its path leads through `{}`, which is no directory", part.display())
            })?;
        }
        Ok(fd)
    }
}

/// Takes away what lower layers have in a folder.
fn empty(fd: &OwnedFd, path: &Path, own: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(below(fd, Path::new("")))? {
        let name = PathBuf::from(entry?.file_name());
        remove(fd, &name, &path.join(&name), own)?;
    }
    Ok(())
}

/// Takes away what lower layers have at a name; what this layer brought there stays.
fn remove(
    parent: &OwnedFd,
    name: &Path,
    path: &Path,
    own: &BTreeSet<PathBuf>,
) -> anyhow::Result<()> {
    match found(parent, name)? {
        None => {}
        _ if own.range(path.to_owned()..).next().is_some_and(|mine| mine.starts_with(path)) => {}
        // Through our own descriptor, and it follows no link.
        Some(SFlag::S_IFDIR) => std::fs::remove_dir_all(below(parent, name))?,
        Some(_) => unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?,
    }
    Ok(())
}

/// The kind of what is at a name.
fn found(parent: &OwnedFd, name: &Path) -> anyhow::Result<Option<SFlag>> {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A path that the standard library understands for a name in an open folder.
fn below(fd: &OwnedFd, name: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())).join(name)
}

/// A path of an archive as names alone: nothing absolute, nothing that leads up.
fn plain(path: &Path) -> anyhow::Result<PathBuf> {
    ensure!(path.as_os_str().len() < MAX_PATH, "its path is too long");
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            _ => bail!("its path leads out of the image"),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pitlane_release::oci::{Descriptor, LAYER_TAR};

    use super::*;
    use crate::assemble::Place;

    /// Kind, path, text or target.
    type Line<'a> = (tar::EntryType, &'a str, &'a str);
    use tar::EntryType as K;

    fn layer(dir: &Path, name: &str, lines: &[Line<'_>]) -> Blob {
        let mut archive = tar::Builder::new(Vec::new());
        for (kind, path, text) in lines {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            let linked = matches!(kind, K::Symlink | K::Link);
            header.set_size(if linked { 0 } else { text.len() as u64 });
            let raw = header.as_old_mut();
            raw.name[..path.len()].copy_from_slice(path.as_bytes());
            if linked {
                raw.linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_cksum();
            archive.append(&header, if linked { &[] } else { text.as_bytes() }).unwrap();
        }
        let bytes = archive.into_inner().unwrap();
        let path = dir.join(name);
        fs::write(&path, &bytes).unwrap();
        Blob { descriptor: Descriptor::of(LAYER_TAR, &bytes), place: Place::File { path } }
    }

    const RULES: Rules = Rules { bytes: 1 << 20, devices: Devices::Refused };

    fn unpacked(layers: &[&[Line<'_>]]) -> (tempfile::TempDir, anyhow::Result<()>) {
        unpacked_by(RULES, layers)
    }

    fn unpacked_by(
        rules: Rules,
        layers: &[&[Line<'_>]],
    ) -> (tempfile::TempDir, anyhow::Result<()>) {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<Blob> =
            layers.iter().enumerate().map(|(n, l)| layer(dir.path(), &n.to_string(), l)).collect();
        let done = unpack(&layers, &dir.path().join("root"), rules);
        (dir, done)
    }

    #[test]
    fn layers_change_what_is_below_them() {
        let (dir, done) = unpacked(&[
            &[
                (K::Directory, "etc/", ""),
                (K::Regular, "etc/a", "one"),
                (K::Regular, "etc/b", "one"),
                (K::Regular, "old/x/y", "one"),
                (K::Symlink, "bin", "usr/bin"),
                (K::Regular, "./usr/bin/sh", "sh"),
                (K::Link, "usr/bin/ash", "usr/bin/sh"),
            ],
            &[
                (K::Regular, "etc/.wh.a", ""),
                (K::Regular, "etc/b", "two"),
                (K::Regular, "old/new", "two"),
                (K::Regular, "old/.wh..wh..opq", ""),
                (K::Regular, ".wh.nothing", ""),
            ],
        ]);
        done.unwrap();
        let root = dir.path().join("root");
        let text = |name: &str| fs::read_to_string(root.join(name)).ok();
        assert_eq!(text("etc/a"), None);
        assert_eq!(text("etc/b").as_deref(), Some("two"));
        assert_eq!((text("old/x/y"), text("old/new")), (None, Some("two".into())));
        assert_eq!(text("bin/ash").as_deref(), Some("sh"));
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(root.join("usr/bin/sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "no set-id bits");
    }

    #[test]
    fn rules_bound_and_leave_out() {
        let lines: &[Line<'_>] = &[(K::Regular, "a", "12345"), (K::Char, "null", "")];
        let rules = |bytes, devices| unpacked_by(Rules { bytes, devices }, &[lines]);
        let (dir, done) = rules(5, Devices::LeftOut);
        done.unwrap();
        assert!(!dir.path().join("root/null").exists());
        assert!(rules(4, Devices::LeftOut).1.is_err(), "too large");
        assert!(rules(5, Devices::Refused).1.is_err(), "a device");
    }

    #[test]
    fn what_leads_out_or_is_no_file_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().to_str().unwrap();
        let cases: [(&str, &[Line<'_>]); 11] = [
            ("leads out", &[(K::Regular, "../x", "")]),
            ("leads out", &[(K::Regular, "/x", "")]),
            ("no directory", &[(K::Symlink, "l", target), (K::Regular, "l/x", "")]),
            ("no directory", &[(K::Symlink, "l", target), (K::Regular, "l/.wh.x", "")]),
            ("no directory", &[(K::Symlink, "l", target), (K::Link, "x", "l/kept")]),
            ("no directory", &[(K::Symlink, "l", target), (K::Regular, "l/.wh..wh..opq", "")]),
            ("leads out", &[(K::Link, "x", "/etc/passwd")]),
            ("leads out", &[(K::Link, "x", "../outside/kept")]),
            ("leads out", &[(K::Regular, "../outside/.wh.kept", "")]),
            ("no place", &[(K::Char, "null", "")]),
            ("no place", &[(K::Fifo, "pipe", "")]),
        ];
        fs::write(outside.path().join("kept"), "kept").unwrap();
        for (want, lines) in cases {
            let (_dir, done) = unpacked(&[lines]);
            let error = format!("{:#}", done.unwrap_err());
            assert!(error.contains(want), "{lines:?}: {error}");
        }
        // A link in the place of a folder is taken away, not followed.
        let (_dir, done) = unpacked(&[
            &[(K::Symlink, "l", target)],
            &[(K::Directory, "l/", ""), (K::Regular, "l/.wh..wh..opq", "")],
        ]);
        done.unwrap();
        let left: Vec<_> = fs::read_dir(outside.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing was written or removed outside");
    }
}
