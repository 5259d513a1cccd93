//! Stage 2: process 1 of the new world closes the jail behind itself and becomes the program.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, bail, ensure};
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stdin, execve, getpid, sethostname, setsid, write};

use super::{Isolation, JAIL_UID, JailArgs, StatusLine};
use super::{files, limits, outside, privileges, syscalls};

/// All of the program's environment: nothing of the caller's gets in. The first keeps ONNX
/// Runtime from writing to disk and looking for a network.
const ENVIRONMENT: &[&str] =
    &["ORT_DISABLE_TELEMETRY=1", "PATH=/usr/bin:/bin", "HOME=/nonexistent", "LANG=C.UTF-8"];

pub(super) fn run(args: &JailArgs, stage: &str) -> anyhow::Result<Infallible> {
    let Some((user, network)) = stage.split_once(' ') else { bail!("stage 2 was not told who") };
    ensure!(getpid().as_raw() == 1, "stage 2 is not process 1: start `pitlane jail` without STAGE");
    let ours = fs::read_link("/proc/self/ns/net").context("/proc is not mounted")?;
    ensure!(ours.to_string_lossy() != network, "the network is still the host's");
    outside::close_inherited_files()?;

    setsid().context("leaving the terminal failed")?;
    sethostname("pitlane").context("renaming the host inside failed")?;
    // First in line when memory runs out; raising this is always permitted.
    fs::write("/proc/self/oom_score_adj", "1000").context("writing oom_score_adj failed")?;
    umask(Mode::from_bits_truncate(0o022));
    let null = File::open("/dev/null").context("the host has no /dev/null")?;
    let proc = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).bits())
        .open("/proc/self")?;

    files::enter(args)?;
    match user {
        "root" => privileges::drop_root()?,
        "mapped" => privileges::drop_mapped(&proc)?,
        _ => bail!("stage 2 was told to drop `{user}`"),
    }
    drop(proc);
    prctl::set_no_new_privs().context("no_new_privs failed")?;
    // After the change of user, which takes it off.
    prctl::set_pdeathsig(Signal::SIGKILL).context("binding to stage 1 failed")?;
    limits::set(args)?;
    let landlock = files::landlock(args)?;
    let command = args.command.iter().map(|arg| CString::new(arg.as_str()));
    let command = command.collect::<Result<Vec<_>, _>>().context("a zero byte in an argument")?;
    let environment: Vec<CString> =
        ENVIRONMENT.iter().map(|&entry| CString::new(entry)).collect::<Result<_, _>>()?;
    syscalls::filter()?;

    let namespaces = ["network", "mount", "process", "ipc", "uts"].map(str::to_owned).to_vec();
    let jail = Isolation { uid: JAIL_UID, namespaces, seccomp: true, landlock };
    let mut line = serde_json::to_vec(&StatusLine { jail })?;
    line.push(b'\n');
    shake_hands()?;
    io::stdout().write_all(&line)?;
    io::stdout().flush()?;
    dup2_stdin(&null).context("closing standard input failed")?;
    drop(null);
    execve(&command[0], &command, &environment)
        .with_context(|| format!("`{}` could not be started inside", args.command[0]))
}

/// See stage 1: from here on, its death is ours.
fn shake_hands() -> anyhow::Result<()> {
    write(io::stdin().as_fd(), b"r").context("stage 1 is gone")?;
    let mut go = [0];
    io::stdin().read_exact(&mut go).context("stage 1 is gone")
}
