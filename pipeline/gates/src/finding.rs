//! What a report says, whatever its format: `Report`, `Finding`, `Severity`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most findings of a report; more is no report that anybody would read.
pub const MAX_FINDINGS: usize = 20_000;
/// Longest text of a finding (characters).
pub const MAX_TEXT: usize = 300;

/// How bad a finding is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// All, from the mildest.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// Its name, as in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity of a word of trivy, grype or CycloneDX; none for `unknown` and other words.
    pub fn of_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "critical" => Some(Self::Critical),
            "high" => Some(Self::High),
            "medium" | "moderate" => Some(Self::Medium),
            "low" => Some(Self::Low),
            "info" | "informational" | "none" | "negligible" => Some(Self::Info),
            _ => None,
        }
    }

    /// The severity of a CVSS score (CVSS 3.1, section 5).
    pub fn of_score(score: f64) -> Option<Self> {
        match score {
            s if !(0.0..=10.0).contains(&s) => None,
            s if s >= 9.0 => Some(Self::Critical),
            s if s >= 7.0 => Some(Self::High),
            s if s >= 4.0 => Some(Self::Medium),
            s if s > 0.0 => Some(Self::Low),
            _ => Some(Self::Info),
        }
    }
}

/// Whether there is a version without the flaw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fix {
    /// This one.
    Version(String),
    /// There is none yet, or there will be none.
    None,
    /// The format does not say.
    Unknown,
}

/// One thing that a program did not like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The rule, vulnerability or test.
    pub id: String,
    /// How bad; none when the program does not know.
    pub severity: Option<Severity>,
    /// For people.
    pub title: String,
    /// File and line, or package and version.
    pub place: String,
    /// Whether there is a fix.
    pub fix: Fix,
    /// What stays the same when lines move, if the program says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Why the report itself sets it aside (a suppression, `not_affected`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<String>,
}

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Who wrote it.
    pub tool: String,
    /// Its version.
    pub version: String,
    /// What it did not like.
    pub findings: Vec<Finding>,
    /// Tests that passed, by name; only test reports have any.
    pub passed: Vec<String>,
    /// How many tests passed; more than `passed` names when they are many.
    pub passed_count: u64,
    /// Tests that were not run.
    pub skipped: u64,
}

impl Report {
    /// How many tests were run.
    pub fn tests(&self) -> u64 {
        self.passed_count + self.findings.len() as u64
    }
}
