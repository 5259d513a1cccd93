//! From a report and rules to an answer. Pure: the day is an argument.

use std::collections::BTreeMap;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    finding::{Finding, Fix, Report, Severity},
    report::Format,
    rules::{Ignore, Rules},
};

/// Most findings that a verdict names: the worst.
pub const MAX_NAMED: usize = 50;

/// The answer, in the words of in-toto's test results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// Yes, and nothing counted.
    Passed,
    /// Yes, with findings that are mild or few enough.
    Warned,
    /// No.
    Failed,
}

/// An answer with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The answer.
    pub outcome: Outcome,
    /// Why it is no; empty otherwise.
    pub why: Vec<String>,
    /// Severity → how many findings count.
    pub counts: BTreeMap<Severity, u64>,
    /// Findings that do not count: ignored, set aside, or without a fix.
    pub not_counted: u64,
    /// Entries of `ignore` that fit a finding, but whose day is over.
    pub expired: Vec<String>,
    /// Entries of `ignore` that fit nothing any more.
    pub unused: Vec<String>,
    /// The worst findings that count.
    pub named: Vec<Finding>,
}

impl Verdict {
    /// Whether the release may go on.
    pub fn passed(&self) -> bool {
        self.outcome != Outcome::Failed
    }

    /// One sentence.
    pub fn summary(&self) -> String {
        let counts = self.counts.iter().rev();
        let counts: Vec<String> =
            counts.map(|(severity, count)| format!("{count} {}", severity.name())).collect();
        match (self.outcome, counts.is_empty()) {
            (Outcome::Failed, _) => self.why.join("; "),
            (_, true) => "nothing found that counts".into(),
            (_, false) => format!("passed with {}", counts.join(", ")),
        }
    }

    /// Makes it a no, for a reason that the report does not tell.
    pub fn fail(&mut self, why: String) {
        self.outcome = Outcome::Failed;
        self.why.push(why);
    }
}

/// Judges a report on a day (UTC).
pub fn decide(report: &Report, format: Format, rules: &Rules, today: Date) -> Verdict {
    let mut counts: BTreeMap<Severity, u64> = BTreeMap::new();
    let mut used = vec![false; rules.ignore.len()];
    let mut expired = Vec::new();
    let mut counting: Vec<(Severity, &Finding)> = Vec::new();
    for finding in &report.findings {
        let fitting = rules.ignore.iter().enumerate().filter(|(_, entry)| fits(entry, finding));
        let mut ignored = false;
        for (number, entry) in fitting {
            used[number] = true;
            if today <= entry.until {
                ignored = true;
            } else {
                let text =
                    format!("{} was ignored until {}: {}", entry.id, entry.until, entry.reason);
                if !expired.contains(&text) {
                    expired.push(text);
                }
            }
        }
        let set_aside = rules.accept_set_aside && finding.set_aside.is_some();
        let unfixed = rules.fixed_only && finding.fix == Fix::None;
        if ignored || set_aside || unfixed {
            continue;
        }
        let severity = finding.severity.unwrap_or(rules.unknown);
        *counts.entry(severity).or_default() += 1;
        counting.push((severity, finding));
    }
    let not_counted = (report.findings.len() - counting.len()) as u64;
    let mut why = Vec::new();
    for (severity, count) in counts.iter().rev() {
        let most = match rules.max.get(severity) {
            _ if *severity >= rules.fail_on => 0,
            Some(most) => *most,
            None => continue,
        };
        if *count > u64::from(most) {
            let findings = if *count == 1 { "finding" } else { "findings" };
            why.push(format!("{count} {findings} of {}, at most {most}", severity.name()));
        }
    }
    if format == Format::Junit && report.tests() < u64::from(rules.min_tests) {
        why.push(format!("{} tests were run, at least {}", report.tests(), rules.min_tests));
    }
    let outcome = match (why.is_empty(), counting.is_empty()) {
        (false, _) => Outcome::Failed,
        (true, false) => Outcome::Warned,
        (true, true) => Outcome::Passed,
    };
    // Stable, so that equal ones stay in the report's order.
    counting.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
    let named = counting.into_iter().take(MAX_NAMED).map(|(_, finding)| finding.clone()).collect();
    let unused = rules.ignore.iter().zip(&used).filter(|(_, used)| !**used);
    let unused = unused.map(|(entry, _)| entry.id.clone()).collect();
    Verdict { outcome, why, counts, not_counted, expired, unused, named }
}

