//! A verdict for people, and the same for programs.

use std::fmt::Write as _;

use pitlane_release::{Refusal, Verdict, admit::Check};
use serde::Serialize;

/// A verdict as it is printed. Format `pitlane.dev/verdict/v1`; `docs/verify.md`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    version: u32,
    image: &'a str,
    platform: String,
    policy: &'a str,
    admitted: bool,
    /// The manifest that may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a Refusal>,
    checks: &'a [Check],
    ms: f64,
}

impl<'a> Report<'a> {
    /// The report of a verdict that took `ms` milliseconds, gathering included.
    pub fn new(
        image: &'a str,
        platform: pitlane_release::Platform,
        policy: &'a str,
        verdict: &'a Verdict,
        ms: f64,
    ) -> Self {
        let verified = verdict.answer.as_ref().ok();
        Self {
            version: 1,
            image,
            platform: platform.to_string(),
            policy,
            admitted: verified.is_some(),
            manifest: verified.map(|verified| verified.image().to_string()),
            counter: verified
                .and_then(pitlane_release::Verified::counter)
                .map(pitlane_release::Counter::get),
            refusal: verdict.answer.as_ref().err(),
            checks: &verdict.checks,
            ms,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in self.checks {
            let mark = if check.passed { "ok  " } else { "FAIL" };
            let _ = writeln!(text, "{mark} {:<11} {}", check.check, check.found);
        }
        match self.refusal {
            None => {
                let manifest = self.manifest.as_deref().unwrap_or("");
                let _ = writeln!(text, "admitted: {manifest}");
            }
            Some(refusal) => {
                let _ = writeln!(text, "refused ({}): {refusal}", refusal.code());
                let _ = writeln!(text, "hint: {}", refusal.hint());
            }
        }
        text
    }
}
