//! A tunnel of ssh to the socket of another machine's engine, as a child that ends with us.
//!
//! ssh forwards the socket itself (OpenSSH 6.7), so nothing is needed over there but sshd and an
//! engine. It asks nobody anything: keys alone, and only hosts that are known.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    process::{Child, Command},
};

/// How long ssh may take, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
/// Most bytes of what ssh says that are shown.
const MAX_WORDS: u64 = 2000;
/// What ssh gets of our environment: where its agent, keys and known hosts are.
const ENVIRONMENT: [&str; 5] = ["HOME", "LOGNAME", "PATH", "SSH_AUTH_SOCK", "USER"];

/// An open tunnel; dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// Ends when it is dropped.
    _ssh: Child,
    socket: PathBuf,
    /// Removed when it is dropped.
    _folder: tempfile::TempDir,
}

impl Tunnel {
    /// Where it begins, on this machine.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) async fn open(
        destination: &str,
        port: Option<u16>,
        socket: &Path,
        config: Option<&Path>,
    ) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let here = folder.path().join("engine.sock");
        let mut ssh = Command::new("ssh");
        ssh.env_clear().kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
        ssh.stderr(Stdio::piped());
        ssh.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        if let Some(config) = config {
            ssh.arg("-F").arg(config);
        }
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ExitOnForwardFailure=yes",
            "ForwardAgent=no",
            "ForwardX11=no",
            "ControlMaster=no",
            "ControlPath=none",
            "PermitLocalCommand=no",
            "ServerAliveInterval=15",
            "ConnectTimeout=15",
        ] {
            ssh.arg("-o").arg(option);
        }
        if let Some(port) = port {
            ssh.arg("-p").arg(port.to_string());
        }
        ssh.arg("-N").arg("-L").arg(format!("{}:{}", here.display(), socket.display()));
        ssh.arg("--").arg(destination);
        let mut child = ssh.spawn().map_err(|error| format!("cannot be started: {error}"))?;
        let end = tokio::time::Instant::now() + PATIENCE;
        while UnixStream::connect(&here).await.is_err() {
            let ended = child.try_wait().map_err(|error| error.to_string())?.is_some();
            if ended || tokio::time::Instant::now() > end {
                let _ = child.start_kill();
                let mut words = String::new();
                if let Some(stderr) = child.stderr.take() {
                    let _ = stderr.take(MAX_WORDS).read_to_string(&mut words).await;
                }
                let last = words.lines().rfind(|line| !line.trim().is_empty());
                return Err(last.unwrap_or("no tunnel within 20 s").trim().to_owned());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(Self { _ssh: child, socket: here, _folder: folder })
    }
}
