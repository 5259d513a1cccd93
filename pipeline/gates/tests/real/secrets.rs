//! The gate `secrets` over a checkout.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use pitlane_gates::{
    Outcome,
    secrets::{SecretsGate, walk, walk::WalkError},
};

use super::support::{chain, folder, gate, run};

fn token() -> String {
    // In two pieces, so that this file has none.
    format!("gh{}_{}", "p", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8")
}

#[tokio::test]
async fn secrets_are_found_allowed_and_not_told() {
    let token = token();
    let checkout = folder(&[
        ("src/a.py", &format!("# x\nkey = '{token}'\n")),
        ("README.md", "nothing\n"),
        (
            "models/pilot.onnx",
            &format!("version https://git-lfs.github.com/spec/v1\noid {token}\n"),
        ),
        (".git/config", &token),
    ]);
    fs::write(checkout.path().join("binary"), format!("\0{token}")).unwrap();
    symlink("/etc/passwd", checkout.path().join("link")).unwrap();
    symlink(".", checkout.path().join("loop")).unwrap();

    let plain = gate("- name: secrets\n  secrets: {}\n");
    let ran = run(&plain, checkout.path()).await.unwrap();
    assert_eq!(ran.verdict.outcome, Outcome::Failed);
    let [found] = &ran.verdict.named[..] else { panic!("{:?}", ran.verdict) };
    assert_eq!((found.id.as_str(), found.place.as_str()), ("github-token", "src/a.py:2"));
    let report = String::from_utf8(ran.bytes.clone()).unwrap();
    assert!(!report.contains(&token) && report.contains(r#""lfsPointers":1"#), "{report}");
    assert!(report.contains(r#""binary":1"#) && report.contains(r#""others":2"#), "{report}");
    let all: String = ran.attestations.iter().map(|made| made.predicate.to_string()).collect();
    assert!(!all.contains(&token));

    let fingerprint = found.fingerprint.clone().unwrap();
    for (path, fingerprint, until, want) in [
        ("src/*.py", fingerprint.as_str(), "", Outcome::Passed),
        ("src/*.py", fingerprint.as_str(), ", until: 2026-01-01", Outcome::Failed),
        ("other/*", fingerprint.as_str(), "", Outcome::Failed),
        ("src/*.py", "0000000000000000", "", Outcome::Failed),
    ] {
        let allowing = gate(&format!(
            "- name: secrets\n  secrets: {{allow: [{{path: '{path}', fingerprint: \
             '{fingerprint}', reason: a test{until}}}]}}\n"
        ));
        let ran = run(&allowing, checkout.path()).await.unwrap();
        assert_eq!(ran.verdict.outcome, want, "{path} {fingerprint} {until}");
    }
}

#[tokio::test]
async fn checkouts_without_an_end() {
    let checkout = folder(&[("a", "b"), ("c", "d"), ("e", "f")]);
    let far = || Instant::now() + Duration::from_mins(1);
    let files = SecretsGate { max_files: 2, ..SecretsGate::default() };
    let error = walk(checkout.path(), &files, far()).unwrap_err();
    assert!(matches!(error, WalkError::TooMuch { field: "secrets.maxFiles", .. }), "{error}");
    let bytes = SecretsGate { max_total_mib: 1, ..SecretsGate::default() };
    fs::write(checkout.path().join("big"), "x\n".repeat(600_000)).unwrap();
    let error = walk(checkout.path(), &bytes, far()).unwrap_err();
    assert!(matches!(error, WalkError::TooMuch { field: "secrets.maxTotalMib", .. }), "{error}");
    let error = walk(checkout.path(), &SecretsGate::default(), Instant::now()).unwrap_err();
    assert!(matches!(error, WalkError::Time { .. }), "{error}");

    // Of a file that is too long the beginning is read, and it is told.
    let gate = SecretsGate { max_file_mib: 1, ..SecretsGate::default() };
    fs::write(checkout.path().join("big"), format!("{}\n{}", token(), "x\n".repeat(600_000)))
        .unwrap();
    let scan = walk(checkout.path(), &gate, far()).unwrap();
    assert_eq!((scan.cut, scan.secrets.len(), scan.files), (1, 1, 4));

    let mut deep = checkout.path().to_owned();
    (0..70).for_each(|_| deep.push("d"));
    fs::create_dir_all(deep).unwrap();
    let error = walk(checkout.path(), &gate, far()).unwrap_err();
    assert!(matches!(error, WalkError::Depth { .. }), "{error}");
    let plain = super::support::gate("- name: s\n  secrets: {}\n");
    let gone = run(&plain, "/nonexistent".as_ref()).await;
    assert!(chain(&gone.unwrap_err()).contains("cannot be read"));
}
