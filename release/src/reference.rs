//! Names of images: `Repository`, `PinnedImage` (by digest) and `ImageRef` (what people type).
//!
//! Split by hand: the regular expression of the common parsers costs 40 ms and 17 MB at the first
//! use, more than a whole verification.

use std::{fmt, str::FromStr};

use crate::{Digest, text::serde_as_text};

/// Longest repository accepted, registry included (bytes).
const MAX_LEN: usize = 255;

/// A registry and a repository in it: `registry.example:5000/team/car`.
///
/// Grammar: distribution spec 1.1, "Pulling manifests". A registry is always written out; there
/// is no default one, because a name that means another place on another machine is no identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    text: String,
    registry_len: usize,
}

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The registry is missing or is no host with an optional port.
    #[error("`{0}` has no registry: write HOST[:PORT]/NAME, e.g. 127.0.0.1:5000/team/car")]
    Registry(String),
    /// The path is empty or breaks the grammar.
    #[error("`{0}` is no repository name: lower-case letters, digits and . _ - between slashes")]
    Path(String),
    /// The tag breaks the grammar.
    #[error("`{0}` is no tag: letters, digits and . _ -, at most 128, not starting with . or -")]
    Tag(String),
    /// What follows the @ is no digest.
    #[error(transparent)]
    Digest(#[from] crate::digest::DigestError),
    /// A digest was wanted and there is none.
    #[error("`{0}` is not pinned: want REPOSITORY@sha256:…, a tag alone can move")]
    NotPinned(String),
}

impl Repository {
    /// Host and optional port.
    pub fn registry(&self) -> &str {
        &self.text[..self.registry_len]
    }

    /// The name inside the registry.
    pub fn path(&self) -> &str {
        &self.text[self.registry_len + 1..]
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// This repository's image of that digest.
    pub fn pin(&self, digest: Digest) -> PinnedImage {
        PinnedImage { repository: self.clone(), digest }
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let shown = || text.chars().take(120).collect::<String>();
        let (registry, path) =
            text.split_once('/').ok_or_else(|| ReferenceError::Registry(shown()))?;
        if !is_registry(registry) {
            return Err(ReferenceError::Registry(shown()));
        }
        if text.len() > MAX_LEN || !path.split('/').all(is_component) {
            return Err(ReferenceError::Path(shown()));
        }
        Ok(Self { text: text.to_owned(), registry_len: registry.len() })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serde_as_text!(Repository, "HOST[:PORT]/NAME", "^[^/@ ]+/[a-z0-9._/-]+$");

/// A host is told from a first path component as the common tools do: by a dot, a port, or
/// the name localhost.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => match (address.parse::<std::net::Ipv6Addr>(), rest) {
            (Ok(_), "") => return true,
            (Ok(_), rest) => ("v6.", rest.strip_prefix(':')),
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
    };
    let host_ok = host == "v6." || host.split('.').all(label);
    let port_ok = port.is_none_or(|p| p.parse::<u16>().is_ok());
    host_ok && port_ok && (host.contains('.') || port.is_some() || host == "localhost")
}

/// One component of a path: runs of `[a-z0-9]` joined by `.`, `_`, `__` or dashes.
fn is_component(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    inner(*first)
        && inner(*last)
        && bytes.iter().all(|b| inner(*b) || matches!(b, b'.' | b'_' | b'-'))
        && !text.contains("..")
        && !text.contains("___")
        && !["._", "_.", ".-", "-.", "_-", "-_"].iter().any(|pair| text.contains(pair))
}

/// Whether the text is a tag (distribution spec 1.1).
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// An image that cannot move: repository and digest. A tag alone cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinnedImage {
    /// Where it lies.
    pub repository: Repository,
    /// Its manifest or index.
    pub digest: Digest,
}

impl FromStr for PinnedImage {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.parse::<ImageRef>()? {
            ImageRef { repository, digest: Some(digest), .. } => Ok(Self { repository, digest }),
            _ => Err(ReferenceError::NotPinned(text.chars().take(160).collect())),
        }
    }
}

impl fmt::Display for PinnedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

serde_as_text!(PinnedImage, "REPOSITORY@sha256:…", "^[^@ ]+@sha256:[0-9a-f]{64}$");

/// What a person types: a repository with a tag, a digest, or both (then the digest decides).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// Where it lies.
    pub repository: Repository,
    /// The tag, if one was given.
    pub tag: Option<String>,
    /// The digest, if one was given.
    pub digest: Option<Digest>,
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let slash = name.rfind('/').unwrap_or(0);
        let (repository, tag) = match name[slash..].split_once(':') {
            Some((last, tag)) => (&name[..slash + last.len()], Some(tag)),
            None => (name, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.chars().take(140).collect()));
        }
        Ok(Self { repository: repository.parse()?, tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_people() {
        for good in [
            "127.0.0.1:5000/car",
            "localhost/team/car",
            "ghcr.example/team/car__x:v1.2.3",
            "[::1]:5000/a/b-c.d",
            "r.example/a@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        ] {
            assert_eq!(good.parse::<ImageRef>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "/",
            "car",
            "team/car",
            "r.example/",
            "r.example/A",
            "r.example/a//b",
            "r.example/../b",
            "r.example/a:",
            "r.example/a:.x",
            "r.example:99999/a",
            "r.example/a@sha256:00",
            "r_x.example/a",
            "r.example/a_",
            "r.example/a b",
            "-.a/b",
            "[::1/a",
            "r.example/a:b:c",
            "https://r.example/a",
        ] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_alone_is_not_pinned() {
        let error = "r.example/a:v1".parse::<PinnedImage>().unwrap_err();
        assert!(matches!(error, ReferenceError::NotPinned(_)), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in "\\PC{0,60}") {
            if let Ok(image) = text.parse::<ImageRef>() {
                proptest::prop_assert_eq!(image.to_string(), text);
            }
        }
    }
}
