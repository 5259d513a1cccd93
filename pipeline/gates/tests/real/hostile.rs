//! Programs that end badly, say too much, or leave traps.

use std::time::{Duration, Instant};

use pitlane_gates::Outcome;

use super::support::{chain, folder, run, script};

const CLEAN: &str = r#"{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t"}},"results":[]}]}"#;
const ERROR: &str = r#"{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t"}},"results":[{"level":"error","message":{"text":"m"}}]}]}"#;

fn writes(report: &str, then: &str) -> String {
    format!("printf %s '{report}' > report; {then}")
}

#[tokio::test]
async fn exit_codes_and_reports() {
    let checkout = folder(&[("a", "b")]);
    let codes = "    exitCodes: [0, 3]\n";
    for (report, then, more, want) in [
        (CLEAN, "exit 0", "", Outcome::Passed),
        (CLEAN, "exit 1", "", Outcome::Failed),
        (CLEAN, "exit 3", codes, Outcome::Passed),
        (CLEAN, "exit 4", codes, Outcome::Failed),
        (CLEAN, "kill -9 $$", "", Outcome::Failed),
        (ERROR, "exit 0", "", Outcome::Failed),
        (ERROR, "exit 0", "  rules: {failOn: critical}\n", Outcome::Warned),
    ] {
        let gate = script(&writes(report, then), "sarif", more);
        let ran = run(&gate, checkout.path()).await.unwrap();
        assert_eq!(ran.verdict.outcome, want, "{then} {more}: {:?}", ran.verdict);
        assert_eq!(ran.attestations[0].predicate["result"], serde_json::json!(want));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_says_why() {
    let checkout = folder(&[("a", "b")]);
    for (text, more, want) in [
        ("echo no database >&2; exit 2", "", "ended with code 2 and left no report"),
        ("echo no database >&2; exit 2", "", "no database"),
        ("echo x > report", "", "no SARIF 2.1.0"),
        ("ln -s /etc/passwd report", "", "left no report"),
        ("mkfifo report", "", "left no report"),
        ("mkdir report", "", "left no report"),
        ("head -c 17000000 /dev/zero > report", "", "16777216 are read"),
        ("sleep 60", "  limits: {wallSeconds: 1}\n", "not finished after 1 s"),
    ] {
        let started = Instant::now();
        let error = run(&script(text, "sarif", more), checkout.path()).await.unwrap_err();
        assert!(chain(&error).contains(want), "{text}: {}", chain(&error));
        assert!(started.elapsed() < Duration::from_secs(8), "{text}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn nothing_of_ours_is_in_its_environment_and_nothing_of_it_stays() {
    let checkout = folder(&[("a", "b")]);
    // What it sees comes out as the name of a test; it leaves something running behind itself.
    let text = r#"sleep 3600 & echo $! > /proc/self/cwd/pid
        seen=$(env | cut -d= -f1 | sort | tr '\n' ' '; pwd -P | sed 's/.*gate-[^/]*//'; cat $0/a; cat pid)
        echo "<testsuite><testcase name='$seen'/></testsuite>" > report"#;
    let started = Instant::now();
    let ran = run(&script(text, "junit", ""), checkout.path()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let passed = ran.attestations[0].predicate["passedTests"][1].as_str().unwrap().to_owned();
    let words: Vec<&str> = passed.split_whitespace().collect();
    let (pid, names) = words.split_last().unwrap();
    // What the shell sets by itself.
    let shells = ["PWD", "_", "OLDPWD", "SHLVL"];
    let names: Vec<&str> = names.iter().copied().filter(|name| !shells.contains(name)).collect();
    assert_eq!(names, ["HOME", "LANG", "PATH", "/own"], "{passed}");
    // The file of the checkout, and then the number.
    let pid = pid.strip_prefix('b').unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{pid} still runs: {state}");
}

#[tokio::test]
async fn floods_are_cut() {
    let checkout = folder(&[("a", "b")]);
    let flood = "head -c 50000000 /dev/zero; head -c 50000000 /dev/zero >&2; ";
    let gate = script(&format!("{flood}{}", writes(CLEAN, "exit 0")), "sarif", "");
    assert!(run(&gate, checkout.path()).await.unwrap().verdict.passed());
}

#[tokio::test]
async fn dropping_it_ends_the_program() {
    let checkout = folder(&[("a", "b")]);
    let text = "echo $$ > $0/pid; exec sleep 3600";
    let gate = script(text, "sarif", "");
    let running = run(&gate, checkout.path());
    assert!(tokio::time::timeout(Duration::from_millis(700), running).await.is_err());
    let pid = std::fs::read_to_string(checkout.path().join("pid")).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "still runs: {state}");
}
