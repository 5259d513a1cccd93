//! `Forge`: what opens pull requests. A plain git server has none: there the branch is pushed.

use std::future::Future;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A pull request to be opened or brought up to date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// The branch with the commit; it was pushed.
    pub branch: String,
    /// The branch to merge into.
    pub base: String,
    /// The commit.
    pub commit: String,
    /// One line.
    pub title: String,
    /// Markdown.
    pub body: String,
}

/// A pull request that there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// Where people see it.
    pub url: String,
    /// How it stands.
    pub state: PullState,
    /// Its body as it is now.
    pub body: String,
}

/// How a pull request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PullState {
    /// Neither merged nor closed.
    Open,
    /// Closed without being merged.
    Closed,
    /// Merged.
    Merged,
}

/// Why a forge did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pull request for {branch}: {why}")]
pub struct ForgeError {
    /// The branch.
    pub branch: String,
    /// What the forge said, without secrets.
    pub why: String,
}

/// What git needs to reach the repository, as variables of its environment; shown to nobody.
#[derive(Clone, Default)]
pub struct Login(Vec<(String, Zeroizing<String>)>);

impl Login {
    /// These variables.
    pub fn new<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self(variables.map(|(name, value)| (name.into(), Zeroizing::new(value.into()))).collect())
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

/// Opens pull requests. Calls are repeated after a crash: `open` is only called after `find` saw
/// no open one.
pub trait Forge: Send + Sync {
    /// What git needs to read and push; nothing where keys and agents do.
    fn login(&self) -> impl Future<Output = Result<Login, ForgeError>> + Send {
        async { Ok(Login::default()) }
    }

    /// The newest pull request from this branch into that one, whatever its state.
    fn find(
        &self,
        branch: &str,
        base: &str,
    ) -> impl Future<Output = Result<Option<PullRequest>, ForgeError>> + Send;

    /// Opens one; none where the forge has no pull requests.
    fn open(
        &self,
        proposal: &Proposal,
    ) -> impl Future<Output = Result<Option<PullRequest>, ForgeError>> + Send;

    /// Gives an open one a new title and body.
    fn update(
        &self,
        pull: &PullRequest,
        proposal: &Proposal,
    ) -> impl Future<Output = Result<PullRequest, ForgeError>> + Send;
}

/// A git server without pull requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainGit;

impl Forge for PlainGit {
    async fn find(&self, _: &str, _: &str) -> Result<Option<PullRequest>, ForgeError> {
        Ok(None)
    }

    async fn open(&self, _: &Proposal) -> Result<Option<PullRequest>, ForgeError> {
        Ok(None)
    }

    async fn update(&self, pull: &PullRequest, _: &Proposal) -> Result<PullRequest, ForgeError> {
        Ok(pull.clone())
    }
}
