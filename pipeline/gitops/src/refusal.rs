//! Why a file is not edited: an answer, with the place and what to do about it.

use crate::yaml::MAX_FILE;

/// Why a file of a GitOps repository is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditRefusal {
    /// It is larger than any such file.
    #[error("it has more than {MAX_FILE} bytes, which are not read; split the file")]
    TooLarge,
    /// It is not UTF-8 text.
    #[error("it is {0}; save it as UTF-8")]
    Encoding(&'static str),
    /// It is not YAML, or two readers could read it differently.
    #[error("it cannot be read as YAML: {0}")]
    Unreadable(String),
    /// The place is not there.
    #[error("{what}; {hint}")]
    Missing {
        /// What was looked for.
        what: String,
        /// What to do.
        hint: String,
    },
    /// More than one place fits.
    #[error("{what}; {hint}")]
    Ambiguous {
        /// What was found.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The place names another repository than the one that is pushed to.
    #[error("`{place}` is {found}, the pipeline pushes to {want}; set it once by hand")]
    Repository {
        /// Where.
        place: String,
        /// What it says.
        found: String,
        /// What the pipeline says.
        want: String,
    },
    /// The scalar stands in several places by an anchor, or comes from elsewhere by an alias.
    #[error("`{0}` is shared through an anchor or a merge key; write it out in its own place")]
    Shared(String),
    /// The scalar cannot be replaced where it stands.
    #[error("`{place}` is {why}")]
    Form {
        /// Where.
        place: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// A person asked for no changes, by a comment.
    #[error("a comment pauses it (`{0}`); take the comment out to go on")]
    Paused(String),
    /// After the edit the file would not be the old one with the wanted change.
    #[error("the edit would change more than one scalar ({0}); write the file in a plainer style")]
    Unproven(&'static str),
}

impl EditRefusal {
    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "file-too-large",
            Self::Encoding(_) => "file-encoding",
            Self::Unreadable(_) => "file-unreadable",
            Self::Missing { .. } => "place-missing",
            Self::Ambiguous { .. } => "place-ambiguous",
            Self::Repository { .. } => "other-repository",
            Self::Shared(_) => "scalar-shared",
            Self::Form { .. } => "scalar-form",
            Self::Paused(_) => "paused",
            Self::Unproven(_) => "edit-unproven",
        }
    }

    pub(crate) fn missing(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), hint: hint.into() }
    }

    pub(crate) fn ambiguous(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Ambiguous { what: what.into(), hint: hint.into() }
    }
}
