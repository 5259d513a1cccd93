//! The Docker daemon of the tests, apart from any other on the machine (`scripts/dockerd.sh`).

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
};

use super::repository;

/// Keeps the test daemon up; the last one that holds it stops it.
pub(crate) struct Daemon {
    user: Child,
    stdin: ChildStdin,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let mut command = Command::new(repository().join("scripts/dockerd.sh"));
        command.args(["with", "sh", "-c", "echo $DOCKER_HOST; cat >/dev/null"]);
        let mut user = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(user.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("unix://"), "the Docker daemon did not start");
        let stdin = user.stdin.take().unwrap();
        Self { user, stdin }
    }

    pub(crate) fn host() -> String {
        format!("unix://{}", repository().join("target/dockerd/docker.sock").display())
    }

    /// Lets go and waits until the daemon is down, or another user has it.
    pub(crate) fn stop(self) {
        let Self { mut user, stdin } = self;
        drop(stdin);
        user.wait().unwrap();
    }
}
