//! Starting the program, and looking at what it leaves.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A program that has not ended after so long is ended, and the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A model in tests/data.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The library that `make base` makes.
pub(crate) fn ort_lib() -> PathBuf {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let made = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/base/rootfs")
        .join(arch)
        .join("usr/lib/libonnxruntime.so.1");
    let path = std::env::var_os("PITLANE_ORT_LIB").map_or(made, PathBuf::from);
    assert!(path.is_file(), "{}: missing; run `make base`", path.display());
    path
}

/// `pitlane-car` with these arguments, quiet about the library's path.
pub(crate) fn command(verb: &str, model: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pitlane-car"));
    command.arg(verb).arg("--model").arg(data(model)).arg("--ort-lib").arg(ort_lib());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running `pitlane-car drive`, with a directory for its files.
#[derive(Debug)]
pub(crate) struct Car {
    child: Child,
    dir: tempfile::TempDir,
}

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    pub(crate) report: Option<Value>,
    pub(crate) status: Value,
    pub(crate) took: Duration,
}

impl Car {
    /// Starts to drive.
    pub(crate) fn start(model: &str, sim: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = command("drive", model);
        command.args(["--sim", sim]).args(more);
        command.arg("--status").arg(dir.path().join("status.json"));
        command.arg("--report").arg(dir.path().join("report.json"));
        Self { child: command.spawn().unwrap(), dir }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The status file as it is now.
    pub(crate) fn status(&self) -> Value {
        let text = std::fs::read(self.dir.path().join("status.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Sends a signal to this very process.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").arg("-s").arg(name).arg(self.pid().to_string()).status();
        assert!(done.unwrap().success());
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> Ended {
        let started = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the car does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let report = std::fs::read(self.dir.path().join("report.json")).ok();
        Ended {
            code,
            stderr,
            report: report.map(|text| serde_json::from_slice(&text).unwrap()),
            status: self.status(),
            took: started.elapsed(),
        }
    }
}

impl Drop for Car {
    fn drop(&mut self) {
        // Already gone after `wait`; a failed test leaves nothing running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
