//! SARIF 2.1.0 (OASIS standard; the section numbers are its).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    ReportError,
    bounded::{List, Short},
    invalid,
};
use crate::{
    finding::{Finding, Fix, MAX_FINDINGS, MAX_TEXT, Report, Severity},
    text,
};

const FORMAT: &str = "SARIF 2.1.0";

#[derive(Deserialize)]
struct Log {
    version: String,
    #[serde(default)]
    runs: List<Run>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    #[serde(default)]
    results: List<SarifResult>,
    #[serde(default)]
    invocations: List<Invocation>,
}

#[derive(Deserialize)]
struct Tool {
    driver: Driver,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: Short,
    #[serde(default)]
    version: Short,
    #[serde(default)]
    semantic_version: Short,
    #[serde(default)]
    rules: List<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: Short,
    #[serde(default)]
    default_configuration: Configuration,
    #[serde(default)]
    properties: Properties,
}

#[derive(Default, Deserialize)]
struct Configuration {
    level: Option<Level>,
}

/// GitHub's convention for code scanning, which scanners follow: a CVSS score as text or number.
#[derive(Default, Deserialize)]
struct Properties {
    #[serde(default, rename = "security-severity")]
    score: Option<Score>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Score {
    Number(f64),
    Text(String),
}

/// Section 3.27.10.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    None,
    Note,
    Warning,
    Error,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult {
    #[serde(default)]
    rule_id: Short,
    rule_index: Option<i64>,
    #[serde(default)]
    rule: RuleReference,
    /// Section 3.27.9: `fail` when absent.
    kind: Option<Kind>,
    level: Option<Level>,
    message: Message,
    #[serde(default)]
    locations: List<Location>,
    #[serde(default)]
    partial_fingerprints: BTreeMap<String, Short>,
    #[serde(default)]
    fingerprints: BTreeMap<String, Short>,
    #[serde(default)]
    suppressions: List<Suppression>,
    #[serde(default)]
    baseline_state: Short,
    #[serde(default)]
    properties: Properties,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleReference {
    #[serde(default)]
    id: Short,
    index: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    NotApplicable,
    Pass,
    Fail,
    Review,
    Open,
    Informational,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    text: Short,
    #[serde(default)]
    id: Short,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    #[serde(default)]
    physical_location: Physical,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    #[serde(default)]
    artifact_location: Artifact,
    #[serde(default)]
    region: Region,
}

#[derive(Default, Deserialize)]
struct Artifact {
    #[serde(default)]
    uri: Short,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: Option<u64>,
}

#[derive(Deserialize)]
struct Suppression {
    #[serde(default)]
    status: Short,
    #[serde(default)]
    justification: Short,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Report, ReportError> {
    let log: Log = serde_json::from_slice(bytes).map_err(|error| invalid(FORMAT, error))?;
    if log.version != "2.1.0" {
        return Err(invalid(FORMAT, format!("its version is `{}`", log.version)));
    }
    let Some(first) = log.runs.0.first() else {
        // Section 3.13.4 allows it: then nothing was run, which is no answer.
        return Err(invalid(FORMAT, "it has no runs"));
    };
    let driver = &first.tool.driver;
    let version =
        if driver.version.0.is_empty() { &driver.semantic_version } else { &driver.version };
    let mut report =
        Report { tool: driver.name.0.clone(), version: version.0.clone(), ..Report::default() };
    for run in log.runs.0 {
        if run.invocations.0.iter().any(|invocation| !invocation.execution_successful) {
            return Err(ReportError::Unfinished { tool: run.tool.driver.name.0 });
        }
        let rules = run.tool.driver.rules.0;
        for result in run.results.0 {
            let failed = matches!(result.kind, None | Some(Kind::Fail));
            let other =
                matches!(result.kind, Some(Kind::Review | Kind::Open | Kind::Informational));
            // Section 3.27.24: what was there before, and is gone.
            if result.baseline_state.0 == "absent" || !(failed || other) {
                continue;
            }
            if report.findings.len() == MAX_FINDINGS {
                return Err(ReportError::TooMany);
            }
            report.findings.push(finding(result, &rules, failed));
        }
    }
    Ok(report)
}

fn finding(result: SarifResult, rules: &[Rule], failed: bool) -> Finding {
    let index = result.rule_index.or(result.rule.index);
    let named = if result.rule_id.0.is_empty() { &result.rule.id } else { &result.rule_id };
    let rule = index
        .and_then(|index| rules.get(usize::try_from(index).ok()?))
        .or_else(|| rules.iter().find(|rule| !named.0.is_empty() && rule.id.0 == named.0));
    let severity = match failed {
        true => severity(&result, rule),
        // Section 3.27.10: the level of everything else is `none`.
        false => Severity::Info,
    };
    let id = named.clone().or(rule.map_or("unnamed", |rule| rule.id.0.as_str()));
    let place = result.locations.0.into_iter().next().map(|location| {
        let Physical { artifact_location, region } = location.physical_location;
        match region.start_line {
            Some(line) => text::line(&format!("{}:{line}", artifact_location.uri.0), MAX_TEXT),
            None => artifact_location.uri.0,
        }
    });
    let fingerprints =
        result.fingerprints.into_values().chain(result.partial_fingerprints.into_values());
    let accepted = |suppression: &Suppression| {
        // Section 3.35.3: accepted when absent.
        suppression.status.0.is_empty() || suppression.status.0 == "accepted"
    };
    // Section 3.27.23: all of them must be accepted.
    let all = !result.suppressions.0.is_empty() && result.suppressions.0.iter().all(accepted);
    let reason = result.suppressions.0.into_iter().next().filter(|_| all);
    Finding {
        id,
        severity: Some(severity),
        title: result.message.text.or(&result.message.id.0),
        place: place.unwrap_or_default(),
        fix: Fix::Unknown,
        fingerprint: fingerprints.map(|short| short.0).next(),
        set_aside: reason.map(|reason| reason.justification.or("suppressed")),
    }
}

fn severity(result: &SarifResult, rule: Option<&Rule>) -> Severity {
    let score = |properties: &Properties| match &properties.score {
        Some(Score::Number(number)) => Severity::of_score(*number),
        Some(Score::Text(text)) => Severity::of_score(text.trim().parse().ok()?),
        None => None,
    };
    let scored = score(&result.properties).or_else(|| score(&rule?.properties));
    let level = result.level.or_else(|| rule?.default_configuration.level);
    let leveled = match level.unwrap_or(Level::Warning) {
        Level::None => Severity::Info,
        Level::Note => Severity::Low,
        Level::Warning => Severity::Medium,
        Level::Error => Severity::High,
    };
    // Whichever is worse: a rule's score must not soften what the program calls an error.
    scored.map_or(leveled, |scored| scored.max(leveled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(result: &str, rule: &str) -> Option<Finding> {
        let text = format!(
            r#"{{"version":"2.1.0","runs":[{{"tool":{{"driver":{{"name":"t","rules":[{{"id":"R"{rule}}}]}}}},
               "results":[{{"ruleId":"R","message":{{"text":"m"}}{result}}}]}}]}}"#
        );
        parse(text.as_bytes()).unwrap().findings.pop()
    }

