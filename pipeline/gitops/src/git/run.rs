//! Runs git: what goes in, what comes out, how long and how much.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use pitlane_fetch::git;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::{Login, yaml::MAX_FILE};

/// Longest a command may take that only reads and writes this machine's disk.
const LOCAL: Duration = Duration::from_secs(30);
/// Longest a clone, fetch or push may take.
const REMOTE: Duration = Duration::from_mins(3);
/// Most bytes taken from a command: the largest file, and what git says around it.
const MAX_OUTPUT: u64 = MAX_FILE as u64 + 256 * 1024;

/// Why git gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum GitFailure {
    /// git could not be started or talked to.
    #[error("git cannot be run ({0}); is it installed?")]
    Start(#[from] std::io::Error),
    /// It took too long and was ended.
    #[error("git {command} took longer than {} s; is the repository reachable?", limit.as_secs())]
    Slow {
        /// The command.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// It said no.
    #[error("git {command}: {said}")]
    Failed {
        /// The command.
        command: String,
        /// What it said, shortened.
        said: String,
    },
    /// It printed more than any answer has.
    #[error("git {0} printed more than {MAX_OUTPUT} bytes")]
    TooMuch(String),
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Whether it succeeded.
    pub ok: bool,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error, its first lines.
    pub said: String,
}

impl Ran {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// git in one directory, talking to one repository.
#[derive(Debug)]
pub(crate) struct Git {
    /// The repository.
    pub url: String,
    /// Where it runs.
    pub dir: PathBuf,
    login: Login,
    started: AtomicU32,
}

impl Git {
    pub(crate) fn new(url: &str, dir: PathBuf, login: Login) -> Self {
        Self { url: url.to_owned(), dir, login, started: AtomicU32::new(0) }
    }

    /// How many were started here, without the ones that git itself starts.
    pub(crate) fn started(&self) -> u32 {
        self.started.load(Ordering::Relaxed)
    }

    /// Runs a command that must succeed.
    pub(crate) async fn must(&self, args: &[&str], input: &[u8]) -> Result<Ran, GitFailure> {
        let ran = self.run(args, input, &[]).await?;
        if ran.ok { Ok(ran) } else { Err(failed(args, ran)) }
    }

    /// Runs a command that may say no.
    pub(crate) async fn run(
        &self,
        args: &[&str],
        input: &[u8],
        variables: &[(&str, &str)],
    ) -> Result<Ran, GitFailure> {
        let name = verb(args);
        let limit = match name.as_str() {
            "clone" | "fetch" | "push" | "ls-remote" => REMOTE,
            _ => LOCAL,
        };
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut command = git::command(&self.url, &self.dir);
        command.env("GIT_LITERAL_PATHSPECS", "1").envs(variables.iter().copied());
        // Only those that talk to the server hear of it.
        if limit == REMOTE {
            command.envs(self.login.variables());
        }
        command.args(args).stdin(std::process::Stdio::piped());
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let work = async {
            let write = async {
                if let Some(mut stdin) = stdin {
                    match stdin.write_all(input).await {
                        // It read what it wanted, and says why by its status.
                        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
                        other => other?,
                    }
                }
                Ok(())
            };
            let much = || GitFailure::TooMuch(name.clone());
            // All at once: a child that fills one pipe while the other is read would hang.
            let (out, said, ()) =
                tokio::try_join!(bounded(stdout, much), bounded(stderr, much), write)?;
            Ok::<_, GitFailure>((child.wait().await?, out, said))
        };
        let slow = |_| GitFailure::Slow { command: name.clone(), limit };
        let (status, out, said) = tokio::time::timeout(limit, work).await.map_err(slow)??;
        let said = String::from_utf8_lossy(&said);
        let said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).take(5).collect();
        let said = said.join("; ").chars().take(600).collect();
        Ok(Ran { ok: status.success(), out, said })
    }
}

/// The failure of a command that said no.
pub(crate) fn failed(args: &[&str], ran: Ran) -> GitFailure {
    GitFailure::Failed { command: verb(args), said: ran.said }
}

/// The command among its arguments: the first that is no option of git itself.
fn verb(args: &[&str]) -> String {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "-c" => drop(rest.next()),
            verb => return verb.to_owned(),
        }
    }
    String::new()
}

/// Reads a pipe to its end; one byte too many is an error, and the child dies with its handle.
async fn bounded(
    pipe: Option<impl AsyncRead + Unpin>,
    much: impl Fn() -> GitFailure,
) -> Result<Vec<u8>, GitFailure> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() as u64 > MAX_OUTPUT { Err(much()) } else { Ok(bytes) }
}
