//! What the scanner found, as SARIF 2.1.0. Pure.

use std::fmt::Write as _;

use jiff::civil::Date;
use serde_json::{Value, json};

use super::{
    Allow,
    rules::{COSIGN, ENV, RULES, Rule},
    walk::Scan,
};
use crate::finding::Severity;

/// Who wrote it.
pub(super) const TOOL: &str = "pitlane-secrets";
/// What the fingerprint is called.
const FINGERPRINT: &str = "pitlaneSecret/v1";

/// The report. What is allowed on this day stands in it as suppressed, with the reason.
pub fn sarif(scan: &Scan, allow: &[Allow], today: Date) -> Value {
    let rules: Vec<&Rule> = RULES.iter().chain([&COSIGN, &ENV]).collect();
    let described: Vec<Value> = rules.iter().map(|rule| describe(rule)).collect();
    let results = scan.secrets.iter().map(|(path, secret)| {
        let number = rules.iter().position(|rule| rule.id == secret.rule).unwrap_or_default();
        let mut result = json!({
            "ruleId": secret.rule,
            "ruleIndex": number,
            "level": level(rules[number].severity),
            "message": {
                "text": format!("{}, `{}`; take it back and make a new one", rules[number].about, secret.shown)
            },
            "locations": [{
                "physicalLocation": {
                    "artifactLocation": { "uri": uri(path) },
                    "region": { "startLine": secret.line },
                }
            }],
            "partialFingerprints": { FINGERPRINT: secret.fingerprint },
        });
        let allowed = allow.iter().find(|entry| entry.fits(path, &secret.fingerprint, today));
        if let Some(entry) = allowed {
            result["suppressions"] =
                json!([{ "kind": "external", "status": "accepted", "justification": entry.reason }]);
        }
        result
    });
    let results: Vec<Value> = results.collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": TOOL,
                "version": env!("CARGO_PKG_VERSION"),
                "rules": described,
            }},
            "invocations": [{ "executionSuccessful": true }],
            "results": results,
            "properties": {
                "files": scan.files,
                "bytes": scan.bytes,
                "binary": scan.binary,
                "lfsPointers": scan.lfs,
                "cut": scan.cut,
                "others": scan.others,
            },
        }],
    })
}

fn describe(rule: &Rule) -> Value {
    // GitHub's convention, which `failOn` goes by: the middle of each range of CVSS.
    let score = match rule.severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.0",
        Severity::Low | Severity::Info => "2.0",
    };
    json!({
        "id": rule.id,
        "shortDescription": { "text": rule.about },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": { "security-severity": score },
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    }
}

/// A relative reference (RFC 3986): what is not plain in a path is percent-encoded.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~/+@!$&'()*,;=".contains(&byte);
        if plain {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
