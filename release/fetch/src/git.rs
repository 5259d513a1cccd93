//! A git command line that obeys nobody but its arguments: no hooks, no prompts, no system or
//! user configuration, and only the transports that the URL calls for.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

/// Largest output of a git command that is kept (bytes).
const MAX_OUTPUT: usize = 1024 * 1024;

/// Why a git command gave no result.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git itself is missing.
    #[error("git cannot be started ({0}); is it installed?")]
    Start(std::io::Error),
    /// It took too long and was ended.
    #[error("git took longer than {} s", .0.as_secs())]
    Slow(Duration),
    /// It failed and said this.
    #[error("git: {0}")]
    Failed(String),
    /// It printed more than any answer has.
    #[error("git printed more than {MAX_OUTPUT} bytes")]
    TooMuch,
}

/// Whether a URL is a place on this machine; only then git may use its `file` transport.
pub fn is_local(url: &str) -> bool {
    url.starts_with('/') || url.starts_with("file://") || url.starts_with('.')
}

/// A git command in `dir` that may talk to `url`.
pub fn command(url: &str, dir: &Path) -> Command {
    let mut command = Command::new("git");
    let allowed = if is_local(url) { "file" } else { "https:ssh:http:git" };
    command
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ALLOW_PROTOCOL", allowed)
        .env("GIT_NO_LAZY_FETCH", "1")
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"])
        // A bare repository that belongs to another user is where tags are pushed to.
        .args(["-c", "safe.directory=*", "-c", "gc.auto=0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for name in ["SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "SSL_CERT_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs a git command to its end and gives what it printed.
pub async fn run(mut command: Command, limit: Duration) -> Result<Vec<u8>, GitError> {
    let child = command.spawn().map_err(GitError::Start)?;
    let output = tokio::time::timeout(limit, child.wait_with_output())
        .await
        .map_err(|_| GitError::Slow(limit))?
        .map_err(GitError::Start)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).take(5).collect();
        return Err(GitError::Failed(said.join("; ")));
    }
    if output.stdout.len() > MAX_OUTPUT {
        return Err(GitError::TooMuch);
    }
    Ok(output.stdout)
}
