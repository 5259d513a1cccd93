//! What all tests share: programs, ports, bounded processes, a small HTTP client.

pub(crate) mod admission;
pub(crate) mod docker;
pub(crate) mod engine;
pub(crate) mod http;
pub(crate) mod lane;
pub(crate) mod legacy;
pub(crate) mod pod_security;
#[path = "../pipeline/runs/tests/it/server.rs"]
pub(crate) mod postgres;
pub(crate) mod sigstore;
pub(crate) mod store;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longest a program that ends by itself may take; nothing here needs a quarter of it.
const COMMAND_LIMIT: Duration = Duration::from_mins(4);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The repository that the tests are of.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// One of our programs: from `PITLANE_BIN`, else where cargo puts release builds.
pub(crate) fn bin(name: &str) -> PathBuf {
    let beside = || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let dir = std::env::var_os("PITLANE_BIN").map_or_else(beside, PathBuf::from);
    let path = dir.join(name);
    assert!(path.is_file(), "{} is missing: cargo build --release", path.display());
    path
}

/// Something that the set-up makes (`make base runtime`); a test without it cannot pass.
pub(crate) fn made(path: &str) -> PathBuf {
    let full = repository().join(path);
    assert!(full.exists(), "{path} is missing: make base runtime");
    full
}

/// A program from target/peers or the system; where it is missing, says so.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let fetched = repository().join("target/peers/bin").join(name);
    if fetched.is_file() {
        return Some(fetched);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        skip(&format!("{name} is missing: run scripts/peers.sh"));
    }
    found
}

/// Says that something could not be tested here; CI must be able to test everything.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI=true, but {why}");
    eprintln!("SKIP: {why}");
}

/// Whether this process is root, which container engines and chroot need.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    uid.split_whitespace().nth(1) == Some("0")
}

/// A port that is ours until this is dropped, also while nothing listens on it: the kernel gives
/// ports of this range to nobody, and other tests see the lock.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _lock: File,
}

/// A free port.
pub(crate) fn port() -> Port {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 18_000;
    let locks = repository().join("target/test-ports");
    fs::create_dir_all(&locks).unwrap();
    let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let start = nanos.wrapping_add(std::process::id().wrapping_mul(7919)) % COUNT;
    for step in 0..COUNT {
        let number = u16::try_from(FIRST + (start + step) % COUNT).unwrap();
        let lock = File::create(locks.join(number.to_string())).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
            return Port { number, _lock: lock };
        }
    }
    panic!("no free port");
}

/// Parses JSON, showing the text when it is none.
pub(crate) fn json(text: impl AsRef<[u8]>) -> Value {
    let text = text.as_ref();
    serde_json::from_slice(text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

/// Looks again and again until there is an answer.
pub(crate) fn until<T>(seconds: u64, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(LOOK);
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its stdout, when it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// What it said, when it failed.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert_ne!(self.code, Some(0), "it should fail: {}\n{}", self.stdout, self.stderr);
        self.stderr + &self.stdout
    }
}

/// Runs a program to its end, which is near: it is killed when it takes too long.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let end = Instant::now() + COMMAND_LIMIT;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(3)),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{command:?} took longer than {COMMAND_LIMIT:?}");
            }
        }
    };
    let text = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ran { code: status.code(), stdout: text(&mut out), stderr: text(&mut err) }
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
}

impl Process {
    /// Starts it, with what it says appended to a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let out = Stdio::from(log.try_clone().unwrap());
        Self::spawn(command.stdout(out).stderr(log))
    }

    /// Starts a server and gives the first line it prints, which says that it is ready; it
    /// prints no second one.
    pub(crate) fn server(command: &mut Command, log: &Path) -> (Self, String) {
        let errors = File::options().create(true).append(true).open(log).unwrap();
        let mut process = Self::spawn(command.stdout(Stdio::piped()).stderr(errors));
        let mut line = String::new();
        BufReader::new(process.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = || fs::read_to_string(log).unwrap_or_default();
        assert!(line.contains("listening"), "{command:?} did not start: {}", log());
        (process, line)
    }

    fn spawn(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")) }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power switch would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        until(60, "the program ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A file that nobody else may read.
pub(crate) fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(done.success(), "{} could not be copied", from.display());
}

/// Text without what lies from one marker to the next.
#[track_caller]
pub(crate) fn cut(text: &str, from: &str, to: &str) -> String {
    let start = text.find(from).unwrap_or_else(|| panic!("`{from}` is not in {text}"));
    let length = text[start..].find(to).unwrap_or_else(|| panic!("`{to}` is not in {text}"));
    format!("{}{}", &text[..start], &text[start + length..])
}

/// Text with every occurrence of a word replaced; there must be one.
#[track_caller]
pub(crate) fn swap(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "`{old}` is not in {text}");
    text.replace(old, new)
}
