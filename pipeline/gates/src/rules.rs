//! What a gate must find for its answer to be no.

use std::collections::BTreeMap;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::Severity;

/// Most entries of a list of what is ignored.
pub const MAX_IGNORED: usize = 1000;

/// How findings become an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rules {
    /// One finding that is as bad, or worse, is a no.
    pub fail_on: Severity,
    /// Severity → most findings of exactly this severity; milder than `failOn`, where one is
    /// enough.
    pub max: BTreeMap<Severity, u32>,
    /// What findings count as whose severity nobody knows.
    pub unknown: Severity,
    /// Whether only what has a fix counts. What a format does not say counts.
    pub fixed_only: bool,
    /// Whether what the report itself sets aside (SARIF suppressions, VEX `not_affected`) does
    /// not count. Off: a car repository could silence its own findings.
    pub accept_set_aside: bool,
    /// Findings that do not count until a day.
    pub ignore: Vec<Ignore>,
    /// Fewer tests are a no; of test reports alone.
    pub min_tests: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            fail_on: Severity::High,
            max: BTreeMap::new(),
            unknown: Severity::Medium,
            fixed_only: false,
            accept_set_aside: false,
            ignore: Vec::new(),
            min_tests: 1,
        }
    }
}

/// A finding that does not count until a day.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ignore {
    /// The rule, vulnerability or test.
    pub id: String,
    /// Only where its place begins with this (a file, a package); everywhere when absent.
    #[serde(default)]
    pub place: Option<String>,
    /// Only with this fingerprint.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// The last day (UTC), `2027-01-31`.
    #[schemars(with = "String")]
    pub until: Date,
    /// Why; for whoever finds it expired.
    pub reason: String,
}

impl Rules {
    /// What is wrong with them, if anything: the field, and why.
    pub fn check(&self) -> Result<(), (String, String)> {
        if self.ignore.len() > MAX_IGNORED {
            let why = format!("{} of them, at most {MAX_IGNORED}", self.ignore.len());
            return Err(("ignore".into(), why));
        }
        for entry in &self.ignore {
            if entry.reason.trim().is_empty() {
                return Err((format!("ignore.{}.reason", entry.id), "empty; say why".into()));
            }
            if entry.id.is_empty() {
                return Err(("ignore.id".into(), "empty; name the rule or vulnerability".into()));
            }
        }
        if let Some(severity) = self.max.keys().find(|severity| **severity >= self.fail_on) {
            let why = format!("one is a no already by failOn: {}", self.fail_on.name());
            return Err((format!("max.{}", severity.name()), why));
        }
        Ok(())
    }
}
