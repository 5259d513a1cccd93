//! Every target, for a short time, in a process with limits; and that what breaks is seen.
//!
//! `PITLANE_FUZZ_SECONDS` is the time for each target (2), `PITLANE_FUZZ_SEED` where the random
//! numbers start (0): the same seed tries the same inputs, as many as there is time for.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, seen when they fail"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use pitlane_fuzz::{
    child::HANG,
    parent::{self, End},
    seeds, targets,
};

/// One test for each target, so that they run beside each other and are named when they fail.
macro_rules! targets {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { bounded($name); })*
        const NAMES: &[&str] = &[$($name),*];
    };
}

targets! {
    names: "names",
    glob: "glob",
    policy_pattern: "policy-pattern",
    oci_documents: "oci-documents",
    oci_layout: "oci-layout",
    bundle: "bundle",
    verify_bundle: "verify-bundle",
    trusted_root: "trusted-root",
    public_key: "public-key",
    statement: "statement",
    legacy_layer: "legacy-layer",
    legacy_tags: "legacy-tags",
    policy: "policy",
    admission: "admission",
    admission_review: "admission-review",
    yaml: "yaml",
    model_card: "model-card",
    pipeline_file: "pipeline-file",
    car_file: "car-file",
    kustomization: "kustomization",
    gitops_file: "gitops-file",
    key_file: "key-file",
    gate_report: "gate-report",
    gate_secrets: "gate-secrets",
    lfs_pointer: "lfs-pointer",
    dpkg_list: "dpkg-list",
    crates_list: "crates-list",
    base_parts: "base-parts",
    private_key: "private-key",
    sig_tag: "sig-tag",
    signer_request: "signer-request",
    signing_config: "signing-config",
    sigstore_services: "sigstore-services",
    webhook_event: "webhook-event",
    webhook_http: "webhook-http",
    registry_http: "registry-http",
    registry_answers: "registry-answers",
    onnx: "onnx",
    layer: "layer",
    layer_entries: "layer-entries",
    slot_state: "slot-state",
    car_words: "car-words",
    car_messages: "car-messages",
    car_picture: "car-picture",
    twin_wire: "twin-wire",
}

/// A number from the environment.
fn setting(name: &str, usual: f64) -> f64 {
    let text = env::var(name).unwrap_or_default();
    if text.is_empty() { usual } else { text.parse().expect("a number") }
}

/// Where inputs that break something are put.
fn keep() -> PathBuf {
    let beside = || seeds::repository().join("target");
    env::var_os("CARGO_TARGET_DIR").map_or_else(beside, PathBuf::from).join("fuzz")
}

fn run(name: &str, seconds: f64, keep: &Path) -> End {
    let program = Path::new(env!("CARGO_BIN_EXE_pitlane-fuzz"));
    let (time, seed) = (Duration::from_secs_f64(seconds), setting("PITLANE_FUZZ_SEED", 0.0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    parent::run(program, name, time, seed as u64, keep).unwrap()
}

fn bounded(name: &str) {
    let seconds = setting("PITLANE_FUZZ_SECONDS", 2.0);
    match run(name, seconds, &keep()) {
        End::Well(said) => {
            println!("{said}");
            // Otherwise it only ever saw the parser's first refusal.
            let number = |after: &str| {
                let rest = said.split_once(after).unwrap().1;
                rest.split(' ').next().unwrap().parse::<u64>().unwrap()
            };
            assert!(number(": ") > 10, "{name} tried too little: {said}");
            assert!(number("ways through, ") > 0, "{name}: no seed is accepted: {said}");
        }
        End::Broken { how, input } => panic!(
            "{name} is broken by {}: {how}\nagain: target/release/pitlane-fuzz repeat {name} {}",
            input.display(),
            input.display()
        ),
    }
}

#[test]
fn every_target_is_tested_and_has_seeds_of_its_own() {
    let all: Vec<&str> = targets::all().map(|target| target.name).collect();
    assert_eq!(all, NAMES);
    for target in targets::all() {
        let own = seeds::repository().join("tests/fuzz/seeds").join(target.name);
        let count = fs::read_dir(&own).map_or(0, Iterator::count);
        assert!(count > 0 || !target.more.is_empty(), "{} is empty", own.display());
    }
    let docs = fs::read_to_string(seeds::repository().join("docs/fuzzing.md")).unwrap();
    for name in all {
        assert!(docs.contains(&format!("`{name}`")), "docs/fuzzing.md does not name {name}");
    }
}

/// A drill must be found broken within the time, and its input must be kept.
fn drill(name: &str, want: &str) {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    match run(name, 30.0, dir.path()) {
        End::Broken { how, input } => {
            assert!(how.contains(want), "{how}");
            let kept = fs::read(&input).unwrap();
            assert!(kept.windows(3).any(|word| word == b"now"), "{kept:?}");
            assert!(began.elapsed() < HANG + Duration::from_secs(40));
        }
        End::Well(said) => panic!("{name} was not seen to break: {said}"),
    }
}

#[test]
fn a_panic_is_seen() {
    drill("drill-panic", "a drill");
}

#[test]
fn too_much_memory_is_seen() {
    drill("drill-memory", "memory allocation of 1073741824 bytes failed");
}

#[test]
fn a_deep_recursion_is_seen() {
    drill("drill-stack", "overflowed its stack");
}

#[test]
fn a_hang_is_seen() {
    drill("drill-hang", "takes longer than");
}

#[test]
fn what_is_fine_is_not_called_broken() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(run("drill-fine", 0.2, dir.path()), End::Well(_)));
}
