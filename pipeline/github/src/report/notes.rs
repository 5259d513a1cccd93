//! The section of a release's notes: what was released and how to verify it. Text in, text out.

use std::fmt::Write as _;

use pitlane_release::{CarKind, Counter, Digest, PinnedImage, Platform};

use super::{Run, encode};

/// Characters of a release's text that GitHub takes.
const LONGEST: usize = 125_000;
/// Characters of a value that is put into a command.
const LONGEST_VALUE: usize = 500;

/// What is told of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseNotes {
    /// The index of the images.
    pub image: PinnedImage,
    /// Its place in the order of releases.
    pub counter: Counter,
    /// Which cars it is for.
    pub car_kind: CarKind,
    /// The image of each platform.
    pub platforms: Vec<(Platform, Digest)>,
    /// The model file.
    pub model: Digest,
    /// The policy file that `pitlane-verifier check` is given.
    pub policy: String,
    /// How its signature is verified.
    pub verify: Verify,
    /// Whether GitHub is to call it a pre-release, where the release is made here.
    pub prerelease: bool,
}

/// How a signature is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// By a public key.
    Key {
        /// The key's file.
        file: String,
        /// Whether signatures are in a transparency log.
        logged: bool,
    },
    /// By who signed.
    Keyless {
        /// The certificate's identity.
        identity: String,
        /// Who vouches for it.
        issuer: String,
    },
}

/// Why there is no section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotesError {
    /// A value would break the text.
    #[error(
        "{field} cannot be put into release notes: want up to {LONGEST_VALUE} characters, no line breaks, no `<!--`, no `-->`"
    )]
    Value {
        /// Which one.
        field: &'static str,
    },
    /// The markers in the release's text are not a pair.
    #[error(
        "the release's text has {begins} `{begin}` and {ends} `{end}`: want one of each, in this order; take them out by hand, then report again"
    )]
    Markers {
        /// The first marker.
        begin: String,
        /// How many there are.
        begins: usize,
        /// The second marker.
        end: String,
        /// How many there are.
        ends: usize,
    },
    /// Together it is too long.
    #[error("the release's text would have {0} characters, GitHub takes {LONGEST}: shorten it")]
    Long(usize),
}

/// A value as one word of a shell.
fn word(field: &'static str, value: &str) -> Result<String, NotesError> {
    let long = value.chars().count() > LONGEST_VALUE;
    if long
        || value.chars().any(char::is_control)
        || ["<!--", "-->"].iter().any(|m| value.contains(m))
    {
        return Err(NotesError::Value { field });
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:@+=,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return Ok(value.to_owned());
    }
    Ok(format!("'{}'", value.replace('\'', r"'\''")))
}

impl ReleaseNotes {
    /// The section without its markers.
    pub fn render(&self, run: &Run) -> Result<String, NotesError> {
        let image = &self.image;
        let mut text = format!(
            "### Pitlane release {}\n\n| | |\n|---|---|\n| cars | `{}` |\n| image | `{image}` |\n",
            self.counter, self.car_kind
        );
        for (platform, digest) in &self.platforms {
            let _ = writeln!(text, "| {platform} | `{digest}` |");
        }
        let _ = write!(text, "| model | `{}` |\n| commit | `{}` |\n", self.model, run.commit);
        let policy = word("the policy", &self.policy)?;
        let (key, cosign) = match &self.verify {
            Verify::Key { file, logged } => {
                let file = word("the key", file)?;
                let log = if *logged { "" } else { " --insecure-ignore-tlog=true" };
                (format!(" --key {file}"), format!("--key {file}{log}"))
            }
            Verify::Keyless { identity, issuer } => {
                let (identity, issuer) =
                    (word("the identity", identity)?, word("the issuer", issuer)?);
                let who =
                    format!("--certificate-identity {identity} --certificate-oidc-issuer {issuer}");
                (String::new(), who)
            }
        };
        let _ = write!(
            text,
            "\nCheck it as a car does, and by cosign:\n\n```\n\
             pitlane-verifier check {image} --policy {policy}{key}\n\
             cosign verify {cosign} {image}\n```\n"
        );
        Ok(text)
    }
}

