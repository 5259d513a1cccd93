//! The same in the jail, by the program `pitlane`: what a gate can and cannot do there.
//!
//! The jail runs a single process, so its programs here are ones of the shell's own words.

use std::{path::PathBuf, time::Duration};

use pitlane_gates::{Context, Outcome, sandbox::Jail};

use super::support::{chain, folder, gate, run_in, script};

/// The jail; none where the program was not built, which is a failure in CI.
pub(super) fn jail() -> Option<Jail> {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/release/pitlane");
    let pitlane = std::env::var_os("PITLANE_BIN").map_or(built, PathBuf::from);
    if pitlane.is_file() {
        return Some(Jail { pitlane });
    }
    let text = format!("{} is missing: cargo build --release --bins", pitlane.display());
    assert!(std::env::var("CI").is_err(), "{text}");
    eprintln!("skipped: {text}");
    None
}

#[tokio::test]
async fn a_gate_reads_the_checkout_and_writes_its_report() {
    let Some(jail) = jail() else { return };
    let checkout = folder(&[("name", "from-the-checkout\n")]);
    // The shell's words alone: `read`, `echo`, redirections; there is no /dev/null either.
    let text = r#"read name < $0/name
        own=kept
        { echo x > $0/new; } 2> $1/errors && own=checkout-written
        { read x < /etc/passwd; } 2> $1/errors && own=host-read
        { echo x > /usr/new; } 2> $1/errors && own=usr-written
        { echo x > /new; } 2> $1/errors && own=root-written
        echo "<testsuite><testcase name='$name $own $PWD ${HOME} ${SECRET:-none}'/></testsuite>" > $1/report"#;
    let gate = script(text, "junit", "");
    let ran = run_in(&jail, &gate, checkout.path(), "/usr/bin".as_ref()).await;
    let ran = ran.map_err(|error| chain(&error)).unwrap();
    assert_eq!(ran.verdict.outcome, Outcome::Passed, "{:?}", ran.verdict);
    let passed = &ran.attestations[0].predicate["passedTests"][1];
    assert_eq!(passed, "from-the-checkout kept / /nonexistent none");
    let isolation = ran.isolation.unwrap();
    assert_eq!(ran.attestations[0].predicate["isolation"], isolation, "it is signed, too");
    assert_eq!((&isolation["uid"], &isolation["seccomp"]), (&65532.into(), &true.into()));
    assert!(!checkout.path().join("new").exists());
}

#[tokio::test]
async fn it_starts_no_program_and_has_an_end() {
    let Some(jail) = jail() else { return };
    let checkout = folder(&[]);
    let clean = r#"{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t"}}}]}"#;
    let text = format!("echo '{clean}' > $1/report; /usr/bin/id");
    let ran = run_in(&jail, &script(&text, "sarif", ""), checkout.path(), "/".as_ref()).await;
    let ran = ran.map_err(|error| chain(&error)).unwrap();
    assert_eq!(ran.verdict.outcome, Outcome::Failed, "a program was started");

    let endless = script("while :; do :; done", "sarif", "  limits: {wallSeconds: 1}\n");
    let started = std::time::Instant::now();
    let ended = run_in(&jail, &endless, checkout.path(), "/".as_ref()).await;
    assert!(chain(&ended.unwrap_err()).contains("not finished after 1 s"));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_jail_that_cannot_be_closed_is_an_error() {
    let checkout = folder(&[]);
    let gate = script("exit 0", "sarif", "");
    for (pitlane, want) in
        [("/nonexistent", "cannot be started"), ("/bin/true", "jail was not closed")]
    {
        let jail = Jail { pitlane: pitlane.into() };
        let ran = run_in(&jail, &gate, checkout.path(), "/".as_ref()).await;
        assert!(chain(&ran.unwrap_err()).contains(want), "{pitlane}");
    }
}

#[tokio::test]
async fn an_images_program_runs_in_its_root() {
    let Some(jail) = jail() else { return };
    // A root file system with one program and what it is linked to: the host's shell.
    let root = folder(&[("etc/name", "of-the-image\n")]);
    let listed = std::process::Command::new("ldd").arg("/bin/sh").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/bin/sh"]) {
        let inside = root.path().join(&file[1..]);
        std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
        std::fs::copy(file, inside).unwrap();
    }
    let checkout = folder(&[]);
    let text = "read name < /etc/name; echo \\\"<testsuite><testcase name='$name'/></testsuite>\\\" > $0/report";
    let image = format!("r.example/lint@sha256:{}", "0".repeat(64));
    let gate = gate(&format!(
        "- name: image\n  image:\n    image: {image}\n    argv: [/bin/sh, -c, \"{text}\", \
         '{{work}}']\n    report: {{format: junit, path: report}}\n"
    ));
    let mut context = Context {
        sandbox: &jail,
        checkout: checkout.path(),
        root: Some(root.path()),
        path: "/".as_ref(),
    };
    let ran = pitlane_gates::run(&gate, context).await.map_err(|error| chain(&error)).unwrap();
    assert_eq!(ran.attestations[0].predicate["passedTests"][1], "of-the-image");
    context.root = None;
    assert!(pitlane_gates::run(&gate, context).await.is_err(), "an image that was not unpacked");
}
