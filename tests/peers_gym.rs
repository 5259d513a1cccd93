//! The twin dials `gym-donkeycar` as it is published, the edition that listens, and is driven by it.

use std::{fs, path::PathBuf, process::Command};

use crate::common::{bin, json as parse, repository, run, skip};

/// A virtual environment with the pinned packages, made once.
fn python() -> Option<PathBuf> {
    let requirements = repository().join("tests/peers/gym-requirements.txt");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let place = repository().join("target/venv-gym");
    let (python, stamp) = (place.join("bin/python"), place.join("requirements.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Some(python);
    }
    // asyncore left the standard library with 3.12.
    let made = Command::new("python3.11").args(["-m", "venv", "--clear"]).arg(&place).status();
    if !made.is_ok_and(|status| status.success()) {
        skip("python3.11 with venv is missing");
        return None;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--require-hashes", "-r"]).arg(&requirements);
    let installed = run(&mut pip);
    if installed.code != Some(0) {
        skip(&format!("gym-donkeycar could not be installed: {}", installed.stderr));
        return None;
    }
    fs::write(stamp, wanted).unwrap();
    Some(python)
}

fn check(args: &[&str]) -> (Option<i32>, serde_json::Value) {
    let mut command = Command::new(python().unwrap());
    command.arg(repository().join("tests/peers/gym_listen_check.py")).args(args);
    command.arg("--twin").arg(bin("pitlane-twin")).env("MPLCONFIGDIR", std::env::temp_dir());
    let ran = run(&mut command);
    let last = ran.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with('{'), "{}\n{}", ran.stdout, ran.stderr);
    (ran.code, parse(last))
}

#[test]
fn gym_donkeycar_drives_a_twin_that_dials() {
    if python().is_none() {
        return;
    }
    let (code, result) = check(&["--port", "0", "--steps", "100"]);
    assert_eq!((code, &result["exit"]), (Some(0), &0.into()), "{result:#}");
    assert_eq!(result["steps"], 100, "{result:#}");
    assert!(result["top_speed"].as_f64().unwrap() > 0.2, "{result:#}");
    // The check can fail: a car that is not driven does not move.
    let (code, result) = check(&["--port", "0", "--steps", "20", "--throttle", "0"]);
    assert_ne!(code, Some(0), "{result:#}");
}
