//! A program in the jail, as seen by the service: started, watched, heard out within bounds, and
//! gone when the handle is.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::ProveError;
use super::jail::{Isolation, StatusLine};
use super::scenario::Limits;

/// What is kept of a program's last words (bytes).
const TAIL: usize = 32 * 1024;
/// Longest line that is waited for (bytes): the jail's, and the twin's address.
const MAX_LINE: u64 = 4096;
/// How long the jail may take to close, and a program to say its first line.
const FIRST_WORDS: Duration = Duration::from_secs(30);
/// How much longer than the jail's own clock ours runs.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// What to start, and where.
pub(super) struct Cell<'a> {
    /// The binary with the subcommand `jail`.
    pub(super) jail: &'a Path,
    /// What becomes `/`.
    pub(super) root: &'a Path,
    /// Host path, path inside, writable.
    pub(super) binds: Vec<(PathBuf, &'a str, bool)>,
    pub(super) limits: &'a Limits,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
}

/// A running program. Dropping it kills the jail, and with it everything inside.
pub(super) struct Confined {
    child: Child,
    /// Held open: the jail ends when it closes, even if this process is killed.
    _leash: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    /// What holds for the program, by the jail's own word.
    pub(super) isolation: Isolation,
    stderr: JoinHandle<String>,
}

impl Confined {
    /// Starts the program and waits until the jail is closed around it.
    pub(super) async fn start(cell: Cell<'_>) -> Result<Self, ProveError> {
        let limits = cell.limits;
        let mut command = Command::new(cell.jail);
        command.arg("jail").arg("--root").arg(cell.root).arg("--leash");
        for (host, inside, writable) in &cell.binds {
            command.arg(if *writable { "--bind-rw" } else { "--bind" }).arg(host).arg(inside);
        }
        for (option, value) in [
            ("--wall", limits.wall_seconds.saturating_add(GRACE.as_secs())),
            ("--cpu", limits.cpu_seconds),
            ("--memory", limits.memory_mib),
            ("--processes", limits.processes),
            ("--open-files", limits.open_files),
            ("--file-size", limits.file_size_mib),
        ] {
            command.arg(option).arg(value.to_string());
        }
        command.arg("--").args(&cell.command);
        command.env_clear().current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| ProveError::Start {
            program: cell.jail.display().to_string(),
            source,
        })?;
        let pipes = (child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = pipes else { unreachable!("both were asked for") };
        let leash = child.stdin.take();
        let stderr = tokio::spawn(tail(stderr));
        let mut stdout = BufReader::new(stdout);
        let line = first_line(&mut stdout).await;
        let closed = line.as_deref().map(serde_json::from_str::<StatusLine>);
        if let Some(Ok(StatusLine { jail: isolation })) = closed {
            return Ok(Self { child, _leash: leash, stdout: Some(stdout), isolation, stderr });
        }
        drop(child.start_kill());
        drop(timeout(GRACE, child.wait()).await);
        drop(stdout);
        Err(ProveError::Jail { said: said(stderr).await })
    }

    /// The program's next line on standard output; none when it ends or keeps silent.
    pub(super) async fn line(&mut self) -> Option<String> {
        first_line(self.stdout.as_mut()?).await
    }

    /// From now on, output is read and dropped, so that the program never waits for a reader.
    pub(super) fn ignore_output(&mut self) {
        if let Some(mut stdout) = self.stdout.take() {
            tokio::spawn(async move { tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await });
        }
    }

    /// Waits for the end.
    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Gives it some time to end by itself, then ends it. The status is none if it was killed.
    pub(super) async fn end(mut self, patience: Duration) -> (Option<ExitStatus>, String) {
        let status = if let Ok(status) = timeout(patience, self.child.wait()).await {
            status.ok()
        } else {
            drop(self.child.start_kill());
            drop(timeout(GRACE, self.child.wait()).await);
            None
        };
        (status, said(self.stderr).await)
    }
}

async fn said(task: JoinHandle<String>) -> String {
    let abort = task.abort_handle();
    if let Ok(Ok(text)) = timeout(GRACE, task).await {
        return text;
    }
    abort.abort();
    String::new()
}

async fn first_line(from: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut line = String::new();
    let read = timeout(FIRST_WORDS, from.take(MAX_LINE).read_line(&mut line)).await;
    match read {
        Ok(Ok(1..)) if line.ends_with('\n') => Some(line),
        _ => None,
    }
}

/// Reads to the end and keeps the last of it, made harmless for terminals and logs.
async fn tail(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept = VecDeque::with_capacity(TAIL);
    let mut block = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut block).await {
        kept.extend(&block[..read]);
        kept.drain(..kept.len().saturating_sub(TAIL));
    }
    let text = String::from_utf8_lossy(kept.make_contiguous()).into_owned();
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}
