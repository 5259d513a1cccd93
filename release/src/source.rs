//! Where a release comes from: repository, commit, tag, and the kind of car it is for.

use std::{fmt, str::FromStr};

use crate::text::serde_as_text;

/// Why a text is no name of a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {want}")]
pub struct SourceError {
    value: String,
    want: &'static str,
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $want:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = SourceError;

            fn from_str(text: &str) -> Result<Self, SourceError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(SourceError { value: text.chars().take(120).collect(), want: $want })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        serde_as_text!($name, $want, $pattern);
    };
}

fn word(text: &str, max: usize, extra: &[u8]) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// `.lock` at the end of a ref's part is git's own (git-check-ref-format, rule 1).
fn ends_in_lock(text: &str) -> bool {
    text.as_bytes().ends_with(b".lock")
}

checked_text!(
    /// A source repository as its host names it: `owner/name`, as in GitHub's `full_name`.
    RepoName,
    "a repository name (OWNER/NAME: letters, digits and . _ -)",
    "^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
    |text| match text.split_once('/') {
        Some((owner, name)) => word(owner, 100, b"._-") && word(name, 100, b"._-"),
        None => false,
    }
);

checked_text!(
    /// A git commit: 40 lower-case hexadecimal digits (SHA-1 repositories).
    Commit,
    "a commit (40 lower-case hexadecimal digits)",
    "^[0-9a-f]{40}$",
    |text| text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);

checked_text!(
    /// A git tag that is an OCI tag too, so that one name serves both: at most 128 of
    /// letters, digits and `. _ -`, starting with a letter or digit.
    ReleaseTag,
    "a release tag (at most 128 letters, digits and . _ -; no slash, so that the image can carry it)",
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
    |text| {
        let git_refuses = text.contains("..") || text.ends_with('.') || ends_in_lock(text);
        // Tags of this form are the fallback lists of referrers (distribution spec 1.1).
        let reserved = text.starts_with("sha256-");
        word(text, 128, b"._-") && !git_refuses && !reserved
    }
);

checked_text!(
    /// A kind of car: the thing releases are ordered for (`donkeycar`).
    CarKind,
    "a car kind (at most 63 lower-case letters, digits and -)",
    "^[a-z0-9][a-z0-9-]{0,62}$",
    |text| word(text, 63, b"-") && !text.bytes().any(|b| b.is_ascii_uppercase())
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_is_none() {
        assert!("octo/car.model-2_x".parse::<RepoName>().is_ok());
        for bad in ["", "a", "a/", "/b", "a/b/c", "a/.b", "../b", "a/b c", "a/b\n"] {
            assert!(bad.parse::<RepoName>().is_err(), "{bad}");
        }
        for good in ["v1.2.3", "1", "release-2026.11.21_rc1"] {
            assert!(good.parse::<ReleaseTag>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-v1",
            ".v1",
            "a/b",
            "a..b",
            "a b",
            "v1.lock",
            "v1.",
            "sha256-00",
            "v1\n",
            &"v".repeat(129),
        ] {
            assert!(bad.parse::<ReleaseTag>().is_err(), "{bad}");
        }
        assert!("donkeycar".parse::<CarKind>().is_ok());
        assert!("Donkeycar".parse::<CarKind>().is_err());
        assert!("0".repeat(40).parse::<Commit>().is_ok());
        for bad in ["0".repeat(39), "A".repeat(40), "g".repeat(40), "0".repeat(64)] {
            assert!(bad.parse::<Commit>().is_err(), "{bad}");
        }
    }
}
