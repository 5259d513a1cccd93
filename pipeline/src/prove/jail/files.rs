//! What the program sees of the file system: its root read-only, the binds, a small `/tmp`.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{chdir, fchdir, pivot_root};

use super::{JailArgs, Landlock};

/// The program's scratch space: memory that no other limit counts, hence small.
const TMP_OPTIONS: &str = "size=16m,nr_inodes=1024,mode=1777";
/// Newest Landlock rules asked for; older kernels enforce what they know. 6 adds signals and
/// abstract sockets to files (1-3), TCP (4) and devices (5).
const LANDLOCK: ABI = ABI::V6;

/// Builds the new root and pivots into it; afterwards no path leads to the host.
pub(super) fn enter(args: &JailArgs) -> anyhow::Result<()> {
    let root = args.root.canonicalize().with_context(|| named("the root", &args.root))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("making mounts private failed")?;
    let at_root = || Ok(open(&root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?);
    let top = bind(&root, at_root, false)?;
    for (host, inside, writable) in args.binds() {
        let host = host.canonicalize().with_context(|| named("the bind", host))?;
        bind(&host, || resolve(&top, inside), writable)?;
    }
    if let Ok(tmp) = resolve(&top, Path::new("/tmp")) {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), &by_fd(&tmp), Some("tmpfs"), flags, Some(TMP_OPTIONS))
            .context("mounting /tmp failed")?;
    }
    fchdir(&top)?;
    // The old root lands on top of the new one and is taken off, for good.
    pivot_root(".", ".").context("changing the root failed")?;
    umount2(".", MntFlags::MNT_DETACH).context("taking off the host's files failed")?;
    chdir("/")?;
    Ok(())
}

fn named(what: &str, path: &Path) -> String {
    format!("{what}: `{}`", path.display())
}

/// A path that mount(2) understands for an open file.
fn by_fd(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Opens a path of the root without ever leaving it: a link in an image may point anywhere.
fn resolve(root: impl AsFd, inside: &Path) -> anyhow::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(root, inside, how)?)
}

/// Mounts `from` on a place, without devices and set-user-id programs, read-only unless writable.
/// The place is opened twice, since the first file stays below the mount; gives the second.
fn bind(
    from: &Path,
    place: impl Fn() -> anyhow::Result<OwnedFd>,
    writable: bool,
) -> anyhow::Result<OwnedFd> {
    let none = None::<&str>;
    let below = place().with_context(|| named("the root has no place for the bind", from))?;
    mount(Some(from), &by_fd(&below), none, MsFlags::MS_BIND, none)
        .with_context(|| named("binding failed", from))?;
    let mounted = place()?;
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if !writable {
        flags |= MsFlags::MS_RDONLY;
    }
    // In a user namespace, what the host's mount has locked must be asked for again.
    let host = fstatvfs(&mounted)?.flags();
    for (has, want) in [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if host.contains(has) {
            flags |= want;
        }
    }
    mount(none, &by_fd(&mounted), none, flags, none)
        .with_context(|| named("closing the bind failed", from))?;
    Ok(mounted)
}

/// A second fence, inside the new root: writing only to `/tmp` and the writable binds, no TCP, no
/// signals or abstract sockets to anyone outside.
pub(super) fn landlock(args: &JailArgs) -> anyhow::Result<Landlock> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::from_read(LANDLOCK)))?;
    let writable = args.binds().filter(|(_, _, writable)| *writable).map(|(_, inside, _)| inside);
    for path in writable.chain([Path::new("/tmp")]) {
        let Ok(fd) = PathFd::new(path) else { continue };
        rules = rules.add_rule(PathBeneath::new(fd, AccessFs::from_all(LANDLOCK)))?;
    }
    let status =
        rules.restrict_self().map_err(|error| anyhow!(error)).context("Landlock failed")?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Partial,
        RulesetStatus::NotEnforced => Landlock::None,
    })
}
