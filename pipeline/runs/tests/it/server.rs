//! A `PostgreSQL` server of a test's own. The tests of the whole lane use this file, too.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Longest that the server may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server in a folder of its own, on loopback; gone with the value.
pub(crate) struct Server {
    bin: PathBuf,
    dir: TempDir,
    port: u16,
    running: Option<Child>,
}

impl Server {
    /// A running server, or why there is none.
    pub(crate) fn new() -> Result<Self, String> {
        let bin = programs().ok_or("PostgreSQL is not installed (scripts/peers.sh)")?;
        let dir = tempfile::Builder::new().prefix("pitlane-pg-").tempdir().unwrap();
        if root() {
            // The server refuses to run as root.
            let chown = Command::new("chown").arg("postgres").arg(dir.path()).status();
            if !chown.is_ok_and(|status| status.success()) {
                return Err("there is no user `postgres`".into());
            }
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { bin, dir, port, running: None };
        let made = server
            .command("initdb")
            .args(["--auth=trust", "--username=postgres", "--no-sync", "-D"])
            .arg(server.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.start();
        Ok(server)
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if !root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        command.current_dir("/");
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        command.stdout(Stdio::null()).stderr(log);
        self.running = Some(command.spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while !self.ready() {
            assert!(Instant::now() < until, "{}", read(&self.dir.path().join("log")));
            sleep(Duration::from_millis(50));
        }
    }

    fn ready(&self) -> bool {
        let mut ask = Command::new(self.bin.join("pg_isready"));
        ask.args(["-q", "-h", "127.0.0.1", "-U", "postgres", "-p"]).arg(self.port.to_string());
        ask.status().is_ok_and(|status| status.success())
    }

    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        // SIGQUIT: at once, as in a crash; the children go with it.
        let pid = read(&self.data().join("postmaster.pid"));
        if let Some(pid) = pid.lines().next() {
            drop(Command::new("kill").args(["-QUIT", pid]).status());
        }
        child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n")
}

/// Where Debian and others put the server's programs; the newest version.
fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop()
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(path) {
        drop(file.read_to_string(&mut text));
    }
    text
}
