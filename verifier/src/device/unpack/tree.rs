//! The directory a layer is unpacked into, reached through descriptors only.
//!
//! Every path is walked from the root's descriptor, one component at a time, never through a
//! symbolic link: `openat2` with `RESOLVE_NO_SYMLINKS` would say the same in one call, but old
//! vehicle kernels (4.9) lack it, and one way is easier to trust than two. Nothing but this module
//! touches the file system during unpacking. The tree is private (0700 above it) and has one
//! writer, so what was looked at is what is changed.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
    rc::Rc,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::{
        stat::{FileStat, Mode, SFlag, fchmod, fstatat, futimens, mkdirat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat},
};

use super::{
    Fail, Rule,
    path::EntryPath,
    tape::{Entry, Tape},
};

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Longest target of a symbolic link (`PATH_MAX` with its NUL).
const MAX_TARGET: usize = 4095;

#[derive(Clone, Copy, Debug)]
struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// What one layer brought so far: whiteouts spare it, and a second entry of a name is refused.
pub(super) type Seen = HashSet<Vec<u8>>;

/// The root of the unpacked image.
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// Whether owners are set: only root may.
    owners: bool,
    /// Directories get their final mode at the end: one without write permission is filled first.
    dirs: BTreeMap<EntryPath, Meta>,
    /// The directory last used: entries of one directory mostly follow each other.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Tree {
    /// Takes an empty directory.
    pub(super) fn open(root: &Path) -> Result<Self, Fail> {
        let fd = nix::fcntl::open(root, DIRECTORY, Mode::empty())
            .map_err(|e| Fail::io("cannot open the directory to unpack to", e.into()))?;
        let owners = nix::unistd::geteuid().is_root();
        Ok(Self { root: Rc::new(fd), owners, dirs: BTreeMap::new(), last: None })
    }

    /// The directory at `parent` (joined bytes), made where it is missing.
    fn directory(&mut self, parent: &[u8], make: bool) -> Result<Rc<OwnedFd>, Fail> {
        if let Some((path, fd)) = &self.last
            && path == parent
        {
            return Ok(Rc::clone(fd));
        }
        let mut fd = Rc::clone(&self.root);
        let mut walked = EntryPath::parse(b".")?;
        for part in parent.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            let name = OsStr::from_bytes(part);
            walked = walked.child(part);
            let next = match openat(&*fd, name, DIRECTORY, Mode::empty()) {
                Err(Errno::ENOENT) if make => {
                    mkdirat(&*fd, name, Mode::S_IRWXU).map_err(io("cannot make a directory"))?;
                    self.dirs.insert(walked.clone(), Meta { mode: 0o755, uid: 0, gid: 0 });
                    openat(&*fd, name, DIRECTORY, Mode::empty())
                }
                other => other,
            };
            fd = Rc::new(next.map_err(|errno| match errno {
                // Linux answers ENOTDIR for a link when both flags are given, ELOOP elsewhere.
                Errno::ELOOP | Errno::ENOTDIR => {
                    Rule::ThroughLink(super::shown(walked.bytes())).into()
                }
                Errno::ENOENT => Rule::Missing(super::shown(walked.bytes())).into(),
                errno => Fail::io("cannot open a directory", errno.into()),
            })?);
        }
        self.last = Some((parent.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Makes room for an entry: what a lower layer has under that name goes, what this layer
    /// brought is a conflict.
    fn clear(&mut self, dir: &OwnedFd, path: &EntryPath, seen: &Seen) -> Result<(), Fail> {
        if self.remove(dir, path, seen)? {
            return Err(Rule::Conflict.into());
        }
        Ok(())
    }

    /// Removes what lower layers have at `path`; true when something of this layer stays.
    fn remove(&mut self, dir: &OwnedFd, path: &EntryPath, seen: &Seen) -> Result<bool, Fail> {
        let name = OsStr::from_bytes(path.split().1);
        let Some(stat) = lookup(dir, name)? else { return Ok(false) };
        let mine = seen.contains(path.bytes());
        if !is(&stat, SFlag::S_IFDIR) {
            if !mine {
                unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).map_err(io("cannot remove"))?;
            }
            return Ok(mine);
        }
        let fd =
            openat(dir, name, DIRECTORY, Mode::empty()).map_err(io("cannot open a directory"))?;
        let kept = self.empty(&fd, path, seen)? || mine;
        if !kept {
            self.last = None;
            self.dirs.remove(path);
            unlinkat(dir, name, UnlinkatFlags::RemoveDir).map_err(io("cannot remove"))?;
        }
        Ok(kept)
    }

    fn empty(&mut self, fd: &OwnedFd, path: &EntryPath, seen: &Seen) -> Result<bool, Fail> {
        let mut kept = false;
        for name in names(fd)? {
            kept |= self.remove(fd, &path.child(name.as_bytes()), seen)?;
        }
        Ok(kept)
    }

    /// `.wh.NAME`.
    pub(super) fn whiteout(&mut self, path: &EntryPath, seen: &Seen) -> Result<(), Fail> {
        match self.directory(path.split().0, false) {
            // Nothing below has it: nothing to hide.
            Err(Fail::Rule(Rule::Missing(_))) => Ok(()),
            Err(fail) => Err(fail),
            Ok(dir) => self.remove(&dir, path, seen).map(drop),
        }
    }

    /// `.wh..wh..opq`.
    pub(super) fn opaque(&mut self, path: &EntryPath, seen: &Seen) -> Result<(), Fail> {
        let dir = self.directory(path.bytes(), true)?;
        self.empty(&dir, path, seen).map(drop)
    }

    /// A directory: merged with the one below, or put in the place of what is there.
    pub(super) fn dir(&mut self, path: &EntryPath, entry: &Entry, seen: &Seen) -> Result<(), Fail> {
        // Sticky is harmless and /tmp wants it; setgid would hand a group on.
        let meta = Meta { mode: entry.mode & 0o1777, uid: entry.uid, gid: entry.gid };
        if !path.is_root() {
            let dir = self.directory(path.split().0, true)?;
            let name = OsStr::from_bytes(path.split().1);
            if !lookup(&dir, name)?.is_some_and(|stat| is(&stat, SFlag::S_IFDIR)) {
                self.clear(&dir, path, seen)?;
                mkdirat(&*dir, name, Mode::S_IRWXU).map_err(io("cannot make a directory"))?;
            }
        }
        self.dirs.insert(path.clone(), meta);
        Ok(())
    }

    /// A file with the content that comes next on the tape.
    pub(super) fn file<R: std::io::Read>(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        seen: &Seen,
        tape: &mut Tape<R>,
        buffer: &mut [u8],
    ) -> Result<(), Fail> {
        let dir = self.directory(path.split().0, true)?;
        self.clear(&dir, path, seen)?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let name = OsStr::from_bytes(path.split().1);
        let fd = openat(&*dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(io("cannot make a file"))?;
        let mut file = File::from(fd);
        tape.copy(&mut file, buffer)?;
        if self.owners && (entry.uid, entry.gid) != (0, 0) {
            fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .map_err(io("cannot set the owner"))?;
        }
        fchmod(&file, Mode::from_bits_truncate(entry.mode & 0o777))
            .map_err(io("cannot set the mode"))?;
        let time = TimeSpec::new(entry.mtime, 0);
        futimens(&file, &time, &time).map_err(io("cannot set the time"))
    }

    /// A symbolic link. Its target is never looked at: the container resolves it inside its root.
    pub(super) fn symlink(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        seen: &Seen,
    ) -> Result<(), Fail> {
        if entry.link.is_empty() || entry.link.len() > MAX_TARGET || entry.link.contains(&0) {
            return Err(Rule::Link("its target is empty, too long, or contains NUL").into());
        }
        let dir = self.directory(path.split().0, true)?;
        self.clear(&dir, path, seen)?;
        let name = OsStr::from_bytes(path.split().1);
        symlinkat(OsStr::from_bytes(&entry.link), &*dir, name).map_err(io("cannot make a link"))?;
        if self.owners && (entry.uid, entry.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fchownat(&*dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(io("cannot set the owner"))?;
        }
        Ok(())
    }

    /// A hard link to a regular file that is there already.
    pub(super) fn hard_link(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        seen: &Seen,
    ) -> Result<(), Fail> {
        let target = EntryPath::parse(&entry.link)?;
        if target == *path {
            return Err(Rule::Link("it names itself").into());
        }
        let from = self.directory(target.split().0, false)?;
        let from_name = OsStr::from_bytes(target.split().1);
        match lookup(&from, from_name)? {
            Some(stat) if is(&stat, SFlag::S_IFREG) => {}
            Some(_) => return Err(Rule::Link("its target is no regular file").into()),
            None => return Err(Rule::Link("its target is not in the image").into()),
        }
        let dir = self.directory(path.split().0, true)?;
        self.clear(&dir, path, seen)?;
        match linkat(&*from, from_name, &*dir, OsStr::from_bytes(path.split().1), AtFlags::empty())
        {
            // Making room took the target away: it lay below the name of the link.
            Err(Errno::ENOENT) => Err(Rule::Link("it replaces its own target").into()),
            other => other.map_err(io("cannot make a hard link")),
        }
    }

    /// Makes sure that something can be mounted at `path`: a directory, or an empty file.
    pub(super) fn mount_point(&mut self, path: &EntryPath, directory: bool) -> Result<(), Fail> {
        let dir = self.directory(path.split().0, true)?;
        let name = OsStr::from_bytes(path.split().1);
        let kind = if directory { SFlag::S_IFDIR } else { SFlag::S_IFREG };
        match lookup(&dir, name)? {
            Some(stat) if is(&stat, kind) => Ok(()),
            Some(_) => Err(Rule::MountPoint(if directory { "directory" } else { "file" }).into()),
            None if directory => {
                self.dirs.insert(path.clone(), Meta { mode: 0o755, uid: 0, gid: 0 });
                mkdirat(&*dir, name, Mode::S_IRWXU).map_err(io("cannot make a directory"))
            }
            None => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                openat(&*dir, name, flags, Mode::from_bits_truncate(0o444))
                    .map(drop)
                    .map_err(io("cannot make a file"))
            }
        }
    }

    /// Gives the directories their owners and modes, deepest first.
    pub(super) fn finish(mut self) -> Result<(), Fail> {
        self.last = None;
        for (path, meta) in std::mem::take(&mut self.dirs).iter().rev() {
            let fd = self.directory(path.bytes(), false)?;
            self.last = None;
            if self.owners {
                fchown(&*fd, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
                    .map_err(io("cannot set the owner"))?;
            }
            fchmod(&*fd, Mode::from_bits_truncate(meta.mode)).map_err(io("cannot set the mode"))?;
        }
        Ok(())
    }
}

fn io(what: &'static str) -> impl FnOnce(Errno) -> Fail {
    move |errno| Fail::io(what, errno.into())
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

fn lookup(dir: &OwnedFd, name: &OsStr) -> Result<Option<FileStat>, Fail> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Fail::io("cannot look at", errno.into())),
    }
}

/// The names in an open directory. The link under /proc leads to the descriptor, not to a path.
fn names(fd: &OwnedFd) -> Result<Vec<OsString>, Fail> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let list = || -> std::io::Result<Vec<OsString>> {
        std::fs::read_dir(path)?
            .map(|e| Ok(OsString::from_vec(e?.file_name().into_vec())))
            .collect()
    };
    list().map_err(|e| Fail::io("cannot list a directory", e))
}
