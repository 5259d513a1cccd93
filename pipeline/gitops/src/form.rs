//! The forms in which a scalar names an image: a reference, a bare digest, a tag, a tag with one.

use pitlane_release::{Digest, Repository};

use crate::{
    EditRefusal,
    yaml::{At, Change},
};

/// What a promotion writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The image's digest.
    pub digest: Digest,
    /// The release's tag, written only where a tag stands already.
    pub tag: String,
}

/// A scalar that names the image, or a part of its name.
#[derive(Clone, Debug)]
pub(crate) struct Slot<'a> {
    pub at: At<'a>,
    form: Form,
}

/// How a scalar names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// `sha256:…`
    Digest,
    /// `v1.0.0`
    Tag,
    /// `v1.0.0@sha256:…`
    TagAndDigest,
    /// `[NAME=]REPOSITORY[:TAG][@sha256:…]`
    Reference { prefix: String, tagged: bool },
}

/// A reference, taken apart at its marks; nothing is checked.
struct Parts<'t> {
    prefix: &'t str,
    repository: &'t str,
    tag: Option<&'t str>,
    digest: Option<&'t str>,
}

fn parts(text: &str) -> Parts<'_> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let (prefix, name) = match name.rfind('=') {
        Some(end) => name.split_at(end + 1),
        None => ("", name),
    };
    // A colon before the last slash belongs to the port of the registry.
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[base..].find(':') {
        Some(colon) => {
            let (repository, tag) = name.split_at(base + colon);
            Parts { prefix, repository, tag: Some(&tag[1..]), digest }
        }
        None => Parts { prefix, repository: name, tag: None, digest },
    }
}

impl<'a> Slot<'a> {
    /// A scalar that is a digest, with any value.
    pub(crate) fn digest(at: At<'a>) -> Self {
        Self { at, form: Form::Digest }
    }

    /// A scalar that is a tag.
    pub(crate) fn tag(at: At<'a>) -> Self {
        Self { at, form: Form::Tag }
    }

    /// A scalar that is a reference to this repository; `NAME=` in front is kept when allowed.
    pub(crate) fn reference(
        at: At<'a>,
        repository: &Repository,
        prefixed: bool,
    ) -> Result<Self, EditRefusal> {
        let form = |why: &str| EditRefusal::Form { place: at.shown(), why: why.to_owned() };
        let Some(text) = at.text() else {
            return match Change::new(&at, String::new()) {
                Err(refusal) => Err(refusal),
                Ok(_) => Err(form("no text")),
            };
        };
        if text.contains('$') || text.contains("{{") {
            return Err(form(
                "put together from variables when it is used; write the reference out",
            ));
        }
        let found = parts(text);
        if found.prefix.is_empty() || prefixed {
            if found.repository != repository.as_str() {
                return Err(EditRefusal::Repository {
                    place: at.shown(),
                    found: format!("`{}`", text.chars().take(200).collect::<String>()),
                    want: repository.to_string(),
                });
            }
            let (prefix, tagged) = (found.prefix.to_owned(), found.tag.is_some());
            return Ok(Self { at, form: Form::Reference { prefix, tagged } });
        }
        Err(form("no reference; write REPOSITORY@sha256:…"))
    }

    /// A scalar in whichever form its text has now.
    pub(crate) fn any(at: At<'a>, repository: &Repository) -> Result<Self, EditRefusal> {
        match at.text() {
            Some("") => Ok(Self::digest(at)),
            Some(text) if text.starts_with("sha256:") => Ok(Self::digest(at)),
            Some(text) if text.contains("@sha256:") && !text.contains('/') => {
                Ok(Self { at, form: Form::TagAndDigest })
            }
            Some(text) if !text.contains(['/', '$', '{']) => Err(EditRefusal::Form {
                place: at.shown(),
                why: format!("`{text}`, and a tag can move; write sha256:… or TAG@sha256:… there"),
            }),
            _ => Self::reference(at, repository, false),
        }
    }

    /// The digest it names now.
    pub(crate) fn current(&self) -> Option<Digest> {
        let text = self.at.text()?;
        match &self.form {
            Form::Digest => text.parse().ok(),
            Form::Tag => None,
            Form::TagAndDigest | Form::Reference { .. } => parts(text).digest?.parse().ok(),
        }
    }

    /// What it says now.
    pub(crate) fn text(&self) -> String {
        self.at.text().unwrap_or_default().to_owned()
    }

    /// The change that makes it name this image.
    pub(crate) fn set(&self, repository: &Repository, pin: &Pin) -> Result<Change, EditRefusal> {
        let Pin { digest, tag } = pin;
        let value = match &self.form {
            Form::Digest => digest.to_string(),
            Form::Tag => tag.clone(),
            Form::TagAndDigest => format!("{tag}@{digest}"),
            Form::Reference { prefix, tagged: true } => {
                format!("{prefix}{repository}:{tag}@{digest}")
            }
            Form::Reference { prefix, tagged: false } => format!("{prefix}{repository}@{digest}"),
        };
        Change::new(&self.at, value)
    }
}
