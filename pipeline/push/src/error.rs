//! Why something was not pushed.

use std::io;

use pitlane_fetch::FetchError;
use pitlane_release::Digest;

/// How much of a registry's own words is shown.
const SHOWN_CHARS: usize = 200;

/// Why something was not pushed. What may pass by itself has a [`FetchError`] among its causes:
/// `Unreachable`, or `Status` with 429 or a 5xx.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The network failed, or the registry is overloaded, also after several tries.
    #[error("{what} failed after {tries} tries")]
    Network {
        /// What was tried.
        what: String,
        /// How often.
        tries: u32,
        /// How the last try ended.
        source: FetchError,
    },
    /// The registry refuses.
    #[error(
        "{place} refuses {what} ({status}{said}); check the credentials and the registry's rules"
    )]
    Refused {
        /// The registry.
        place: String,
        /// What was asked of it.
        what: String,
        /// HTTP status.
        status: u16,
        /// Its own words, if it had any: bounded, with the comma before them.
        said: String,
    },
    /// The registry wants the request, and its credentials, to go to another place.
    #[error("{place} sends {what} to {to}; this is not followed: give that registry's own address")]
    Elsewhere {
        /// The registry.
        place: String,
        /// What was asked of it.
        what: String,
        /// Where it points.
        to: String,
    },
    /// What came back is not what was sent.
    #[error("{place} was sent {what}, and gives back {found}; do not trust it with releases")]
    Altered {
        /// The registry.
        place: String,
        /// What was sent.
        what: String,
        /// What came back.
        found: String,
    },
    /// A tag is taken, and the registry moves no tags.
    #[error(
        "{tag} is {have} already, and the registry does not let it be {want}{said}; choose another tag"
    )]
    TagTaken {
        /// Repository and tag.
        tag: String,
        /// What it names.
        have: Digest,
        /// What it was to name.
        want: Digest,
        /// The registry's own words.
        said: String,
    },
    /// An answer that no registry should give.
    #[error("{place} answers {what} with {why}")]
    Answer {
        /// The registry.
        place: String,
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// Others changed a list of referrers again and again.
    #[error(
        "{tag} at {place} was overwritten {tries} times while an entry was added; try again when fewer push"
    )]
    Contended {
        /// The repository.
        place: String,
        /// The fallback tag.
        tag: String,
        /// How often it was written.
        tries: u32,
    },
    /// There is no login for the registry, or the program that keeps it failed.
    #[error("no login for {place}: {why}")]
    Login {
        /// The registry.
        place: String,
        /// Why; never the secret.
        why: String,
    },
    /// A file of ours cannot be read.
    #[error("{what} cannot be read")]
    File {
        /// Which.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The part of a registry's error body that is worth showing, escaped and bounded: the code and
/// message of the distribution specification's form, else nothing.
pub(crate) fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let Some(One { code, message }) = errors.into_iter().next() else { return String::new() };
    let text: String = format!("{code}: {message}")
        .chars()
        .take(SHOWN_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!(", {text}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_registrys_words_are_bounded() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[2J way"}]}"#;
        assert_eq!(super::said(body), ", DENIED: no [2J way");
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(10_000));
        assert!(super::said(long.as_bytes()).len() < 210);
        for none in ["", "<html>", "{}", r#"{"errors":[]}"#] {
            assert_eq!(super::said(none.as_bytes()), "", "{none}");
        }
    }
}
