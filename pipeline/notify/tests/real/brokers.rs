//! mosquitto as a child process, and its own client as the reader.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A broker; gone when dropped.
pub(super) struct Broker {
    pub(super) port: u16,
    child: Child,
    folder: TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(name: &str) -> Option<String> {
    let places = ["/usr/sbin/", "/usr/bin/", "/usr/local/sbin/", "/usr/local/bin/"];
    places.iter().map(|place| format!("{place}{name}")).find(|path| Path::new(path).exists())
}

/// Whether the broker is there; without it a test says that it skips, and fails in CI.
pub(super) fn installed() -> bool {
    let all = ["mosquitto", "mosquitto_sub", "mosquitto_passwd"];
    if all.iter().all(|name| program(name).is_some()) {
        return true;
    }
    let text = "mosquitto is missing: apt-get install mosquitto mosquitto-clients";
    assert!(std::env::var("CI").is_err(), "{text}");
    eprintln!("skipped: {text}");
    false
}

impl Broker {
    /// One with these lines in its configuration; `PASSWORDS` is a file with `pitlane`/`secret`
    /// and `reader`/`secret` in it.
    pub(super) fn new(lines: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::at(port, lines)
    }

    pub(super) fn at(port: u16, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let passwords = folder.path().join("passwords");
        fs::write(&passwords, "").unwrap();
        for user in ["pitlane", "reader"] {
            let mut command = Command::new(program("mosquitto_passwd").unwrap());
            command.arg("-b").arg(&passwords).args([user, "secret"]);
            assert!(command.stderr(Stdio::null()).status().unwrap().success());
        }
        let lines = lines.replace("PASSWORDS", passwords.to_str().unwrap());
        let configuration = folder.path().join("mosquitto.conf");
        // As whoever runs the test, so that it may read the test's files.
        let text = format!("listener {port} 127.0.0.1\nuser root\nlog_dest stderr\n{lines}\n");
        fs::write(&configuration, text).unwrap();
        let mut command = Command::new(program("mosquitto").unwrap());
        command.arg("-c").arg(&configuration).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let broker = Self { port, child, folder };
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        broker
    }

    /// What is retained, as `topic payload` lines, read by the broker's own client.
    pub(super) fn retained(&self, filter: &str, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new(program("mosquitto_sub").unwrap());
        command.args(["-h", "localhost", "-p", &self.port.to_string(), "-t", filter]);
        command.args(["-v", "--retained-only", "-W", "2"]).args(arguments);
        let read = command.output().unwrap();
        String::from_utf8(read.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// A reader of so many messages; what it read comes out by `wait_with_output`.
    pub(super) fn reader(&self, filter: &str, count: usize, arguments: &[&str]) -> Child {
        let log = self.folder.path().join("reader");
        // A file is not a terminal: without this, nothing is in it until the end.
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(program("mosquitto_sub").unwrap());
        command.args(["-h", "localhost", "-p", &self.port.to_string(), "-t", filter, "-d"]);
        command.args(["-F", "MESSAGE %r %t %P %p", "-C", &count.to_string(), "-W", "20"]);
        command.args(arguments).stdout(fs::File::create(&log).unwrap());
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while !fs::read_to_string(&log).unwrap().contains("SUBACK") {
            assert!(started.elapsed() < Duration::from_secs(10), "the reader is not subscribed");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    /// What a reader read.
    pub(super) fn read(&self, mut reader: Child) -> Vec<String> {
        reader.wait().unwrap();
        let text = fs::read_to_string(self.folder.path().join("reader")).unwrap();
        let messages = text.lines().filter_map(|line| line.strip_prefix("MESSAGE "));
        messages.map(str::to_owned).collect()
    }
}
