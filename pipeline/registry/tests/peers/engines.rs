//! Container engines, with their own logins: Docker and podman.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::world::{CI, JANITOR, NOBODY, WRONG, World, peer, skip, token};

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

/// The Docker daemon of the tests, for as long as this is held.
struct Daemon {
    user: Child,
    stdin: Option<ChildStdin>,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

impl Daemon {
    fn start() -> Self {
        let mut command = Command::new(repository().join("scripts/dockerd.sh"));
        command.args(["with", "sh", "-c", "echo $DOCKER_HOST; cat >/dev/null"]);
        let mut user = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(user.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("unix://"), "the Docker daemon did not start");
        Self { stdin: user.stdin.take(), user }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.user.wait();
    }
}

#[test]
fn docker_with_a_narrow_token() {
    let (Some(docker), Some(_)) = (peer("docker"), peer("dockerd")) else { return };
    if !is_root() {
        return skip("the Docker daemon of the tests needs root");
    }
    let _daemon = Daemon::start();
    let socket = format!("unix://{}", repository().join("target/dockerd/docker.sock").display());
    // Once with passes, and once where every read needs a login.
    for public in ["public/*", ""] {
        let world = World::with(public);
        let args = |rest: &[&str]| -> Vec<String> {
            ["--host", &socket].iter().chain(rest).map(|arg| (*arg).to_owned()).collect()
        };
        let run = |who: &str, rest: &[&str]| {
            world.run(who, &docker, &args(rest).iter().map(String::as_str).collect::<Vec<_>>())
        };
        let ok = |who: &str, rest: &[&str]| {
            let out = run(who, rest);
            assert!(
                out.status.success(),
                "{who} {rest:?}: {}",
                String::from_utf8_lossy(&out.stderr)
            );
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        let (car, other) =
            (world.image("cars/from-docker:v1"), world.image("other/from-docker:v1"));
        ok(NOBODY, &["import", "first.tar", &car]);
        ok(NOBODY, &["tag", &car, &other]);
        for (who, tag) in [(NOBODY, &car), (WRONG, &car), (JANITOR, &car), (CI, &other)] {
            assert!(!run(who, &["push", tag]).status.success(), "{who} {tag}");
        }
        fs::create_dir(world.path("fresh")).unwrap();
        assert!(
            !run("fresh", &["login", "-u", "x", "-p", "wrong-wrong-wrong", &world.host])
                .status
                .success()
        );
        ok("fresh", &["login", "-u", "x", "-p", &token(CI), &world.host]);
        let pushed = ok("fresh", &["push", &car]);
        let digest = pushed.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
        // To a second repository: Docker mounts what it has pushed to the first.
        let second = world.image("cars/second:v1");
        ok(NOBODY, &["tag", &car, &second]);
        let again = ok("fresh", &["push", &second]);
        assert!(again.contains("Mounted from") || again.contains("already exists"), "{again}");
        for tag in [&car, &other, &second] {
            ok(NOBODY, &["rmi", tag]);
        }
        let pinned = world.image(&format!("cars/from-docker@{digest}"));
        assert!(!run(NOBODY, &["pull", &pinned]).status.success());
        ok(JANITOR, &["pull", &pinned]);
        ok(NOBODY, &["rmi", &pinned]);
        world.end();
    }
}

#[test]
fn podman_with_a_narrow_token() {
    let Some(podman) = peer("podman") else { return };
    if !is_root() {
        return skip("podman without a user's own setup needs root");
    }
    for public in ["public/*", ""] {
        let world = World::with(public);
        let (root, state) = (world.path("podman"), world.path("podman.run"));
        let global = [
            "--root",
            root.to_str().unwrap(),
            "--runroot",
            state.to_str().unwrap(),
            "--storage-driver",
            "vfs",
            "--events-backend",
            "none",
            "--cgroup-manager",
            "cgroupfs",
        ];
        let args = |rest: &[&str]| {
            [&global[..], rest].concat().iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()
        };
        let run = |who: &str, rest: &[&str]| {
            world.run(who, &podman, &args(rest).iter().map(String::as_str).collect::<Vec<_>>())
        };
        let ok = |who: &str, rest: &[&str]| {
            let out = run(who, rest);
            assert!(
                out.status.success(),
                "{who} {rest:?}: {}",
                String::from_utf8_lossy(&out.stderr)
            );
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        let (car, other) =
            (world.image("cars/from-podman:v1"), world.image("other/from-podman:v1"));
        ok(NOBODY, &["import", "first.tar", &car]);
        ok(NOBODY, &["tag", &car, &other]);
        let push = |tag: &str| ["push", "--tls-verify=false", tag].map(str::to_owned);
        let pushes = |who: &str, tag: &str| {
            run(who, &push(tag).iter().map(String::as_str).collect::<Vec<_>>()).status.success()
        };
        for (who, tag) in [(NOBODY, &car), (WRONG, &car), (JANITOR, &car), (CI, &other)] {
            assert!(!pushes(who, tag), "{who} {tag}");
        }
        fs::create_dir(world.path("fresh")).unwrap();
        let login = |password: &str| {
            let file = world.path("fresh").join("config.json");
            let rest = [
                "login",
                "--tls-verify=false",
                "--authfile",
                file.to_str().unwrap(),
                "-u",
                "x",
                "-p",
                password,
                &world.host,
            ];
            run("fresh", &rest).status.success()
        };
        assert!(!login("wrong-wrong-wrong"));
        assert!(login(&token(CI)));
        assert!(pushes("fresh", &car));
        ok(NOBODY, &["rmi", "-f", &car, &other]);
        let pull = ["pull", "--tls-verify=false", &car];
        assert!(!run(NOBODY, &pull).status.success());
        ok(JANITOR, &pull);
        ok(NOBODY, &["rmi", "-f", &car]);
        world.end();
    }
}
