//! `make demo`'s program, as people run it, and the report it writes.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    process::Command,
};

use serde_json::Value;

use crate::common::{Process, bin, is_root, json as parse, repository, skip};

/// Longest the demo may take (seconds); it drives laps in real time.
const LIMIT: u64 = 400;
const STAGES: [&str; 10] = [
    "inbox", "checkout", "model", "assemble", "prove", "push", "attest", "sign", "check", "promote",
];

fn number(report: &Value, pointer: &str) -> f64 {
    let found = report.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("{pointer} is no number in {report:#}"))
}

#[test]
fn the_demo_tells_the_whole_story() {
    if !is_root() {
        return skip("the demo's container runtime needs root");
    }
    // One at a time: the demo has one folder.
    let locks = repository().join("target/test-ports");
    fs::create_dir_all(&locks).unwrap();
    let turn = File::create(locks.join("demo")).unwrap();
    turn.lock().unwrap();
    let file = repository().join("target/demo/report.json");
    let _ = fs::remove_file(&file);
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut python = Command::new("python3");
    python.arg(repository().join("scripts/demo.py"));
    python.arg("--bin").arg(bin("pitlane").parent().unwrap());
    let mut demo = Process::start(&mut python, said.path());
    let text = || fs::read_to_string(said.path()).unwrap();
    let ended = crate::common::until(LIMIT, "the demo ends", || demo.child.try_wait().unwrap());
    assert!(ended.success(), "{ended}:\n{}", text());

    let report = parse(fs::read(&file).unwrap());
    assert_eq!(report["tag"], "v1.0.0");
    assert_eq!(report["commit"].as_str().map(str::len), Some(40), "{report:#}");
    let (_, digest) = report["index"].as_str().unwrap().split_once("@sha256:").unwrap();
    assert_eq!(digest.len(), 64);
    assert_eq!(report["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    for stage in STAGES {
        assert!(number(&report, &format!("/stages_ms/{stage}")) >= 0.0);
    }
    assert!(number(&report, "/stages_ms/prove") > 0.0, "nothing was proven");
    assert!(number(&report, "/admitted/ms") > 0.0);
    assert!(report["admitted"]["checks"].as_array().unwrap().len() >= 6, "{report:#}");
    assert!(number(&report, "/drive/laps") >= 1.0);
    assert!(number(&report, "/drive/mean_abs_cte") < 0.3);
    assert!(number(&report, "/drive/loop_hz") > 5.0);
    assert!(number(&report, "/drive/latency_p99_ms") > 0.0);
    let refused = report["refused"].as_array().unwrap();
    let words = |key: &str| -> BTreeSet<&str> {
        refused.iter().map(|one| one[key].as_str().unwrap()).collect()
    };
    assert_eq!(
        (refused.len(), words("attack").len(), words("code").len()),
        (6, 6, 6),
        "{report:#}"
    );
    // All it started is stopped.
    let place = repository().join("target/demo");
    assert!(!place.join("pids").exists(), "it left programs running");
    drop(turn);
}
