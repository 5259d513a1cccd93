//! Names that arrive in a URL, parsed once: repositories, tags, references, upload identifiers.
//!
//! Everything here becomes part of a file path, so the grammars are the path safety: no value of
//! these types holds an empty, `.` or `..` component, a separator of its own, or a NUL.

use std::fmt;

use pitlane_release::digest::Digest;
use rand_core::{OsRng, RngCore as _};

use super::error::ApiError;

/// Longest repository name, as in the distribution specification's advice to clients.
const MAX_REPO_BYTES: usize = 255;
/// Longest tag (distribution specification).
const MAX_TAG_BYTES: usize = 128;
/// How much of a bad value an error repeats.
const SHOWN_CHARS: usize = 80;

/// A repository name: one or more `/`-separated components, lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Repo(String);

impl Repo {
    /// Parses the distribution specification's `<name>`.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let fail = |why: &str| {
            ApiError::name_invalid(format!(
                "repository name `{}` is not valid: {why}; use lower-case letters and digits, \
                 single `.`, `_`, `__` or `-` between them, components separated by `/`",
                shown(text)
            ))
        };
        if text.len() > MAX_REPO_BYTES {
            return Err(fail(&format!("longer than {MAX_REPO_BYTES} bytes")));
        }
        match text.split('/').find(|component| !is_component(component)) {
            Some("") => Err(fail("a component is empty")),
            Some(bad) => Err(fail(&format!("component `{}`", shown(bad)))),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The name as text; safe as a relative path.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    bytes
        .split(alnum)
        .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tag(String);

impl Tag {
    /// Parses `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let ok = text.len() <= MAX_TAG_BYTES
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if ok {
            return Ok(Self(text.to_owned()));
        }
        Err(ApiError::manifest_invalid(format!(
            "`{}` is not a tag: use up to {MAX_TAG_BYTES} letters, digits, `.`, `_` or `-`, \
             the first a letter, digit or `_`",
            shown(text)
        )))
    }

    /// The tag as text; safe as a file name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What follows `/manifests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
}

impl Reference {
    /// A value with a colon is a digest, anything else a tag.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        if text.contains(':') {
            return parse_digest(text).map(Self::Digest);
        }
        Tag::parse(text).map(Self::Tag)
    }
}

/// Parses a digest of the one algorithm kept here.
pub(super) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|_| {
        let why = match text.split_once(':') {
            Some((algorithm, _)) if algorithm != "sha256" => {
                format!("this registry keeps sha256 only, not `{}`", shown(algorithm))
            }
            _ => format!("`{}` is not sha256: and 64 lower-case hexadecimal digits", shown(text)),
        };
        ApiError::digest_invalid(format!("{why}; push and pull by sha256 digest"))
    })
}

/// An upload session's identifier: 128 random bits in hexadecimal, so that one is not guessed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct UploadId(String);

impl UploadId {
    /// A new one.
    pub(super) fn random() -> Self {
        let mut bytes = [0; 16];
        OsRng.fill_bytes(&mut bytes);
        Self(hex::encode(bytes))
    }

    /// Parses one that [`UploadId::random`] could have made.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let ok = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if ok { Ok(Self(text.to_owned())) } else { Err(ApiError::upload_unknown(&shown(text))) }
    }

    /// The identifier as text; safe as a file name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A bounded, printable form of a value from outside, for messages.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repository_names() {
        for ok in ["a", "cars/donkey", "a/b/c/d/e", "a.b", "a__b", "a---b", "0/1", &"a".repeat(255)]
        {
            assert!(Repo::parse(ok).is_ok(), "{ok}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a/../b", "A", "a_", "_a",
            "a___b", "a..b", "a._b", "a b", "a%2fb", "a\0", "ä", "a/_tags", "a\\b", "-a", &long,
        ] {
            assert!(Repo::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_and_references() {
        for ok in ["v1", "_", "V1.2.3-rc_1", "sha256-abc.sig", &"a".repeat(128)] {
            assert!(Tag::parse(ok).is_ok(), "{ok}");
        }
        let long = "a".repeat(129);
        for bad in ["", ".", "..", ".a", "-a", "a/b", "a:b", "a\0", "a b", "é", &long] {
            assert!(Tag::parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(Reference::parse("latest"), Ok(Reference::Tag(_))));
        let digest = format!("sha256:{}", "0".repeat(64));
        assert!(matches!(Reference::parse(&digest), Ok(Reference::Digest(_))));
        for bad in
            ["sha512:00", "sha256:00", "sha256:", &digest.to_uppercase(), &format!("{digest}0")]
        {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
        assert!(UploadId::parse(UploadId::random().as_str()).is_ok());
        assert!(UploadId::parse("../../../../../../../../etc/pass").is_err());
    }

    proptest! {
        /// Whatever parses stays below the folder it is joined to.
        #[test]
        fn no_name_escapes(text in "[a-z0-9._/%\\\\\\-\0]{0,40}|(\\.\\./|a/|[.]|/){0,12}") {
            for parsed in [
                Repo::parse(&text).map(|r| r.as_str().to_owned()),
                Tag::parse(&text).map(|t| t.as_str().to_owned()),
                UploadId::parse(&text).map(|u| u.as_str().to_owned()),
            ].into_iter().flatten() {
                prop_assert!(Path::new(&parsed).components().all(|c| matches!(c, Component::Normal(_))));
                prop_assert!(!parsed.contains('\0'));
            }
        }

        /// The hand-written component grammar is the specification's regular expression.
        #[test]
        fn generated_names_parse(text in "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+){0,4}(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+){0,4}){0,4}") {
            prop_assert_eq!(Repo::parse(&text).is_ok(), text.len() <= MAX_REPO_BYTES);
        }
    }
}
