//! What each kind of request needs, in the words of GitHub's settings.

/// A right that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Read tags and clone.
    ReadContents,
    /// Write releases.
    WriteContents,
    /// Write check runs.
    Checks,
    /// Write statuses of commits.
    Statuses,
    /// Write deployments.
    Deployments,
    /// Read a repository's hooks.
    ReadHooks,
    /// Deliver again.
    WriteHooks,
    /// Open pull requests.
    Pulls,
    /// Be an App.
    App,
}

impl Need {
    /// Name in an App's or a fine-grained token's permissions.
    fn name(self) -> &'static str {
        match self {
            Self::ReadContents => "contents: read",
            Self::WriteContents => "contents: write",
            Self::Checks => "checks: write",
            Self::Statuses => "commit statuses: write",
            Self::Deployments => "deployments: write",
            Self::ReadHooks => "webhooks: read",
            Self::WriteHooks => "webhooks: write",
            Self::Pulls => "pull requests: write",
            Self::App => "none, but the App's own key",
        }
    }

    /// What to do about a refusal. `accepted` is what GitHub itself says that it wants.
    pub(crate) fn hint(self, status: u16, accepted: Option<&str>) -> String {
        let want = self.name();
        let says = accepted.map(|text| format!(" (GitHub: {})", crate::error::tame(text)));
        let says = says.unwrap_or_default();
        match (status, self) {
            (401, Self::App) => "is the App's number right, the key its own and not deleted, and \
                                 this machine's clock right?"
                .to_owned(),
            (401, _) => "the token is wrong, revoked or out of date: make a new one".to_owned(),
            (403, _) => format!(
                "give the App or token the repository permission `{want}`{says}; for an App the owner \
                 must then accept it in the installation"
            ),
            (404, Self::App) => "install the App for this repository, or mend the name".to_owned(),
            (404, _) => format!(
                "is the name right, and the App installed for it, or the token made for it with \
                 `{want}`?"
            ),
            (410, _) => "it is gone for good".to_owned(),
            (409, _) => {
                "something else changed it at the same time: look at the repository".to_owned()
            }
            (422, _) => {
                "GitHub does not take these values: are tag and commit still there?".to_owned()
            }
            _ => "see GitHub's documentation of this status".to_owned(),
        }
    }
}
