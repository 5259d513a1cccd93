//! CycloneDX JSON with `vulnerabilities` (1.4 and newer): a disclosure report (VDR) or a VEX.

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

const FORMAT: &str = "CycloneDX with vulnerabilities";
/// `vulnerabilities` came with 1.4.
const VERSIONS: [&str; 4] = ["1.4", "1.5", "1.6", "1.7"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    #[serde(rename = "bomFormat")]
    format: String,
    spec_version: String,
    #[serde(default)]
    metadata: Metadata,
    /// Absent in an SBOM, which says nothing about vulnerabilities.
    vulnerabilities: Option<List<Vulnerability>>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    tools: Tools,
}

/// A list until 1.4, an object since.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tools {
    List(List<ToolName>),
    Object {
        #[serde(default)]
        components: List<ToolName>,
    },
}

impl Default for Tools {
    fn default() -> Self {
        Self::List(List::default())
    }
}

#[derive(Deserialize)]
struct ToolName {
    #[serde(default)]
    name: Short,
    #[serde(default)]
    version: Short,
}

#[derive(Deserialize)]
struct Vulnerability {
    #[serde(default)]
    id: Short,
    #[serde(default)]
    description: Short,
    #[serde(default)]
    ratings: List<Rating>,
    #[serde(default)]
    affects: List<Affected>,
    analysis: Option<Analysis>,
}

#[derive(Deserialize)]
struct Rating {
    severity: Option<Short>,
    score: Option<f64>,
    #[serde(default)]
    method: Short,
}

#[derive(Deserialize)]
struct Affected {
    #[serde(default, rename = "ref")]
    reference: Short,
}

#[derive(Deserialize)]
struct Analysis {
    state: Option<State>,
    #[serde(default)]
    justification: Short,
    #[serde(default)]
    detail: Short,
}

/// `impactAnalysisState` of the schema.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Resolved,
    ResolvedWithPedigree,
    Exploitable,
    InTriage,
    FalsePositive,
    NotAffected,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Report, ReportError> {
    let bom: Bom = serde_json::from_slice(bytes).map_err(|error| invalid(FORMAT, error))?;
    if bom.format != "CycloneDX" {
        return Err(invalid(FORMAT, format!("its bomFormat is `{}`", bom.format)));
    }
    if !VERSIONS.contains(&bom.spec_version.as_str()) {
        let why = format!(
            "its specVersion is `{}`, want one of {}",
            bom.spec_version,
            VERSIONS.join(", ")
        );
        return Err(invalid(FORMAT, why));
    }
    let Some(vulnerabilities) = bom.vulnerabilities else {
        return Err(invalid(FORMAT, "it has no `vulnerabilities`: an SBOM is no report"));
    };
    let (Tools::List(tools) | Tools::Object { components: tools }) = bom.metadata.tools;
    let tool = tools.0.into_iter().next();
    let mut report = Report::default();
    (report.tool, report.version) = match tool {
        Some(tool) => (tool.name.or("unnamed"), tool.version.0),
        None => ("unnamed".into(), String::new()),
    };
    for vulnerability in vulnerabilities.0 {
        let finding = finding(&vulnerability);
        // One for each thing that it affects, as scanners count.
        let affected = vulnerability.affects.0.into_iter().map(|affected| affected.reference.0);
        let mut places: Vec<String> = affected.collect();
        if places.is_empty() {
            places.push(String::new());
        }
        if report.findings.len() + places.len() > MAX_FINDINGS {
            return Err(ReportError::TooMany);
        }
        let each = places.into_iter().map(|place| Finding { place, ..finding.clone() });
        report.findings.extend(each);
    }
    Ok(report)
}

fn finding(vulnerability: &Vulnerability) -> Finding {
    let severity = vulnerability.ratings.0.iter().filter_map(|rating| {
        let word = rating.severity.as_ref().and_then(|word| Severity::of_word(&word.0));
        // Other methods have other scales.
        let cvss = rating.method.0.is_empty() || rating.method.0.starts_with("CVSS");
        word.or_else(|| Severity::of_score(rating.score.filter(|_| cvss)?))
    });
    let analysis = vulnerability.analysis.as_ref();
    let set_aside = analysis.and_then(|analysis| {
        let word = match analysis.state? {
            State::Resolved => "resolved",
            State::ResolvedWithPedigree => "resolved_with_pedigree",
            State::FalsePositive => "false_positive",
            State::NotAffected => "not_affected",
            State::Exploitable | State::InTriage => return None,
        };
        let why = [&analysis.justification.0, &analysis.detail.0];
        let why = why.into_iter().find(|why| !why.is_empty());
        Some(match why {
            Some(why) => text::line(&format!("{word}: {why}"), MAX_TEXT),
            None => word.to_owned(),
        })
    });
    Finding {
        id: vulnerability.id.clone().or("unnamed"),
        severity: severity.max(),
        title: vulnerability.description.0.clone(),
        place: String::new(),
        fix: Fix::Unknown,
        fingerprint: None,
        set_aside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: &str, vulnerabilities: &str) -> Result<Vec<Finding>, ReportError> {
        let text =
            format!(r#"{{"bomFormat":"CycloneDX","specVersion":"{version}",{vulnerabilities}}}"#);
        parse(text.as_bytes()).map(|report| report.findings)
    }

    #[test]
    fn ratings_and_analyses() {
        use Severity::{Critical, High, Low};
        for (vulnerability, severity, aside) in [
            (r#"{"id":"a"}"#, None, false),
            (r#"{"id":"a","ratings":[{"severity":"low"},{"severity":"high"}]}"#, Some(High), false),
            (r#"{"id":"a","ratings":[{"score":9.1,"method":"CVSSv31"}]}"#, Some(Critical), false),
            (r#"{"id":"a","ratings":[{"score":9.1,"method":"OWASP"}]}"#, None, false),
            (r#"{"id":"a","ratings":[{"severity":"unknown"}]}"#, None, false),
            (
                r#"{"id":"a","ratings":[{"severity":"low"}],"analysis":{"state":"not_affected"}}"#,
                Some(Low),
                true,
            ),
            (r#"{"id":"a","analysis":{"state":"in_triage"}}"#, None, false),
            (r#"{"id":"a","analysis":{"state":"exploitable"}}"#, None, false),
            (r#"{"id":"a","analysis":{"detail":"x"}}"#, None, false),
        ] {
            let found = read("1.6", &format!(r#""vulnerabilities":[{vulnerability}]"#)).unwrap();
            assert_eq!(found[0].severity, severity, "{vulnerability}");
            assert_eq!(found[0].set_aside.is_some(), aside, "{vulnerability}");
        }
        let two = r#""vulnerabilities":[{"id":"a","affects":[{"ref":"x"},{"ref":"y"}]}]"#;
        assert_eq!(read("1.4", two).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_report() {
        assert!(read("1.6", r#""vulnerabilities":[]"#).is_ok());
        assert!(read("1.6", r#""vulnerabilities":null"#).is_err(), "as good as absent");
        assert!(read("1.6", r#""components":[]"#).is_err(), "an SBOM");
        assert!(read("1.3", r#""vulnerabilities":[]"#).is_err());
        let odd = r#""vulnerabilities":[{"id":"a","analysis":{"state":"fine"}}]"#;
        assert!(read("1.6", odd).is_err(), "a state that nobody knows");
        assert!(
            parse(br#"{"bomFormat":"SPDX","specVersion":"1.6","vulnerabilities":[]}"#).is_err()
        );
    }
}
