//! `Check`: one thing that was looked at on the way to a verdict.

use schemars::JsonSchema;
use serde::Serialize;

/// What was looked at, what was wanted, what was found, and what to do when they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// A stable name.
    pub check: &'static str,
    /// Whether it passed.
    pub passed: bool,
    /// What the policy or the question asks for, where that is not plain from the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// What was found.
    pub found: String,
    /// What to do about it, when it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
}

impl Check {
    /// One that passed.
    pub fn passed(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, passed: true, wanted: None, found: found.into(), hint: None }
    }

    /// One that failed.
    pub fn failed(check: &'static str, found: impl Into<String>) -> Self {
        Self { passed: false, ..Self::passed(check, found) }
    }

    /// The same, with what was wanted.
    #[must_use]
    pub fn wanting(self, wanted: impl Into<String>) -> Self {
        Self { wanted: Some(wanted.into()), ..self }
    }

    /// The same, with what to do.
    #[must_use]
    pub fn hinting(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}