/// Whether an entry is about a finding.
fn fits(entry: &Ignore, finding: &Finding) -> bool {
    entry.id == finding.id
        && entry.place.as_ref().is_none_or(|place| finding.place.starts_with(place.as_str()))
        && (entry.fingerprint.is_none() || entry.fingerprint == finding.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &str, severity: Option<Severity>) -> Finding {
        Finding {
            id: id.into(),
            severity,
            title: "t".into(),
            place: format!("lib{id}@1.0"),
            fix: Fix::Version("2".into()),
            fingerprint: Some(format!("f{id}")),
            set_aside: None,
        }
    }

    fn judge(findings: Vec<Finding>, rules: &str) -> Verdict {
        let rules: Rules = pitlane_release::yaml::read(rules, 5000).unwrap();
        let report = Report { findings, ..Report::default() };
        decide(&report, Format::Sarif, &rules, "2026-11-26".parse().unwrap())
    }

    #[test]
    fn rules_and_their_answers() {
        use Outcome::{Failed, Passed, Warned};
        use Severity::{Critical, High, Low, Medium};
        let unfixed = |mut f: Finding| {
            f.fix = Fix::None;
            f
        };
        let unsaid = |mut f: Finding| {
            f.fix = Fix::Unknown;
            f
        };
        let aside = |mut f: Finding| {
            f.set_aside = Some("nosec".into());
            f
        };
        let of = |severity| finding("1", Some(severity));
        let ignore = |more: &str| format!("ignore: [{{id: '1', reason: r, {more}}}]");
        for (findings, rules, want) in [
            (vec![], "{}".to_owned(), Passed),
            (vec![of(Medium)], "{}".into(), Warned),
            (vec![of(High)], "{}".into(), Failed),
            (vec![of(Critical)], "{}".into(), Failed),
            (vec![of(High)], "failOn: critical".into(), Warned),
            (vec![of(Low)], "failOn: info".into(), Failed),
            (vec![of(Low), of(Low)], "max: {low: 2}".into(), Warned),
            (vec![of(Low), of(Low)], "max: {low: 1}".into(), Failed),
            (vec![of(Low)], "max: {low: 0}".into(), Failed),
            (vec![finding("1", None)], "{}".into(), Warned),
            (vec![finding("1", None)], "unknown: high".into(), Failed),
            (vec![unfixed(of(High))], "{}".into(), Failed),
            (vec![unfixed(of(High))], "fixedOnly: true".into(), Passed),
            (vec![unsaid(of(High))], "fixedOnly: true".into(), Failed),
            (vec![aside(of(High))], "{}".into(), Failed),
            (vec![aside(of(High))], "acceptSetAside: true".into(), Passed),
            (vec![of(High)], ignore("until: 2026-11-26"), Passed),
            (vec![of(High)], ignore("until: 2026-11-25"), Failed),
            (vec![of(High)], ignore("until: 2026-12-01, place: lib1@"), Passed),
            (vec![of(High)], ignore("until: 2026-12-01, place: lib2@"), Failed),
            (vec![of(High)], ignore("until: 2026-12-01, fingerprint: f1"), Passed),
            (vec![of(High)], ignore("until: 2026-12-01, fingerprint: f2"), Failed),
            (vec![of(High), finding("2", Some(High))], ignore("until: 2026-12-01"), Failed),
        ] {
            let verdict = judge(findings, &rules);
            assert_eq!(verdict.outcome, want, "{rules}: {verdict:?}");
            assert_eq!(verdict.why.is_empty(), want != Failed);
            assert_eq!(verdict.passed(), want != Failed);
        }
    }

    #[test]
    fn what_expired_and_what_fits_nothing_is_told() {
        let rules = "ignore: [{id: '1', reason: soon, until: 2026-01-01}, \
            {id: gone, reason: r, until: 2027-01-01}]";
        let high = Some(Severity::High);
        let verdict = judge(vec![finding("1", high), finding("1", high)], rules);
        assert_eq!(verdict.expired, ["1 was ignored until 2026-01-01: soon"]);
        assert_eq!(verdict.unused, ["gone"]);
        assert_eq!(verdict.summary(), "2 findings of high, at most 0");
    }

    #[test]
    fn too_few_tests_are_a_no_and_the_worst_are_named() {
        let today = "2026-11-26".parse().unwrap();
        let rules = Rules::default();
        let verdict = decide(&Report::default(), Format::Junit, &rules, today);
        assert_eq!(verdict.outcome, Outcome::Failed);
        assert_eq!(
            decide(&Report::default(), Format::Sarif, &rules, today).outcome,
            Outcome::Passed
        );
        let mut findings = vec![finding("low", Some(Severity::Low)); 100];
        findings.push(finding("worst", Some(Severity::Critical)));
        let verdict = judge(findings, "{}");
        assert_eq!((verdict.named.len(), verdict.named[0].id.as_str()), (MAX_NAMED, "worst"));
    }

    #[test]
    fn rules_that_contradict_themselves_are_refused() {
        for (rules, field) in [
            ("max: {high: 2}", "max.high"),
            ("ignore: [{id: a, reason: ' ', until: 2027-01-01}]", "ignore.a.reason"),
            ("ignore: [{id: '', reason: r, until: 2027-01-01}]", "ignore.id"),
        ] {
            let rules: Rules = pitlane_release::yaml::read(rules, 5000).unwrap();
            assert_eq!(rules.check().unwrap_err().0, field);
        }
        for bad in
            ["failon: low", "ignore: [{id: a, until: 2027-01-01}]", "ignore: [{id: a, reason: r}]"]
        {
            assert!(pitlane_release::yaml::read::<Rules>(bad, 500).is_err(), "{bad}");
        }
    }
}
