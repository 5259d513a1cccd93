//! Stage 1: leaves the host's namespaces, starts stage 2, and keeps the clock and the leash.

use std::convert::Infallible;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid};

use super::{EXIT_WALL, JailArgs, STAGE};

/// What the program must not share with the host.
const WORLD: CloneFlags = CloneFlags::CLONE_NEWNET
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS);
/// Standard error.
const LAST_STANDARD_STREAM: i32 = 2;
/// How often the child and the clock are looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long stage 2 may take to close the jail: a few system calls.
const CLOSING: Duration = Duration::from_secs(20);

pub(super) fn run(args: &JailArgs) -> anyhow::Result<Infallible> {
    close_inherited_files()?;
    let network = fs::read_link("/proc/self/ns/net").context("/proc is not mounted")?;
    let user = leave_the_host()?;
    let (ours, theirs) = UnixStream::pair()?;
    let started = Instant::now();
    let mut child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env_clear()
        .env(STAGE, format!("{user} {}", network.display()))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .context("starting process 1 of the jail failed")?;
    shake_hands(&mut child, ours)?;
    if args.leash {
        // No thread can be started any more (its process number would be of another world), so
        // the leash is looked at with the clock.
        let flags = OFlag::from_bits_retain(fcntl(io::stdin(), FcntlArg::F_GETFL)?);
        fcntl(io::stdin(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    let wall = Duration::from_secs(args.wall);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if args.leash && let_go() {
            // Our death is process 1's, and that of all inside.
            end(EXIT_WALL);
        }
        if started.elapsed() >= wall {
            child.kill()?;
            child.wait()?;
            writeln!(io::stderr(), "pitlane jail: killed after {} s of wall time", args.wall)?;
            end(EXIT_WALL);
        }
        std::thread::sleep(TICK);
    };
    end(code(status))
}

/// Whether our caller has closed its end of standard input, or is gone.
fn let_go() -> bool {
    match io::stdin().read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

#[expect(clippy::exit, reason = "stage 1 stands for the program and ends with its exit code")]
fn end(code: i32) -> ! {
    std::process::exit(code)
}

/// The exit code that tells a shell's user the same as the status does.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Stage 2 says when it is bound to die with us; only then may it go on. A stage 2 whose stage 1
/// died before that reads the end of the stream and ends.
fn shake_hands(child: &mut Child, mut ours: UnixStream) -> anyhow::Result<()> {
    ours.set_read_timeout(Some(CLOSING))?;
    let mut ready = [0];
    if ours.read_exact(&mut ready).is_err() {
        drop(child.kill());
        let status = child.wait()?;
        bail!("process 1 of the jail ended with {} before it was closed", code(status));
    }
    ours.write_all(&ready)?;
    Ok(())
}

/// Unshares everything; gives how the user is to be dropped: `root` or `mapped`.
fn leave_the_host() -> anyhow::Result<&'static str> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    if uid.is_root() {
        match unshare(WORLD) {
            Ok(()) => return Ok("root"),
            // Root of a container without CAP_SYS_ADMIN: like any other user.
            Err(Errno::EPERM) => {}
            Err(error) => return Err(anyhow!(error)).context(missing(error)),
        }
    }
    unshare(CloneFlags::CLONE_NEWUSER | WORLD).map_err(|error| anyhow!(missing(error)))?;
    // One user is all that may be mapped without help; capabilities over the new world come along.
    fs::write("/proc/self/setgroups", "deny").context("writing setgroups failed")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("mapping the user failed")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("mapping the group failed")?;
    Ok("mapped")
}

fn missing(error: Errno) -> String {
    format!(
        "this machine gives no network namespace, so a model cannot be run safely ({error}): run \
         the service as root, or allow user namespaces (sysctl user.max_user_namespaces, \
         kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; in a \
         container: a seccomp profile that permits unshare)"
    )
}

/// Closes whatever a careless caller left open beyond the three standard streams.
pub(super) fn close_inherited_files() -> anyhow::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")
        .context("/proc is not mounted")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > LAST_STANDARD_STREAM)
        .collect();
    for fd in open {
        // The one of the listing itself is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}
