//! Verdict and report as predicates of attestations. Pure.
//!
//! Every gate gives in-toto's `test-result`: one type to ask for, whatever the gate is. Besides
//! it, the report itself, in the type that its readers know; docs/gates.md says which and why.

use jiff::Timestamp;
use pitlane_release::Digest;
use serde_json::{Value, json};

use crate::{
    decide::{Outcome, Verdict},
    finding::Report,
    report::Format,
};

/// in-toto's attestation framework, predicate `test-result`.
pub const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
/// cosign's vulnerability scan; `cosign --type vuln`.
pub const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
/// CycloneDX as a VEX or VDR; apart from `https://cyclonedx.org/bom`, so that nobody takes one
/// for an SBOM.
pub const CYCLONEDX_VEX: &str = "https://cyclonedx.org/vex";
/// SARIF as in-toto's witness attests it; in-toto has vetted no type of its own.
pub const SARIF: &str = "https://witness.dev/attestations/sarif/v0.1";
/// Largest report that goes into an attestation (bytes); of larger ones the digest does.
pub const MAX_EMBEDDED: usize = 2 << 20;
/// Most names of a list of tests.
const MAX_NAMES: usize = 1000;

/// A predicate to be signed, about whatever the gate looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Attestation {
    /// Its type.
    pub predicate_type: &'static str,
    /// What `cosign --type` calls it, where it has a word for it; else the type itself is given.
    pub cosign_type: Option<&'static str>,
    /// The predicate.
    pub predicate: Value,
}

/// What predicates are made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The gate's name.
    pub gate: &'a str,
    /// Digest of the gate's configuration.
    pub configuration: Digest,
    /// The report's format.
    pub format: Format,
    /// The report as it was written.
    pub bytes: &'a [u8],
    /// The report as it was read.
    pub report: &'a Report,
    /// The answer.
    pub verdict: &'a Verdict,
    /// When the gate began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How locked up the program was, by the sandbox's word.
    pub isolation: Option<&'a Value>,
}

/// The predicates of a gate: the result first, then the report where it has a type of its own.
pub fn attestations(facts: &Facts<'_>) -> Vec<Attestation> {
    let result = Attestation {
        predicate_type: TEST_RESULT,
        cosign_type: None,
        predicate: test_result(facts),
    };
    [Some(result), report(facts)].into_iter().flatten().collect()
}

fn test_result(facts: &Facts<'_>) -> Value {
    let Facts { gate, verdict, .. } = facts;
    let (mut passed, mut warned, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    if facts.format == Format::Junit {
        passed.clone_from(&facts.report.passed);
        failed.extend(facts.report.findings.iter().map(|finding| finding.id.clone()));
        if verdict.passed() {
            // They failed, and do not count by the rules.
            warned = std::mem::take(&mut failed);
        }
    }
    // The gate itself is a test as well: what a policy asks for by name.
    match verdict.outcome {
        Outcome::Passed => passed.insert(0, (*gate).to_owned()),
        Outcome::Warned => warned.insert(0, (*gate).to_owned()),
        Outcome::Failed => failed.insert(0, (*gate).to_owned()),
    }
    for names in [&mut passed, &mut warned, &mut failed] {
        names.truncate(MAX_NAMES);
    }
    let mut result = json!({
        "result": verdict.outcome,
        "configuration": [
            { "name": format!("gate {gate}"), "digest": { "sha256": facts.configuration.hex() } },
            {
                "name": "report",
                "digest": { "sha256": Digest::of(facts.bytes).hex() },
                "mediaType": media_type(facts.format),
            },
        ],
        "passedTests": passed,
        "warnedTests": warned,
        "failedTests": failed,
        // Readers skip what they do not know (in-toto's parsing rules).
        "verdict": verdict,
    });
    if let Some(isolation) = facts.isolation {
        result["isolation"] = isolation.clone();
    }
    result
}

/// The report's media type.
pub fn media_type(format: Format) -> &'static str {
    match format {
        Format::Sarif => "application/sarif+json",
        Format::Junit => "application/xml",
        Format::Cyclonedx => "application/vnd.cyclonedx+json",
        Format::Vuln => "application/json",
    }
}

fn report(facts: &Facts<'_>) -> Option<Attestation> {
    let document = || {
        let whole = facts.bytes.len() <= MAX_EMBEDDED;
        whole.then(|| serde_json::from_slice::<Value>(facts.bytes).ok()).flatten()
    };
    let digest = Digest::of(facts.bytes).hex();
    match facts.format {
        Format::Junit => None,
        Format::Sarif => Some(Attestation {
            predicate_type: SARIF,
            cosign_type: None,
            predicate: json!({
                "report": document()?,
                "reportFileName": format!("{}.sarif", facts.gate),
                "reportDigestSet": { "sha256": digest },
            }),
        }),
        Format::Cyclonedx => Some(Attestation {
            predicate_type: CYCLONEDX_VEX,
            cosign_type: None,
            predicate: document()?,
        }),
        Format::Vuln => Some(Attestation {
            predicate_type: VULN,
            cosign_type: Some("vuln"),
            predicate: vuln(facts, document()?),
        }),
    }
}

