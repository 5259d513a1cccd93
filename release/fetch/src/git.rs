//! A git command line that obeys nobody but its arguments: no hooks, no prompts, no system or
//! user configuration, and only the transports that the URL calls for.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

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
    #[error("git printed more than {0} bytes")]
    TooMuch(usize),
}

/// What git says when a server could not be talked to, or broke off, or was overloaded.
const PASSES: [&str; 18] = [
    "Could not resolve host",
    "Couldn't connect to server",
    "Failed to connect",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Operation timed out",
    "Operation too slow",
    "Network is unreachable",
    "No route to host",
    "Temporary failure",
    "early EOF",
    "the remote end hung up unexpectedly",
    "unexpected disconnect",
    "bad pack header",
    "repository corruption on the remote side",
    "The requested URL returned error: 5",
    "The requested URL returned error: 429",
];

impl GitError {
    /// Whether the same may succeed later without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Slow(_) => true,
            Self::Failed(said) => PASSES.iter().any(|word| said.contains(word)),
            Self::Start(_) | Self::TooMuch(_) => false,
        }
    }
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
        // Links in a clone become plain files, so that none leads out of it.
        .args(["-c", "core.symlinks=false"])
        // git's own helpers outlive it; a server that says nothing ends them by themselves.
        .args(["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=20"])
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
pub async fn run(command: Command, limit: Duration) -> Result<Vec<u8>, GitError> {
    run_for(command, limit, MAX_OUTPUT).await
}

/// The same for one that may print more: at most `max` bytes.
pub async fn run_for(
    mut command: Command,
    limit: Duration,
    max: usize,
) -> Result<Vec<u8>, GitError> {
    let mut child = command.spawn().map_err(GitError::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        // Both at once: a child that fills one pipe while the other is read would hang.
        let (out, said) = tokio::try_join!(bounded(stdout, max), bounded(stderr, max))?;
        let status = child.wait().await.map_err(GitError::Start)?;
        Ok((status, out, said))
    };
    let (status, out, said) =
        tokio::time::timeout(limit, work).await.map_err(|_| GitError::Slow(limit))??;
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        let said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).take(5).collect();
        return Err(GitError::Failed(said.join("; ")));
    }
    Ok(out)
}

/// Reads a pipe to its end; one byte too many is an error, and the child dies with its handle.
async fn bounded(pipe: Option<impl AsyncRead + Unpin>, max: usize) -> Result<Vec<u8>, GitError> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(max as u64 + 1);
        pipe.read_to_end(&mut bytes).await.map_err(GitError::Start)?;
    }
    if bytes.len() > max { Err(GitError::TooMuch(max)) } else { Ok(bytes) }
}

/// Refuses a URL that carries a password: it would be seen in process lists, logs and statements.
pub fn check_url(url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok(()) };
    let authority = rest.split('/').next().unwrap_or(rest);
    let secret = match authority.rsplit_once('@') {
        Some((user, _)) => user.contains(':') || scheme.starts_with("http"),
        None => false,
    };
    if secret {
        return Err(format!(
            "the URL of {scheme}://…@{} carries credentials: use ssh keys, or a credential helper",
            authority.rsplit('@').next().unwrap_or("")
        ));
    }
    if url.starts_with('-') {
        return Err(format!("`{url}` is no URL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_passwords_are_refused() {
        for good in ["/srv/git/a.git", "https://h.example/a", "ssh://git@h.example/a", "git@h:a"] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in ["https://u:p@h.example/a", "https://token@h.example/a", "ssh://u:p@h/a"] {
            let said = check_url(bad).unwrap_err();
            assert!(!said.contains("u:p") && !said.contains("token"), "{said}");
        }
    }

    #[test]
    fn what_may_pass() {
        let failed = |said: &str| GitError::Failed(said.to_owned());
        for said in [
            "fatal: unable to access 'http://h/a.git/': Failed to connect to h port 80 after 0 ms",
            "fatal: unable to access 'https://h/': The requested URL returned error: 503",
            "ssh: connect to host h port 22: Connection refused; fatal: Could not read from remote",
            "error: RPC failed; curl 18 transfer closed; fatal: early EOF",
            "remote: aborting due to possible repository corruption on the remote side.",
        ] {
            assert!(failed(said).may_pass(), "{said}");
        }
        assert!(GitError::Slow(Duration::from_secs(1)).may_pass());
        for said in [
            "fatal: couldn't find remote ref refs/tags/v1",
            "fatal: unable to access 'https://h/': The requested URL returned error: 403",
            "fatal: Authentication failed for 'https://h/'",
            "fatal: could not read Username for 'https://h': terminal prompts disabled",
            "git@h: Permission denied (publickey).; fatal: Could not read from remote repository.",
            "fatal: '/srv/a.git' does not appear to be a git repository",
        ] {
            assert!(!failed(said).may_pass(), "{said}");
        }
        assert!(!GitError::TooMuch(1).may_pass());
    }

    #[tokio::test]
    async fn output_is_bounded() {
        let mut command = Command::new("head");
        command.args(["-c", "3000000", "/dev/zero"]).stdout(Stdio::piped()).kill_on_drop(true);
        let result = run(command, Duration::from_secs(20)).await;
        assert!(matches!(result, Err(GitError::TooMuch(MAX_OUTPUT))), "{result:?}");
    }
}