    #[test]
    fn levels_scores_and_kinds() {
        use Severity::{Critical, High, Info, Low, Medium};
        for (result, rule, want) in [
            ("", "", Some(Medium)),
            (r#","level":"error""#, "", Some(High)),
            (r#","level":"note""#, "", Some(Low)),
            (r#","level":"none""#, "", Some(Info)),
            ("", r#","defaultConfiguration":{"level":"error"}"#, Some(High)),
            (r#","level":"note""#, r#","properties":{"security-severity":"9.8"}"#, Some(Critical)),
            ("", r#","properties":{"security-severity":7.0}"#, Some(High)),
            (r#","level":"error""#, r#","properties":{"security-severity":"1.0"}"#, Some(High)),
            ("", r#","properties":{"security-severity":"many"}"#, Some(Medium)),
            (r#","kind":"pass""#, "", None),
            (r#","kind":"notApplicable""#, "", None),
            (r#","kind":"review","level":"none""#, "", Some(Info)),
            (r#","baselineState":"absent""#, "", None),
            (r#","baselineState":"unchanged""#, "", Some(Medium)),
        ] {
            assert_eq!(one(result, rule).map(|f| f.severity.unwrap()), want, "{result} {rule}");
        }
    }

    #[test]
    fn places_fingerprints_and_suppressions() {
        let found = one(
            r#","locations":[{"physicalLocation":{"artifactLocation":{"uri":"a/b.py"},"region":{"startLine":7}}}],
               "partialFingerprints":{"x":"f"},"suppressions":[{"kind":"inSource","justification":"why"}]"#,
            "",
        );
        let found = found.unwrap();
        assert_eq!((found.place.as_str(), found.fingerprint.as_deref()), ("a/b.py:7", Some("f")));
        assert_eq!(found.set_aside.as_deref(), Some("why"));
        for (suppressions, want) in [
            ("[]", false),
            ("null", false),
            (r#"[{"kind":"external"}]"#, true),
            (r#"[{"kind":"external","status":"accepted"}]"#, true),
            (r#"[{"kind":"external","status":"underReview"}]"#, false),
            (r#"[{"kind":"external"},{"kind":"external","status":"rejected"}]"#, false),
        ] {
            let found = one(&format!(r#","suppressions":{suppressions}"#), "").unwrap();
            assert_eq!(found.set_aside.is_some(), want, "{suppressions}");
        }
    }

    #[test]
    fn what_is_no_report() {
        let run = r#"{"tool":{"driver":{"name":"t"}}}"#;
        for (text, good) in [
            (format!(r#"{{"version":"2.1.0","runs":[{run}]}}"#), true),
            (format!(r#"{{"version":"2.0.0","runs":[{run}]}}"#), false),
            (format!(r#"{{"runs":[{run}]}}"#), false),
            (r#"{"version":"2.1.0","runs":[]}"#.into(), false),
            (r#"{"version":"2.1.0","runs":null}"#.into(), false),
            (r#"{"version":"2.1.0","runs":[{}]}"#.into(), false),
            (
                r#"{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t"}},"results":[{}]}]}"#
                    .into(),
                false,
            ),
            (
                r#"{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"t"}},
                   "invocations":[{"executionSuccessful":false}]}]}"#
                    .into(),
                false,
            ),
        ] {
            assert_eq!(parse(text.as_bytes()).is_ok(), good, "{text}");
        }
    }
}