/// cosign's predicate around a scan, unless the scanner wrote one already.
fn vuln(facts: &Facts<'_>, document: Value) -> Value {
    if document.get("scanner").is_some() {
        return document;
    }
    let Report { tool, version, .. } = facts.report;
    let owner = if tool == "trivy" { "aquasecurity" } else { "anchore" };
    // grype says which data it used; trivy's report does not.
    let database = document.pointer("/descriptor/db");
    let built = database.and_then(|db| db.pointer("/status/built").or_else(|| db.get("built")));
    json!({
        "invocation": {},
        "scanner": {
            "uri": format!("pkg:github/{owner}/{tool}@{version}"),
            "version": version,
            "db": { "uri": "", "version": built.and_then(Value::as_str).unwrap_or_default() },
            "result": document,
        },
        "metadata": {
            "scanStartedOn": facts.started.to_string(),
            "scanFinishedOn": facts.finished.to_string(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decide::decide, report::parse, rules::Rules};

    fn made(format: Format, bytes: &[u8]) -> Vec<Attestation> {
        let report = parse(format, bytes).unwrap();
        let verdict = decide(&report, format, &Rules::default(), "2026-11-26".parse().unwrap());
        attestations(&Facts {
            gate: "scan",
            configuration: Digest::of("c"),
            format,
            bytes,
            report: &report,
            verdict: &verdict,
            started: "2026-11-26T10:00:00Z".parse().unwrap(),
            finished: "2026-11-26T10:00:05Z".parse().unwrap(),
            isolation: None,
        })
    }

    fn seed(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
        std::fs::read(folder.join(name)).unwrap()
    }

    #[test]
    fn predicates_of_each_format() {
        for (name, format, types) in [
            ("sarif-tool.json", Format::Sarif, vec![TEST_RESULT, SARIF]),
            ("junit-pytest.xml", Format::Junit, vec![TEST_RESULT]),
            ("cyclonedx-vdr.json", Format::Cyclonedx, vec![TEST_RESULT, CYCLONEDX_VEX]),
            ("vuln-trivy.json", Format::Vuln, vec![TEST_RESULT, VULN]),
            ("vuln-grype.json", Format::Vuln, vec![TEST_RESULT, VULN]),
            ("vuln-cosign.json", Format::Vuln, vec![TEST_RESULT, VULN]),
        ] {
            let made = made(format, &seed(name));
            let found: Vec<&str> = made.iter().map(|made| made.predicate_type).collect();
            assert_eq!(found, types, "{name}");
            for attestation in &made {
                if attestation.predicate_type == VULN {
                    // What was written is what we read.
                    let text = attestation.predicate.to_string();
                    let again = parse(Format::Vuln, text.as_bytes()).unwrap();
                    let first = parse(format, &seed(name)).unwrap();
                    assert_eq!(again.findings, first.findings);
                    assert!(attestation.predicate["metadata"]["scanFinishedOn"].is_string());
                }
            }
        }
    }

    #[test]
    fn results_as_they_are_signed() {
        let made = made(Format::Junit, &seed("junit-pytest.xml"));
        insta::assert_snapshot!(serde_json::to_string_pretty(&made[0].predicate).unwrap(), @r#"
        {
          "configuration": [
            {
              "digest": {
                "sha256": "2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6"
              },
              "name": "gate scan"
            },
            {
              "digest": {
                "sha256": "07de38edaa589c8bf34934c283ef6b26e0a3f68a9193e88de2e9e134f9ca9752"
              },
              "mediaType": "application/xml",
              "name": "report"
            }
          ],
          "failedTests": [
            "scan",
            "tests.test_model::test_range"
          ],
          "passedTests": [
            "tests.test_model::test_shape"
          ],
          "result": "FAILED",
          "verdict": {
            "counts": {
              "high": 1
            },
            "expired": [],
            "named": [
              {
                "fix": "unknown",
                "id": "tests.test_model::test_range",
                "place": "tests/test_model.py:14",
                "severity": "high",
                "title": "assert 1.4 <= 1.0"
              }
            ],
            "notCounted": 0,
            "outcome": "FAILED",
            "unused": [],
            "why": [
              "1 finding of high, at most 0"
            ]
          },
          "warnedTests": []
        }
        "#);
    }

    #[test]
    fn large_reports_are_named_by_their_digest_alone() {
        let text = format!(
            r#"{{"version":"2.1.0","runs":[{{"tool":{{"driver":{{"name":"{}"}}}}}}]}}"#,
            "t".repeat(MAX_EMBEDDED)
        );
        let made = made(Format::Sarif, text.as_bytes());
        assert_eq!(made.len(), 1);
        let digest = made[0].predicate["configuration"][1]["digest"]["sha256"].as_str().unwrap();
        assert_eq!(digest, Digest::of(&text).hex());
    }
}
