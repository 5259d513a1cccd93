//! A child process, heard out within bounds, and gone with all that it started.

use std::{process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

use super::{SandboxError, Status};
use crate::text;

/// What is kept of standard output: its beginning (bytes).
const MAX_STDOUT: usize = 64 * 1024;
/// What is kept of standard error: its end (bytes).
const MAX_STDERR: usize = 16 * 1024;
/// What is shown of it (characters).
const SHOWN: usize = 600;
/// How long pipes may stay open after the end, by something that it left behind.
const GRACE: Duration = Duration::from_secs(2);

/// What came of a child.
pub(super) struct Captured {
    pub(super) status: Status,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

/// Kills a whole group when dropped: the child, and what it started.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already is as good.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs a command to its end, at most for `wall`. With `leash` its standard input stays open until
/// then, and nothing is in it; else it is empty.
pub(super) async fn capture(
    mut command: Command,
    wall: Duration,
    leash: bool,
) -> Result<Captured, SandboxError> {
    command.process_group(0).kill_on_drop(true);
    command.stdin(if leash { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.as_std().get_program().into();
    let mut child = command.spawn().map_err(|source| SandboxError::Start { program, source })?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let group = Group(id.map(Pid::from_raw));
    let held = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut stdout = tokio::spawn(head(stdout));
    let mut stderr = tokio::spawn(tail(stderr));
    let status = match timeout(wall, child.wait()).await {
        Ok(Ok(status)) => status.code().map_or(Status::Killed, Status::Exited),
        Ok(Err(_)) => Status::Killed,
        Err(_) => Status::TimedOut,
    };
    drop((held, group));
    if status == Status::TimedOut {
        // Reaped, so that nothing is left.
        let _ = timeout(GRACE, child.wait()).await;
    }
    let said = timeout(GRACE, &mut stdout).await;
    stdout.abort();
    let complaint = timeout(GRACE, &mut stderr).await;
    stderr.abort();
    let complaint = complaint.ok().and_then(Result::ok).unwrap_or_default();
    Ok(Captured {
        status,
        stdout: said.ok().and_then(Result::ok).unwrap_or_default(),
        stderr: text::tail(&complaint, SHOWN),
    })
}

/// Keeps the beginning, and reads on, so that the program never waits for a reader.
async fn head(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut kept, mut block) = (Vec::new(), [0; 4096]);
    let Some(mut from) = from else { return kept };
    while let Ok(read @ 1..) = from.read(&mut block).await {
        let room = MAX_STDOUT - kept.len();
        kept.extend_from_slice(&block[..read.min(room)]);
    }
    kept
}

/// Keeps the end.
async fn tail(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut kept, mut block) = (Vec::new(), [0; 4096]);
    let Some(mut from) = from else { return kept };
    while let Ok(read @ 1..) = from.read(&mut block).await {
        kept.extend_from_slice(&block[..read]);
        if kept.len() > 2 * MAX_STDERR {
            kept.drain(..kept.len() - MAX_STDERR);
        }
    }
    kept
}
