//! A scanner of our own for secrets in a checkout: keys and tokens by their form, assignments by
//! their entropy, `.env` files. It runs in our process, since it only reads; its report is SARIF.
//!
//! [`rules`]: what is looked for. [`scan`]: bytes → secrets, pure. [`walk`]: a checkout, bounded.
//! No secret is in what it reports: a finding has the first characters and a fingerprint.

mod assignment;
mod pem;
mod placeholder;
pub mod rules;
mod sarif;
pub mod scan;
pub mod walk;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{sarif::sarif, scan::Scanner, walk::walk};

/// Most entries of `allow`.
const MAX_ALLOWED: usize = 1000;

/// The gate `secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecretsGate {
    /// Findings that are none: test keys, examples.
    pub allow: Vec<Allow>,
    /// What is read of one file, in MiB; of larger ones the beginning is.
    #[schemars(range(min = 1, max = 64))]
    pub max_file_mib: u64,
    /// What is read in all, in MiB; a larger checkout is an error.
    pub max_total_mib: u64,
    /// Most files; more are an error.
    pub max_files: u64,
}

impl Default for SecretsGate {
    fn default() -> Self {
        Self { allow: Vec::new(), max_file_mib: 4, max_total_mib: 4096, max_files: 200_000 }
    }
}

/// A finding that is none. Both must fit, so that another secret in the same file is found, and
/// the same secret in another.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allow {
    /// The file's path in the checkout; `*` stands for any characters.
    pub path: String,
    /// The finding's fingerprint: 16 hexadecimal digits.
    pub fingerprint: String,
    /// Why it is none.
    pub reason: String,
    /// The last day (UTC); for ever when absent.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub until: Option<Date>,
}

impl SecretsGate {
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        let wrong = |field: &str, why: &str| Err((field.to_owned(), why.to_owned()));
        if self.allow.len() > MAX_ALLOWED {
            return wrong("allow", "too many entries, at most 1000");
        }
        if !(1..=64).contains(&self.max_file_mib) {
            return wrong("maxFileMib", "want 1 to 64");
        }
        for entry in &self.allow {
            let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if entry.fingerprint.len() != 16 || !entry.fingerprint.bytes().all(digit) {
                return wrong("allow.fingerprint", "want the 16 hexadecimal digits of a finding");
            }
            if entry.reason.trim().is_empty() {
                return wrong("allow.reason", "empty; say why it is no secret");
            }
        }
        Ok(())
    }
}

impl Allow {
    /// Whether it is about this finding, on a day.
    pub(crate) fn fits(&self, path: &str, fingerprint: &str, today: Date) -> bool {
        self.fingerprint == fingerprint
            && self.until.is_none_or(|until| today <= until)
            && matches(&self.path, path)
    }
}

/// Whether the whole text is of the pattern.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_fit_by_path_and_fingerprint() {
        let allow = |path: &str, until: Option<&str>| Allow {
            path: path.into(),
            fingerprint: "0123456789abcdef".into(),
            reason: "a test key".into(),
            until: until.map(|day| day.parse().unwrap()),
        };
        let today = "2026-11-26".parse().unwrap();
        for (pattern, until, path, want) in [
            ("tests/key.pem", None, "tests/key.pem", true),
            ("tests/*.pem", None, "tests/a/b.pem", true),
            ("tests/*.pem", None, "tests/a/b.pem.txt", false),
            ("*", None, "anything", true),
            ("a*b*c", None, "aXbc", true),
            ("a*b*c", None, "acb", false),
            ("tests/key.pem", Some("2026-11-26"), "tests/key.pem", true),
            ("tests/key.pem", Some("2026-11-25"), "tests/key.pem", false),
        ] {
            let fits = allow(pattern, until).fits(path, "0123456789abcdef", today);
            assert_eq!(fits, want, "{pattern} {path}");
            assert!(!allow(pattern, until).fits(path, "0123456789abcdee", today));
        }
    }
}
