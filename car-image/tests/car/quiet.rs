//! The library stays silent: it opens no socket, starts no thread and writes no file.
//!
//! The control loads the same library without the variable and must be caught by the same
//! looks; otherwise the checks here would prove nothing.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::car::{Car, command, ort_lib};
use crate::sim::Listener;

/// Marks the process that [`the_control_is_caught`] starts.
const CONTROL: &str = "PITLANE_TEST_CONTROL";
const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

fn files_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|entry| if entry.path().is_dir() { files_below(&entry.path()) + 1 } else { 1 })
        .sum()
}

/// The same fresh surroundings for both: an empty home, and nothing from outside.
fn isolate(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home).current_dir(home);
}

fn sockets_of(pid: u32) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn a_missing_or_wrong_variable_is_mended() {
    for value in [None, Some(""), Some("0"), Some("1")] {
        let home = tempfile::tempdir().unwrap();
        let mut command = command("selftest", "tiny.onnx");
        isolate(&mut command, home.path());
        command.envs(value.map(|value| (VARIABLE, value)));
        let done = command.output().unwrap();
        let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(answer["quiet"]["threads"], 1, "{value:?}");
        assert_eq!(answer["quiet"]["sockets"], 0, "{value:?}");
        assert_eq!(files_below(home.path()), 0, "{value:?}");
    }
}

#[test]
fn driving_adds_two_threads_and_one_socket() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("tiny.onnx", &address, &[]);
    let mut sim = listener.greet();
    sim.drive(5);
    let environment = std::fs::read(format!("/proc/{}/environ", car.pid())).unwrap();
    let mended = format!("{VARIABLE}=1").into_bytes();
    assert!(environment.split(|b| *b == 0).any(|entry| entry == mended));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", car.pid())).unwrap().flatten();
    let mut names: Vec<String> = tasks
        .map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap().trim().into())
        .collect();
    names.sort();
    assert_eq!(names, ["pitlane-car", "signals", "watchdog"]);
    // The reader's and the writer's handle of one connection.
    assert_eq!(sockets_of(car.pid()), 2);
}

#[test]
fn the_control_is_caught() {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    isolate(&mut child, home.path());
    child.args(["--exact", "quiet::without_the_variable", "--ignored", "--nocapture"]);
    child.env(CONTROL, ort_lib()).stdin(Stdio::null());
    let done = child.output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    let threads = text.split("threads=").nth(1).and_then(|t| t.split(';').next());
    let threads: usize = threads.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    // The test harness has two threads of its own.
    let caught = threads > 2 || files_below(home.path()) > 0;
    assert!(caught, "the library no longer does what is guarded against: {text}");
}

/// Not a test by itself: the process of [`the_control_is_caught`].
#[test]
#[ignore = "started by the_control_is_caught"]
fn without_the_variable() {
    let Some(library) = std::env::var_os(CONTROL) else { return };
    assert!(std::env::var_os(VARIABLE).is_none());
    let environment = ort::init_from(Path::new(&library)).unwrap().with_telemetry(false);
    let environment = environment.build().unwrap();
    let mut builder = ort::session::Session::builder(&environment).unwrap();
    let model = std::fs::read(crate::car::data("tiny.onnx")).unwrap();
    let session = builder.commit_from_memory(&model).unwrap();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    println!("threads={threads};");
    drop(session);
}
