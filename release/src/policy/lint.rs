//! `lint`: what a policy allows that its writer may not have meant.

use serde::Serialize;

use super::{Authority, AuthorityRule, DriveRules, Mode, Policy};
use crate::{
    matcher::{Matcher, Pattern},
    sigstore::Keyless,
};

/// Something to think about. Nothing here makes a policy unusable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// A stable name.
    pub code: &'static str,
    /// Where in the file.
    pub field: String,
    /// What it allows.
    pub what: String,
    /// What to write instead, if it was not meant.
    pub hint: &'static str,
}

/// Looks a policy over.
pub fn lint(policy: &Policy) -> Vec<Lint> {
    let mut found = Vec::new();
    if policy.mode == Mode::Warn {
        let what = "nothing is stopped, people are only told; a car refuses all the same";
        push(&mut found, "only-warns", "spec.mode", what, "leave `mode` out to enforce");
    }
    if policy.images.iter().any(|glob| glob.to_string() == "**") {
        let what = "it speaks of every image there is";
        push(&mut found, "every-image", "spec.images", what, "name your registry and path");
    }
    authorities(&policy.authorities, "spec.authorities", &mut found);
    authorities(&policy.lap_authorities, "drive.laps.authorities", &mut found);
    if let Some(rules) = &policy.drive {
        drive(policy, rules, &mut found);
    } else {
        let what = "without it any signed image is admitted, however old: there is no order";
        push(&mut found, "no-drive", "drive", what, "add `drive:` for a car");
    }
    found
}

fn push(
    found: &mut Vec<Lint>,
    code: &'static str,
    field: impl Into<String>,
    what: impl Into<String>,
    hint: &'static str,
) {
    found.push(Lint { code, field: field.into(), what: what.into(), hint });
}

fn authorities(list: &[Authority], path: &str, found: &mut Vec<Lint>) {
    for (n, authority) in list.iter().enumerate() {
        let path = format!("{path}[{n}]");
        if list[..n].iter().any(|before| before.name == authority.name) {
            let what =
                format!("`{}` is there twice; verdicts cannot tell them apart", authority.name);
            push(found, "same-name", &path, what, "give each authority its own name");
        }
        match &authority.rule {
            AuthorityRule::Static { pass: true, .. } => {
                let what = "everything passes, signed or not, whatever the other authorities say";
                push(found, "passes-all", &path, what, "remove it, or use `mode: warn` to try");
            }
            AuthorityRule::Keyless(rule) => {
                if let Some(keyless) = rule.keyless() {
                    self::keyless(keyless, &path, found);
                }
            }
            AuthorityRule::Key(_) | AuthorityRule::Static { .. } => {}
        }
    }
}

fn keyless(keyless: &Keyless, path: &str, found: &mut Vec<Lint>) {
    if !keyless.sct {
        let what = "certificates that nobody can see count, too";
        let field = format!("{path}.keyless.insecureIgnoreSCT");
        push(found, "no-sct", field, what, "leave it out, unless your authority has no such log");
    }
    for (n, identity) in keyless.any_of.iter().enumerate() {
        let path = format!("{path}.keyless.identities[{n}]");
        for (field, matcher) in [("subject", &identity.san), ("issuer", &identity.issuer)] {
            let Matcher::Pattern(pattern) = matcher else { continue };
            self::pattern(pattern, &format!("{path}.{field}RegExp"), found);
        }
    }
}

fn pattern(pattern: &Pattern, field: &str, found: &mut Vec<Lint>) {
    let text = pattern.source();
    if Matcher::Pattern(pattern.clone()).matches("anybody@evil.example")
        || Matcher::Pattern(pattern.clone()).matches("https://evil.example/x")
    {
        push(found, "anybody", field, format!("`{text}` lets in anybody"), "name whom you trust");
    }
    if !pattern.is_anchored() {
        let what =
            format!("`{text}` has to match whole texts here, and parts in policy-controller");
        let hint = "write ^ and $ around it, so that both mean the same";
        push(found, "not-anchored", field, what, hint);
    }
    if bare_dot(text) {
        let what = format!("a dot in `{text}` stands for any character: a-b.example is not a.b");
        push(found, "bare-dot", field, what, "write \\. for a dot");
    }
}

/// Whether a dot between letters or digits is not escaped.
fn bare_dot(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..bytes.len().saturating_sub(1)).any(|i| {
        bytes[i] == b'.'
            && bytes[i - 1].is_ascii_alphanumeric()
            && bytes[i + 1].is_ascii_alphanumeric()
    })
}

fn drive(policy: &Policy, rules: &DriveRules, found: &mut Vec<Lint>) {
    if rules.laps.is_none() {
        let what = "models that never drove in the twin are admitted";
        push(found, "no-laps", "drive.laps", what, "ask for laps on the tracks that you prove");
    }
    if !rules.require_expiry && rules.max_age_days.is_none() {
        let what = "a new car, which has no floor yet, can be given a release of any age";
        let hint = "ask for `requireExpiry` or `maxAgeDays`, or raise `minimumCounter` at times";
        push(found, "any-age", "drive.requireExpiry", what, hint);
    }
    if rules.laps.is_some() && policy.lap_authorities.is_empty() {
        let what = "who signs releases signs laps, too: one stolen key is enough for both";
        let hint = "name another key in `drive.laps.authorities` (`sign.laps` of the pipeline)";
        push(found, "one-key", "drive.laps.authorities", what, hint);
    }
}
