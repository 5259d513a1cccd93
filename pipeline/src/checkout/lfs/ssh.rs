//! `git-lfs-authenticate`: a repository that is cloned by ssh says by ssh where its LFS server is, and
//! gives a login for it. The same keys and known hosts as git's own connection.

use std::{ffi::OsString, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use pitlane_fetch::git;
use tokio::process::Command;

use super::web::{Action, Server};

/// Longest it may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where a repository is, for ssh.
#[derive(Debug, PartialEq, Eq)]
struct Remote<'a> {
    port: Option<u16>,
    destination: &'a str,
    path: &'a str,
}

/// Asks for the server of a repository.
pub(super) async fn server(url: &str) -> anyhow::Result<Server> {
    let remote = parse(url).with_context(|| {
        format!("`{url}` has no LFS server that is known; name it in `spec.model.lfsUrl`")
    })?;
    let answer = git::run(command(&remote), TIMEOUT).await.context("git-lfs-authenticate")?;
    let action: Action = serde_json::from_slice(&answer)
        .context("git-lfs-authenticate gave no answer of Git LFS")?;
    let server = Server::told(&action)?;
    ensure!(server.url().scheme() == "https", "git-lfs-authenticate names {}", server.url());
    Ok(server)
}

fn command(remote: &Remote<'_>) -> Command {
    // As git does it: the variable is a line for the shell.
    let own = std::env::var_os("GIT_SSH_COMMAND");
    let mut line = own.clone().unwrap_or_else(|| OsString::from("ssh -oBatchMode=yes"));
    line.push(" \"$@\"");
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).arg("sh");
    if let Some(port) = remote.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("--").arg(remote.destination);
    command.arg(format!("git-lfs-authenticate '{}' download", remote.path.replace('\'', "'\\''")));
    command.env_clear();
    for name in ["PATH", "HOME", "SSH_AUTH_SOCK"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// `ssh://[user@]host[:port]/path` and `[user@]host:path`.
fn parse(url: &str) -> Option<Remote<'_>> {
    let remote = if let Some(rest) = url.strip_prefix("ssh://") {
        let (authority, _) = rest.split_once('/')?;
        let path = &rest[authority.len()..];
        match authority.rsplit_once(':') {
            Some((destination, port)) => {
                Remote { port: Some(port.parse().ok()?), destination, path }
            }
            None => Remote { port: None, destination: authority, path },
        }
    } else {
        let (destination, path) = url.split_once(':').filter(|_| !url.contains("://"))?;
        Remote { port: None, destination, path }
    };
    let fits = !remote.destination.is_empty() && !remote.destination.starts_with('-');
    (fits && !remote.path.is_empty()).then_some(remote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_git_does() {
        let remote = |port, destination, path| Some(Remote { port, destination, path });
        for (url, want) in [
            ("ssh://git@h.example/team/car.git", remote(None, "git@h.example", "/team/car.git")),
            ("ssh://git@h.example:22/car", remote(Some(22), "git@h.example", "/car")),
            ("git@h.example:team/car.git", remote(None, "git@h.example", "team/car.git")),
            ("ssh://-oProxyCommand=x/y", None),
            ("-oProxyCommand=x:y", None),
            ("git://h.example/car", None),
            ("ssh://h.example", None),
        ] {
            assert_eq!(parse(url), want, "{url}");
        }
    }
}
