//! Giving up who we are: user 65532, no groups, no capabilities, checked afterwards.

use std::fs::File;
use std::io::Write as _;

use anyhow::{Context as _, ensure};
use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, getresgid, getresuid, setgroups, setresgid, setresuid};

use super::JAIL_UID;

/// For root of the host: changes the user. Leaving user 0 takes every capability along.
pub(super) fn drop_root() -> anyhow::Result<()> {
    let (uid, gid) = (Uid::from_raw(JAIL_UID), Gid::from_raw(JAIL_UID));
    setgroups(&[]).context("leaving the groups failed")?;
    setresgid(gid, gid, gid).context("changing the group failed")?;
    setresuid(uid, uid, uid).context("changing the user failed")?;
    ensure!(setresuid(Uid::from_raw(0), uid, uid).is_err(), "the way back to root is open");
    check()
}

/// For any other user: a second user namespace, in which the only user is 65532. It still has
/// capabilities over an empty world of its own, and executing the program ends these as well.
pub(super) fn drop_mapped(proc: &File) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER).context("the second user namespace failed")?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{JAIL_UID} 0 1")),
        ("gid_map", format!("{JAIL_UID} 0 1")),
    ] {
        let fd = openat(proc, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        File::from(fd)
            .write_all(text.as_bytes())
            .with_context(|| format!("writing {file} failed"))?;
    }
    check()
}

fn check() -> anyhow::Result<()> {
    let (users, groups) = (getresuid()?, getresgid()?);
    let users = [users.real, users.effective, users.saved].map(Uid::as_raw);
    let groups = [groups.real, groups.effective, groups.saved].map(Gid::as_raw);
    ensure!(users == [JAIL_UID; 3] && groups == [JAIL_UID; 3], "still user {users:?}, {groups:?}");
    Ok(())
}