/// Puts a pipeline's section into a release's text, in the place of the one that is there. All
/// other text stays as it is, byte for byte.
pub fn splice(body: &str, pipeline: &str, section: &str) -> Result<String, NotesError> {
    let name = encode(pipeline);
    let begin = format!("<!-- pitlane:begin {name} -->");
    let end = format!("<!-- pitlane:end {name} -->");
    let (begins, ends) = (body.matches(&begin).count(), body.matches(&end).count());
    let marked = format!("{begin}\n{section}{end}");
    let spliced = match (begins, ends, body.find(&begin), body.find(&end)) {
        (0, 0, ..) => {
            let gap = if body.is_empty() { "" } else { "\n\n" };
            format!("{body}{gap}{marked}")
        }
        (1, 1, Some(from), Some(to)) if from < to => {
            format!("{}{marked}{}", &body[..from], &body[to + end.len()..])
        }
        _ => return Err(NotesError::Markers { begin, begins, end, ends }),
    };
    let length = spliced.chars().count();
    if length > LONGEST { Err(NotesError::Long(length)) } else { Ok(spliced) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_around_the_section_stays() {
        let first = splice("Hand-made\r\nnotes \u{1f3ce}", "car", "one\n").unwrap();
        assert_eq!(
            first,
            "Hand-made\r\nnotes \u{1f3ce}\n\n<!-- pitlane:begin car -->\none\n<!-- pitlane:end car -->"
        );
        let both = splice(&format!("{first}\r\nafter"), "other/car", "two\n").unwrap();
        let again = splice(&both, "car", "three\n").unwrap();
        assert_eq!(again, both.replace("one\n", "three\n"));
        assert_eq!(splice("", "car", "x\n").unwrap().find("<!--"), Some(0));
    }

    #[test]
    fn broken_markers_are_not_guessed_at() {
        let (begin, end) = ("<!-- pitlane:begin car -->", "<!-- pitlane:end car -->");
        for bad in [
            begin.to_owned(),
            end.to_owned(),
            format!("{end} {begin}"),
            format!("{begin}{end}{begin}{end}"),
            format!("{begin}{begin}{end}"),
        ] {
            let found = splice(&bad, "car", "x");
            assert!(matches!(found, Err(NotesError::Markers { .. })), "{bad}: {found:?}");
        }
        assert!(matches!(splice(&"x".repeat(LONGEST), "car", ""), Err(NotesError::Long(_))));
    }

    proptest! {
        #[test]
        fn the_last_section_wins_and_nothing_else_changes(
            before in "[^<]{0,40}", after in "[^<]{0,40}", one in "[a-z\n]{0,20}", two in "[a-z\n]{0,20}",
        ) {
            let made = splice(&before, "car", &one).unwrap() + &after;
            let again = splice(&made, "car", &two).unwrap();
            prop_assert_eq!(&splice(&again, "car", &two).unwrap(), &again);
            prop_assert!(again.starts_with(&before) && again.ends_with(&after));
            prop_assert_eq!(splice(&again, "car", &one).unwrap(), made);
        }
    }

    fn notes() -> (Run, ReleaseNotes) {
        let digest = Digest::of("x");
        let run = Run {
            repository: "octo/car".parse().unwrap(),
            commit: "0".repeat(40).parse().unwrap(),
            tag: "v1".parse().unwrap(),
            pipeline: "car".to_owned(),
            id: "r7".to_owned(),
            attempt: 1,
            url: None,
        };
        let notes = ReleaseNotes {
            image: format!("registry.example/octo/car@{digest}").parse().unwrap(),
            counter: Counter::try_from(3).unwrap(),
            car_kind: "donkeycar".parse().unwrap(),
            platforms: vec![("linux/arm64".parse().unwrap(), Digest::of("arm"))],
            model: Digest::of("model"),
            policy: "policies/car.yaml".to_owned(),
            verify: Verify::Key { file: "keys/release.pub".to_owned(), logged: false },
            prerelease: false,
        };
        (run, notes)
    }

    #[test]
    fn commands_can_be_copied() {
        let (run, mut notes) = notes();
        let text = notes.render(&run).unwrap();
        let image = &notes.image;
        for line in [
            format!(
                "pitlane-verifier check {image} --policy policies/car.yaml --key keys/release.pub\n"
            ),
            format!("cosign verify --key keys/release.pub --insecure-ignore-tlog=true {image}\n"),
            format!("| linux/arm64 | `{}` |\n", Digest::of("arm")),
            "### Pitlane release 3\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        notes.policy = "my policies/$(reboot) it's".to_owned();
        notes.verify = Verify::Keyless {
            identity: "https://github.com/octo/car/.github/workflows/r.yml@refs/tags/v1".to_owned(),
            issuer: "https://token.actions.githubusercontent.com".to_owned(),
        };
        let text = notes.render(&run).unwrap();
        assert!(text.contains(r"--policy 'my policies/$(reboot) it'\''s'"), "{text}");
        assert!(text.contains(" --certificate-oidc-issuer https://token.actions"), "{text}");
        for bad in ["a\nb", "a --> b", "<!-- pitlane:end car -->", &"x".repeat(501)] {
            notes.policy = bad.to_owned();
            assert!(notes.render(&run).is_err(), "{bad}");
        }
    }
}
