//! The program for the car's processor, in the car's file system, gives this machine's answers.
//!
//! Ignored unless asked for, because it needs root and what three scripts make:
//! `scripts/base.py`, `scripts/cross-car.sh` and `scripts/qemu.sh`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::car::{command, data};

fn copy(from: &Path, to: &Path, made_by: &str) {
    assert!(from.exists(), "{}: missing; run {made_by}", from.display());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
#[ignore = "needs root, the arm64 build, its base and an emulator"]
fn answers_under_emulation_match_within_the_tolerance() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("car");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    copy(&target.join("base/rootfs/arm64"), &root, "`make base`");
    copy(
        &target.join("arm64/pitlane-car"),
        &root.join("usr/bin/pitlane-car"),
        "scripts/cross-car.sh",
    );
    for name in ["tiny.onnx", "tiny.yaml"] {
        copy(&data(name), &root.join("models").join(name), "git checkout");
    }
    let mut golden = command("golden", "tiny.onnx");
    golden.arg("--out").arg(root.join("models/golden.json"));
    assert!(golden.status().unwrap().success());

    // One kind of processor, so that the kernels are those of a small car; a deadline, because
    // an emulator that loses its way hangs.
    let mut car = Command::new("timeout");
    car.args(["--kill-after=5", "180", "chroot", "--userspec=65532:65532"]).arg(&root);
    car.args(["/usr/bin/pitlane-car", "selftest", "--model", "/models/tiny.onnx"]);
    car.args(["--golden", "/models/golden.json"]);
    car.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    car.env("QEMU_CPU", "cortex-a72").env("ORT_DISABLE_TELEMETRY", "1");
    let done = car.output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    let answer: Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|e| panic!("{e}; is scripts/qemu.sh done? {stderr}"));
    assert_eq!(done.status.code(), Some(0), "{answer} {stderr}");
    assert_eq!((&answer["arch"], &answer["golden"]["ok"]), (&"aarch64".into(), &true.into()));
}
