//! What is loaded, and what is refused before anything drives.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::car::{command, data, ort_lib};

fn run(mut command: Command) -> (Option<i32>, Value, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let answer = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
    (status.code(), answer, String::from_utf8(stderr).unwrap())
}

/// `selftest` of copies of tiny.onnx and its card, changed by `change`.
fn changed(change: impl Fn(&Path)) -> (Option<i32>, Value, String) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tiny.onnx", "tiny.yaml"] {
        fs::copy(data(name), dir.path().join(name)).unwrap();
    }
    change(dir.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pitlane-car"));
    command.args(["selftest", "--model"]).arg(dir.path().join("tiny.onnx"));
    command.arg("--ort-lib").arg(ort_lib());
    run(command)
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn the_answers_are_reproduced_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let golden = dir.path().join("golden.json");
    let mut make = command("golden", "tiny.onnx");
    make.arg("--out").arg(&golden);
    assert_eq!(run(make).0, Some(0));
    let test = |model: &str| {
        let mut command = command("selftest", model);
        command.arg("--golden").arg(&golden);
        run(command)
    };
    let (code, answer, _) = test("tiny.onnx");
    assert_eq!((code, &answer["golden"]["ok"]), (Some(0), &true.into()));
    let (code, answer, _) = test("wild.onnx");
    assert_eq!((code, &answer["golden"]["sameModel"]), (Some(10), &false.into()));
    // A difference a little above the tolerance, and one a little below.
    let mut value: Value = serde_json::from_slice(&fs::read(&golden).unwrap()).unwrap();
    let number = value["frames"][1]["outputs"][0]["values"][0].as_f64().unwrap();
    for (shift, want) in [(0.9e-4, 0), (1.1e-4, 10)] {
        value["frames"][1]["outputs"][0]["values"][0] = (number + shift).into();
        fs::write(&golden, value.to_string()).unwrap();
        let (code, answer, _) = test("tiny.onnx");
        assert_eq!(code, Some(want), "{answer}");
    }
    // Nothing is driven, and nobody connected to, on a machine that answers otherwise.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut drive = command("drive", "tiny.onnx");
    drive.arg("--sim").arg(listener.local_addr().unwrap().to_string());
    let drive = drive.arg("--golden").arg(&golden).output().unwrap();
    let said = String::from_utf8_lossy(&drive.stderr);
    assert_eq!(drive.status.code(), Some(10), "{said}");
    assert!(said.contains("does not reproduce the golden frames"), "{said}");
    assert!(listener.accept().is_err(), "it connected");
    for bad in ["{}", "", "[1]"] {
        fs::write(&golden, bad).unwrap();
        assert_eq!(test("tiny.onnx").0, Some(1), "{bad}");
    }
}

#[test]
fn answers_that_are_no_numbers_fail() {
    let (code, answer, _) = run(command("selftest", "nan.onnx"));
    assert_eq!((code, &answer["finite"]), (Some(10), &false.into()));
    let dir = tempfile::tempdir().unwrap();
    let mut make = command("golden", "nan.onnx");
    make.arg("--out").arg(dir.path().join("golden.json"));
    assert_eq!(run(make).0, Some(10));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written");
}

#[test]
fn the_digest_is_that_of_the_bytes() {
    let (_, answer, _) = run(command("selftest", "tiny.onnx"));
    let sum = Command::new("sha256sum").arg(data("tiny.onnx")).output().unwrap().stdout;
    let want = format!("sha256:{}", std::str::from_utf8(&sum[..64]).unwrap());
    assert_eq!(answer["model"], *want);
}

#[test]
fn card_and_model_must_agree() {
    let card = |from: &'static str, to: &'static str| {
        changed(move |dir| edit(&dir.join("tiny.yaml"), from, to))
    };
    for (from, to, want) in [
        ("[1, 120, 160, 3]", "[1, 60, 160, 3]", "the card says [1, 60, 160, 3]"),
        ("n_outputs1", "gas", "no output `gas`; the model has: n_outputs0, n_outputs1"),
        ("RGB", "CMYK", "not a model card"),
        ("scale: 0.0", "scale: 0.0\n  cropTop: 120\n  mean: 0.0", "not a model card"),
    ] {
        let (code, _, stderr) = card(from, to);
        assert_eq!(code, Some(1), "{to}");
        assert!(stderr.contains(want), "{to}: {stderr}");
    }
    // A converter's suffix is no disagreement.
    assert_eq!(card("n_outputs1", "\"n_outputs1:0\"").0, Some(0));
}

#[test]
fn bad_models_are_refused_with_their_name() {
    let model =
        |bytes: Vec<u8>| changed(move |dir| fs::write(dir.join("tiny.onnx"), &bytes).unwrap());
    let good = fs::read(data("tiny.onnx")).unwrap();
    for bytes in [vec![], b"not a model".to_vec(), good[..good.len() / 2].to_vec()] {
        let (code, _, stderr) = model(bytes);
        assert_eq!(code, Some(1));
        assert!(stderr.contains("tiny.onnx"), "{stderr}");
    }
    let (code, _, stderr) = changed(|dir| {
        // Sparse: one byte more than the cap, no disk.
        let file = fs::OpenOptions::new().write(true).open(dir.join("tiny.onnx")).unwrap();
        file.set_len((64 << 20) + 1).unwrap();
    });
    assert_eq!(code, Some(1));
    assert!(stderr.contains("more than 67108864 bytes"), "{stderr}");
}

#[test]
fn the_environment_does_not_choose_the_library() {
    let mut command = command("selftest", "tiny.onnx");
    command.env("ORT_DYLIB_PATH", "/nowhere/evil.so").env("ORT_DISABLE_TELEMETRY", "1");
    assert_eq!(run(command).0, Some(0));
    for (path, want) in [
        ("libonnxruntime.so.1", "want an absolute path"),
        ("/nowhere/libonnxruntime.so.1", "/nowhere/libonnxruntime.so.1"),
        ("/lib/x86_64-linux-gnu/libm.so.6", "OrtGetApiBase"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pitlane-car"));
        command.args(["selftest", "--model"]).arg(data("tiny.onnx")).args(["--ort-lib", path]);
        command.env("ORT_DYLIB_PATH", ort_lib());
        let (code, _, stderr) = run(command);
        assert_eq!(code, Some(1), "{path}");
        assert!(stderr.contains(want), "{path}: {stderr}");
    }
}

#[test]
fn bench_measures() {
    let mut command = command("bench", "tiny.onnx");
    command.args(["--frames", "50", "--output", "json"]);
    let (code, answer, _) = run(command);
    assert_eq!((code, &answer["frames"]), (Some(0), &50.into()));
    for field in ["overhead_cpu_ms", "inference_cpu_ms"] {
        assert!(answer[field].as_f64().unwrap() > 0.0, "{field}: {answer}");
    }
}
