//! A verdict for people, and the same for programs.

use std::fmt::Write as _;

use pitlane_release::{Refusal, Verdict, admit::Check};
use schemars::JsonSchema;
use serde::Serialize;

/// A verdict as it is printed. Format `pitlane.dev/verdict/v2`; `docs/verify.md`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    version: u32,
    image: &'a str,
    platform: String,
    policy: &'a str,
    /// Whether the policy is met.
    admitted: bool,
    /// Whether nothing stops it: it is admitted, or the policy only warns.
    allowed: bool,
    /// The manifest that may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counter: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<RefusalFields>")]
    refusal: Option<&'a Refusal>,
    /// In order; the last one failed when it is a refusal.
    checks: &'a [Check],
    /// Milliseconds, fetching included.
    ms: f64,
    /// Milliseconds of the decision alone, on what was fetched.
    decide_ms: f64,
}

/// How long a verdict took (milliseconds).
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Altogether, fetching included.
    pub ms: f64,
    /// The decision alone.
    pub decide_ms: f64,
}

/// A refusal as it is printed.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "says what a refusal's own serialisation writes")]
struct RefusalFields {
    /// A stable word.
    code: String,
    /// What is wrong.
    message: String,
    /// What to do.
    hint: String,
}

impl<'a> Report<'a> {
    /// The report of a verdict.
    pub fn new(
        image: &'a str,
        platform: pitlane_release::Platform,
        policy: &'a str,
        verdict: &'a Verdict,
        took: Took,
    ) -> Self {
        let verified = verdict.answer.as_ref().ok();
        Self {
            version: 2,
            image,
            platform: platform.to_string(),
            policy,
            admitted: verified.is_some(),
            allowed: verdict.allowed(),
            manifest: verified.map(|verified| verified.image().to_string()),
            counter: verified
                .and_then(pitlane_release::Verified::counter)
                .map(pitlane_release::Counter::get),
            refusal: verdict.answer.as_ref().err(),
            checks: &verdict.checks,
            ms: took.ms,
            decide_ms: took.decide_ms,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in self.checks {
            let mark = if check.passed { "ok  " } else { "FAIL" };
            let _ = writeln!(text, "{mark} {:<11} {}", check.check, check.found);
            if let (false, Some(wanted)) = (check.passed, &check.wanted) {
                let _ = writeln!(text, "     {:<11} wanted: {wanted}", "");
            }
        }
        match self.refusal {
            None => {
                let manifest = self.manifest.as_deref().unwrap_or("");
                let _ = writeln!(text, "admitted: {manifest}");
            }
            Some(refusal) => {
                let word = if self.allowed { "would be refused" } else { "refused" };
                let _ = writeln!(text, "{word} ({}): {refusal}", refusal.code());
                let _ = writeln!(text, "hint: {}", refusal.hint());
                if self.allowed {
                    let _ = writeln!(text, "allowed: the policy only warns (spec.mode)");
                }
            }
        }
        text
    }
}
