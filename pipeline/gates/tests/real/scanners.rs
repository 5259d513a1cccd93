//! trivy and grype as gates. The programs here are stand-ins, and say so: shell scripts that take
//! the same arguments, insist on those that matter, and write a report of the same form.

use std::path::Path;

use pitlane_gates::{Attestation, Outcome, Sandbox, predicate::VULN, sandbox::Plain};

use super::{
    jail::jail,
    support::{chain, folder, gate, program, run_in},
};

/// A stand-in for trivy.
const TRIVY: &str = r#"#!/bin/sh
# A stand-in for trivy that the tests of pitlane-gates made; it scans nothing.
if [ "$1" = --version ]; then echo "Version: VERSION"; exit 0; fi
echo "stand-in for trivy: $*" >&2
[ "$1" = filesystem ] || exit 64
for wanted in --offline-scan --skip-db-update --skip-java-db-update; do
    case " $* " in *" $wanted "*) ;; *) echo "without $wanted" >&2; exit 65;; esac
done
while [ $# -gt 1 ]; do
    case $1 in --output) out=$2;; --cache-dir) data=$2;; esac
    shift
done
[ -f "$data/db/trivy.db" ] || { echo "no database" >&2; exit 66; }
[ -f "$1/requirements.txt" ] || { echo "nothing to scan in $1" >&2; exit 67; }
printf %s '{"SchemaVersion":2,"Trivy":{"Version":"VERSION"},"ArtifactName":"stand-in","Results":[
 {"Target":"requirements.txt","Vulnerabilities":[
  {"VulnerabilityID":"CVE-2020-1747","PkgName":"PyYAML","InstalledVersion":"5.3","FixedVersion":"5.3.1","Severity":"CRITICAL"},
  {"VulnerabilityID":"CVE-2024-0002","PkgName":"numpy","InstalledVersion":"1.0","Severity":"HIGH"}]}]}' > "$out"
"#;

/// A stand-in for grype.
const GRYPE: &str = r#"#!/bin/sh
# A stand-in for grype that the tests of pitlane-gates made; it scans nothing.
if [ "$1" = --version ]; then echo "grype VERSION"; exit 0; fi
while [ $# -gt 1 ]; do
    case $1 in --file) out=$2;; --config) config=$2;; esac
    shift
done
case $(cat "$config") in *'"auto-update":false'*) ;; *) echo "would update" >&2; exit 65;; esac
case $1 in dir:/*) ;; *) exit 64;; esac
printf %s '{"descriptor":{"name":"grype","version":"VERSION","db":{"built":"2026-11-25T01:30:00Z"}},"matches":[
 {"vulnerability":{"id":"GHSA-6757-jp84-gxfx","severity":"Critical","fix":{"versions":["5.3.1"],"state":"fixed"}},
  "artifact":{"name":"PyYAML","version":"5.3"}}]}' > "$out"
"#;

struct Bench {
    programs: tempfile::TempDir,
    database: tempfile::TempDir,
    checkout: tempfile::TempDir,
}

fn bench(name: &str, text: &str, version: &str) -> Bench {
    let programs = folder(&[]);
    program(programs.path(), name, &text.replace("VERSION", version));
    Bench {
        programs,
        database: folder(&[("db/trivy.db", "")]),
        checkout: folder(&[("requirements.txt", "PyYAML==5.3\n")]),
    }
}

type Judged = Result<(Outcome, Vec<Attestation>), String>;

async fn judge(bench: &Bench, name: &str, rules: &str) -> Judged {
    judge_in(&Plain, bench, name, rules).await
}

async fn judge_in(sandbox: &dyn Sandbox, bench: &Bench, name: &str, rules: &str) -> Judged {
    let database = bench.database.path().display();
    let gate =
        gate(&format!("- name: scan\n  {name}: {{database: '{database}'}}\n  rules: {rules}\n"));
    let ran = run_in(sandbox, &gate, bench.checkout.path(), bench.programs.path()).await;
    ran.map(|ran| (ran.verdict.outcome, ran.attestations)).map_err(|error| chain(&error))
}

/// What the jail shows: the program, its database, the checkout, and a place for the report.
#[tokio::test]
async fn a_scanner_finds_its_things_in_the_jail() {
    let Some(jail) = jail() else { return };
    let mut bench = bench("trivy", TRIVY, "0.58.1");
    let (outcome, attestations) = judge_in(&jail, &bench, "trivy", "{}").await.unwrap();
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(attestations[1].predicate["scanner"]["result"]["ArtifactName"], "stand-in");
    bench.database = folder(&[]);
    let error = judge_in(&jail, &bench, "trivy", "{}").await.unwrap_err();
    assert!(error.contains("no database"), "{error}");
}

#[tokio::test]
async fn trivys_report_is_judged_and_attested() {
    let bench = bench("trivy", TRIVY, "0.58.1");
    for (rules, want) in [
        ("{}", Outcome::Failed),
        ("{fixedOnly: true}", Outcome::Failed),
        ("{ignore: [{id: CVE-2020-1747, until: 9999-12-31, reason: r}]}", Outcome::Failed),
        (
            "{fixedOnly: true, ignore: [{id: CVE-2020-1747, until: 9999-12-31, reason: r}]}",
            Outcome::Passed,
        ),
    ] {
        let (outcome, attestations) = judge(&bench, "trivy", rules).await.unwrap();
        assert_eq!(outcome, want, "{rules}");
        assert_eq!(attestations[1].predicate_type, VULN);
        let scanner = &attestations[1].predicate["scanner"];
        assert_eq!(scanner["uri"], "pkg:github/aquasecurity/trivy@0.58.1");
        assert_eq!(scanner["result"]["ArtifactName"], "stand-in");
    }
}

#[tokio::test]
async fn grypes_report_is_judged_and_attested() {
    let bench = bench("grype", GRYPE, "0.79.3");
    let (outcome, attestations) = judge(&bench, "grype", "{}").await.unwrap();
    assert_eq!(outcome, Outcome::Failed);
    let scanner = &attestations[1].predicate["scanner"];
    assert_eq!(scanner["uri"], "pkg:github/anchore/grype@0.79.3");
    assert_eq!(scanner["db"]["version"], "2026-11-25T01:30:00Z");
}

#[tokio::test]
async fn scanners_that_cannot_answer() {
    let old = bench("trivy", TRIVY, "0.49.0");
    let error = judge(&old, "trivy", "{}").await.unwrap_err();
    assert!(error.contains("0.49.0 is too old, want 0.50.0"), "{error}");
    let error = judge(&old, "grype", "{}").await.unwrap_err();
    assert!(error.contains("not on the PATH"), "{error}");

    let mut empty = bench("trivy", TRIVY, "0.58.1");
    empty.database = folder(&[]);
    let error = judge(&empty, "trivy", "{}").await.unwrap_err();
    assert!(error.contains("code 66") && error.contains("no database"), "{error}");

    let missing = gate("- name: scan\n  trivy: {database: /nonexistent}\n");
    let ran = run_in(&Plain, &missing, Path::new("/"), empty.programs.path()).await;
    assert!(chain(&ran.unwrap_err()).contains("no folder"));
}
