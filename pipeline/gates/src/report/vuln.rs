//! Vulnerability scans: JSON of trivy (schema 2) or grype, or cosign's `vuln` predicate around
//! one of them or around SARIF.
//!
//! Sources: trivy's `pkg/types/report.go`, grype's `grype/presenter/models`, cosign's
//! `specs/COSIGN_VULN_ATTESTATION_SPEC.md`.

use serde::Deserialize;

use super::{
    ReportError,
    bounded::{List, Short},
    invalid, sarif,
};
use crate::{
    finding::{Finding, Fix, MAX_FINDINGS, MAX_TEXT, Report, Severity},
    text,
};

const FORMAT: &str = "vulnerability scan (trivy, grype, or cosign's predicate)";
const TRIVY: &str = "trivy report";
const GRYPE: &str = "grype report";

/// What tells them apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    #[serde(rename = "SchemaVersion")]
    schema_version: Option<u32>,
    descriptor: Option<Descriptor>,
    scanner: Option<Scanner>,
}

#[derive(Deserialize)]
struct Descriptor {
    name: Short,
    #[serde(default)]
    version: Short,
}

#[derive(Deserialize)]
struct Scanner {
    #[serde(default)]
    uri: Short,
    #[serde(default)]
    version: Short,
    result: Option<Box<serde_json::value::RawValue>>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Report, ReportError> {
    let kind: Kind = serde_json::from_slice(bytes).map_err(|error| invalid(FORMAT, error))?;
    match kind {
        Kind { schema_version: Some(2), .. } => trivy(bytes),
        Kind { schema_version: Some(other), .. } => {
            Err(invalid(TRIVY, format!("its SchemaVersion is {other}, want 2")))
        }
        Kind { descriptor: Some(descriptor), .. } => grype(bytes, descriptor),
        Kind { scanner: Some(scanner), .. } => {
            let Some(result) = scanner.result else {
                return Err(invalid(FORMAT, "the predicate has no `scanner.result`"));
            };
            let inner = result.get().as_bytes();
            // Not this function again: a predicate in a predicate is none.
            let kind: Kind =
                serde_json::from_slice(inner).map_err(|error| invalid(FORMAT, error))?;
            let mut report = match kind {
                Kind { schema_version: Some(2), .. } => trivy(inner),
                Kind { descriptor: Some(descriptor), .. } => grype(inner, descriptor),
                _ => sarif::parse(inner),
            }?;
            if !scanner.uri.0.is_empty() {
                (report.tool, report.version) = (scanner.uri.0, scanner.version.0);
            }
            Ok(report)
        }
        _ => Err(invalid(FORMAT, "neither SchemaVersion, descriptor nor scanner is in it")),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Trivy {
    #[serde(default)]
    results: List<TrivyResult>,
    #[serde(default)]
    trivy: TrivyVersion,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyVersion {
    #[serde(default)]
    version: Short,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyResult {
    #[serde(default)]
    target: Short,
    #[serde(default)]
    vulnerabilities: List<TrivyVulnerability>,
    #[serde(default)]
    misconfigurations: List<TrivyOther>,
    #[serde(default)]
    secrets: List<TrivyOther>,
}

#[derive(Deserialize)]
struct TrivyVulnerability {
    #[serde(rename = "VulnerabilityID")]
    id: Short,
    #[serde(default, rename = "PkgName")]
    package: Short,
    #[serde(default, rename = "InstalledVersion")]
    version: Short,
    #[serde(default, rename = "FixedVersion")]
    fixed: Short,
    #[serde(default, rename = "Severity")]
    severity: Short,
    #[serde(default, rename = "Title")]
    title: Short,
}

#[derive(Deserialize)]
struct TrivyOther {
    #[serde(default, rename = "ID")]
    id: Short,
    #[serde(default, rename = "RuleID")]
    rule: Short,
    #[serde(default, rename = "Severity")]
    severity: Short,
    #[serde(default, rename = "Title")]
    title: Short,
    #[serde(default, rename = "Status")]
    status: Short,
}

fn trivy(bytes: &[u8]) -> Result<Report, ReportError> {
    let read: Trivy = serde_json::from_slice(bytes).map_err(|error| invalid(TRIVY, error))?;
    let mut report =
        Report { tool: "trivy".into(), version: read.trivy.version.0, ..Report::default() };
    for result in read.results.0 {
        for found in result.vulnerabilities.0 {
            let place = format!("{}@{}", found.package.0, found.version.0);
            let fix = match found.fixed.0.is_empty() {
                true => Fix::None,
                false => Fix::Version(found.fixed.0),
            };
            add(&mut report, found.id, &found.severity, found.title, &place, fix)?;
        }
        let secrets = result.secrets.0.into_iter().map(|found| (found, true));
        let others = result.misconfigurations.0.into_iter().map(|found| (found, false));
        for (found, secret) in others.chain(secrets) {
            // A check that holds is listed, too.
            if !secret && found.status.0 == "PASS" {
                continue;
            }
            let id = if secret { found.rule } else { found.id };
            add(&mut report, id, &found.severity, found.title, &result.target.0, Fix::Unknown)?;
        }
    }
    Ok(report)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grype {
    /// Absent in what is no report of matches.
    matches: List<Match>,
    #[serde(default)]
    ignored_matches: List<Match>,
}

#[derive(Deserialize)]
struct Match {
    vulnerability: GrypeVulnerability,
    artifact: GrypeArtifact,
}

#[derive(Deserialize)]
struct GrypeVulnerability {
    id: Short,
    #[serde(default)]
    severity: Short,
    #[serde(default)]
    description: Short,
    #[serde(default)]
    fix: GrypeFix,
}

#[derive(Default, Deserialize)]
struct GrypeFix {
    #[serde(default)]
    versions: List<Short>,
    #[serde(default)]
    state: Short,
}

#[derive(Deserialize)]
struct GrypeArtifact {
    name: Short,
    #[serde(default)]
    version: Short,
}

fn grype(bytes: &[u8], descriptor: Descriptor) -> Result<Report, ReportError> {
    if descriptor.name.0 != "grype" {
        return Err(invalid(GRYPE, format!("it is by `{}`", descriptor.name.0)));
    }
    let read: Grype = serde_json::from_slice(bytes).map_err(|error| invalid(GRYPE, error))?;
    let version = descriptor.version.0;
    let mut report = Report { tool: "grype".into(), version, ..Report::default() };
    let ignored = read.ignored_matches.0.into_iter().map(|found| (found, true));
    for (found, ignored) in read.matches.0.into_iter().map(|found| (found, false)).chain(ignored) {
        let Match { vulnerability, artifact } = found;
        let place = format!("{}@{}", artifact.name.0, artifact.version.0);
        let fix =
            match (vulnerability.fix.versions.0.into_iter().next(), &*vulnerability.fix.state.0) {
                (Some(version), _) => Fix::Version(version.0),
                (None, "not-fixed" | "wont-fix") => Fix::None,
                (None, _) => Fix::Unknown,
            };
        let severity = vulnerability.severity;
        add(&mut report, vulnerability.id, &severity, vulnerability.description, &place, fix)?;
        if ignored && let Some(last) = report.findings.last_mut() {
            last.set_aside = Some("ignored by grype".into());
        }
    }
    Ok(report)
}

fn add(
    report: &mut Report,
    id: Short,
    severity: &Short,
    title: Short,
    place: &str,
    fix: Fix,
) -> Result<(), ReportError> {
    if report.findings.len() == MAX_FINDINGS {
        return Err(ReportError::TooMany);
    }
    report.findings.push(Finding {
        id: id.or("unnamed"),
        severity: Severity::of_word(&severity.0),
        title: title.0,
        place: text::line(place, MAX_TEXT),
        fix,
        fingerprint: None,
        set_aside: None,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIVY_REPORT: &str = r#"{"SchemaVersion":2,"Trivy":{"Version":"0.58.1"},"Results":[
        {"Target":"a","Vulnerabilities":[
            {"VulnerabilityID":"CVE-1","PkgName":"p","InstalledVersion":"1","FixedVersion":"2","Severity":"HIGH"},
            {"VulnerabilityID":"CVE-2","PkgName":"p","InstalledVersion":"1","Severity":"UNKNOWN"}]},
        {"Target":"Dockerfile","Misconfigurations":[
            {"ID":"DS002","Severity":"HIGH","Status":"FAIL"},{"ID":"DS001","Severity":"LOW","Status":"PASS"}],
         "Secrets":[{"RuleID":"aws","Severity":"CRITICAL"}],"Vulnerabilities":null}]}"#;
    const GRYPE_REPORT: &str = r#"{"descriptor":{"name":"grype","version":"0.79.3"},
        "matches":[{"vulnerability":{"id":"GHSA-1","severity":"Critical","fix":{"versions":["2"],"state":"fixed"}},
                    "artifact":{"name":"p","version":"1"}},
                   {"vulnerability":{"id":"CVE-3","severity":"Negligible","fix":{"state":"wont-fix"}},
                    "artifact":{"name":"q","version":"1"}}],
        "ignoredMatches":[{"vulnerability":{"id":"CVE-4"},"artifact":{"name":"q"}}]}"#;

    fn lines(text: &str) -> Vec<String> {
        let report = parse(text.as_bytes()).unwrap();
        let line = |f: &Finding| {
            let severity = f.severity.map_or("?", Severity::name);
            format!(
                "{} {severity} {} {:?}{}",
                f.id,
                f.place,
                f.fix,
                if f.set_aside.is_some() { " aside" } else { "" }
            )
        };
        report.findings.iter().map(line).collect()
    }

    #[test]
    fn scans_of_both_and_predicates_around_them() {
        let trivy = [
            r#"CVE-1 high p@1 Version("2")"#,
            "CVE-2 ? p@1 None",
            "DS002 high Dockerfile Unknown",
            "aws critical Dockerfile Unknown",
        ];
        let grype = [
            r#"GHSA-1 critical p@1 Version("2")"#,
            "CVE-3 info q@1 None",
            "CVE-4 ? q@ Unknown aside",
        ];
        assert_eq!(lines(TRIVY_REPORT), trivy);
        assert_eq!(lines(GRYPE_REPORT), grype);
        let around = |result: &str| {
            format!(
                r#"{{"invocation":{{}},"scanner":{{"uri":"pkg:github/aquasecurity/trivy@0.58.1",
                   "version":"0.58.1","result":{result}}},"metadata":{{}}}}"#
            )
        };
        assert_eq!(lines(&around(TRIVY_REPORT)), trivy);
        assert_eq!(lines(&around(GRYPE_REPORT)), grype);
        let sarif = r#"{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t"}},"results":[]}]}"#;
        assert!(lines(&around(sarif)).is_empty());
        let report = parse(around(TRIVY_REPORT).as_bytes()).unwrap();
        assert_eq!(report.tool, "pkg:github/aquasecurity/trivy@0.58.1");
        let twice = around(&around(TRIVY_REPORT));
        assert!(parse(twice.as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_report() {
        for bad in [
            "{}",
            "[]",
            r#"{"SchemaVersion":1}"#,
            r#"{"SchemaVersion":2,"Results":{}}"#,
            r#"{"descriptor":{"name":"syft"},"matches":[]}"#,
            r#"{"descriptor":{"name":"grype"}}"#,
            r#"{"scanner":{"uri":"x"}}"#,
            r#"{"scanner":{"uri":"x","result":{}}}"#,
            r#"{"scanner":{"uri":"x","result":null}}"#,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(br#"{"SchemaVersion":2}"#).is_ok(), "trivy leaves empty lists out");
    }
}
