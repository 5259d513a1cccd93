//! The step `prove` with the real twin, the real runtime and the real base image.
//!
//! The binaries are taken from `PITLANE_TWIN`, `PITLANE_CAR` and `PITLANE`, else from beside the
//! test's own target directory; the base image's root from `PITLANE_ROOTFS`, else from
//! `target/base/rootfs/<arch>`. What is absent fails the test by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pitlane_pipeline::prove::{Limits, Proof, Prove, Run, Scenario, prove};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn binary(variable: &str, name: &str) -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().join(name)
    };
    let path = std::env::var_os(variable).map_or_else(beside, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: cargo build --release, or set {variable}",
        path.display()
    );
    path
}

/// A candidate image as it would be assembled: base, runtime, model.
fn candidate(model: &str) -> tempfile::TempDir {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let base = std::env::var_os("PITLANE_ROOTFS")
        .map_or_else(|| repository().join("target/base/rootfs").join(arch), PathBuf::from);
    assert!(base.join("usr/lib").is_dir(), "{} is missing: make base", base.display());
    let dir = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").arg(base.join(".")).arg(dir.path()).status();
    assert!(copied.unwrap().success());
    fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
    fs::create_dir_all(dir.path().join("models")).unwrap();
    fs::copy(binary("PITLANE_CAR", "pitlane-car"), dir.path().join("usr/bin/pitlane-car")).unwrap();
    for ending in ["onnx", "yaml"] {
        let from = repository().join(format!("{model}.{ending}"));
        let to = dir.path().join(format!("models/pilot.{ending}"));
        fs::copy(&from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    dir
}

fn scenario(laps: u32, max_seconds: f64) -> Scenario {
    let run = Run {
        track: "generated_track".into(),
        seed: 7,
        light: None,
        start: 0.0,
        laps,
        max_seconds,
    };
    Scenario { runs: vec![run], max_abs_cte_m: None, golden_tolerance: 0.002 }
}

fn driven(model: &str, scenario: &Scenario, limits: &Limits) -> (Proof, tempfile::TempDir) {
    let (rootfs, evidence) = (candidate(model), tempfile::tempdir().unwrap());
    let request = Prove {
        rootfs: rootfs.path(),
        model: "/models/pilot.onnx",
        onnx_runtime: None,
        scenario,
        limits,
        golden: true,
        twin: binary("PITLANE_TWIN", "pitlane-twin"),
        jail: binary("PITLANE", "pitlane"),
        evidence_dir: evidence.path(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let proof = runtime.block_on(prove(&request)).unwrap_or_else(|error| panic!("{error:#?}"));
    (proof, evidence)
}

#[test]
fn a_good_pilot_proves_itself() {
    let (proof, _evidence) =
        driven("examples/donkeycar/models/pilot", &scenario(2, 240.0), &Limits::default());
    assert!(proof.passed, "{proof:#?}");
    let run = &proof.runs[0];
    let report = run.report.as_ref().unwrap();
    assert!(report.laps >= 2 && report.max_abs_cte_m < report.road_half_width_m, "{report:?}");
    assert_eq!(run.isolation.uid, 65532);
    // Its answers to the fixed frames, for cars to reproduce.
    let golden = proof.golden.as_ref().unwrap();
    let names: Vec<&str> = golden.frames.iter().map(|frame| &*frame.name).collect();
    assert_eq!(names, ["black", "white", "noise"]);
    assert!((golden.tolerance - 0.002).abs() < f64::EPSILON, "{}", golden.tolerance);
    let pilot = fs::read(repository().join("examples/donkeycar/models/pilot.onnx")).unwrap();
    assert_eq!(golden.model, pitlane_release::Digest::of(pilot));
    for path in [&run.files.trace, &run.files.plot, &run.files.report] {
        assert!(fs::metadata(path.as_ref().unwrap()).unwrap().len() > 0);
    }
}

/// A model that is sound as a file and cannot drive: refused, with the lap, the time and a plot.
#[test]
fn a_bad_pilot_fails_with_its_plot() {
    let (proof, _evidence) =
        driven("car-image/tests/data/tiny", &scenario(3, 120.0), &Limits::default());
    assert!(!proof.passed, "{proof:#?}");
    let run = &proof.runs[0];
    let failure = run.failure.as_ref().unwrap();
    assert!(["prove-off-road", "prove-time"].contains(&&*failure.code), "{failure:?}");
    let plot = run.files.plot.as_ref().unwrap();
    assert!(failure.message.starts_with("lap 1 of 3: "), "{}", failure.message);
    assert!(failure.message.contains(plot.to_str().unwrap()), "{}", failure.message);
    assert!(fs::read_to_string(plot).unwrap().contains("<svg"));
    // In lock step nothing depends on this machine: the same drive, byte for byte.
    let (again, _evidence) =
        driven("car-image/tests/data/tiny", &scenario(3, 120.0), &Limits::default());
    assert!(run.files.trace_digest.is_some());
    assert_eq!(again.runs[0].files.trace_digest, run.files.trace_digest);
}

/// A model whose evaluation never ends: stopped by the limits, and an answer, not an error.
#[test]
fn an_endless_model_is_stopped() {
    let limits = Limits { wall_seconds: 8, cpu_seconds: 4, ..Limits::default() };
    let (proof, _evidence) = driven("car-image/tests/data/endless", &scenario(1, 60.0), &limits);
    let failure = proof.runs[0].failure.as_ref().unwrap();
    assert!(!proof.passed);
    let codes = ["prove-car-ended", "prove-deadline", "prove-time", "prove-disconnected"];
    assert!(codes.contains(&&*failure.code), "{failure:?}");
}

/// Too little memory for the runtime: an answer that repeats what it said.
#[test]
fn a_starved_runtime_is_an_answer() {
    let limits = Limits { memory_mib: 16, ..Limits::default() };
    let evidence = tempfile::tempdir().unwrap();
    let rootfs = candidate("car-image/tests/data/tiny");
    let scenario = scenario(1, 60.0);
    let request = Prove {
        rootfs: rootfs.path(),
        model: "/models/pilot.onnx",
        onnx_runtime: None,
        scenario: &scenario,
        limits: &limits,
        golden: true,
        twin: binary("PITLANE_TWIN", "pitlane-twin"),
        jail: binary("PITLANE", "pitlane"),
        evidence_dir: evidence.path(),
    };
    let answer = tokio::runtime::Runtime::new().unwrap().block_on(prove(&request));
    // The twin has the same limit, and may be the first that it hits.
    match answer {
        Ok(proof) => assert_eq!(proof.runs[0].failure.as_ref().unwrap().code, "prove-car-ended"),
        Err(error) => assert!(error.to_string().contains("twin failed"), "{error}"),
    }
}
