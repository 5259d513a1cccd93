//! Pull requests of one branch into another: found, opened, brought up to date.

use http::Method;
use pitlane_release::RepoName;
use serde::Deserialize;
use serde_json::json;

use crate::{
    call::Call,
    client::Client,
    error::{GithubError, Problem},
    permission::Need,
};

/// Characters of a title, and of a body, that GitHub takes.
const TITLE: usize = 256;
const BODY: usize = 65_536;

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Where people see it.
    pub url: String,
    /// How it stands.
    pub state: PullState,
    /// Its text.
    pub body: String,
}

/// How a pull request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullState {
    /// Neither merged nor closed.
    Open,
    /// Closed without being merged.
    Closed,
    /// Merged.
    Merged,
}

/// What a pull request says and does.
#[derive(Clone, Copy, Debug)]
pub struct NewPull<'a> {
    /// The branch with the commits, in the same repository.
    pub head: &'a str,
    /// The branch to merge into.
    pub base: &'a str,
    /// One line.
    pub title: &'a str,
    /// Markdown.
    pub body: &'a str,
}

#[derive(Deserialize)]
struct Found {
    number: u64,
    html_url: String,
    state: String,
    #[serde(default)]
    merged_at: Option<String>,
    #[serde(default)]
    body: Option<String>,
}

impl From<Found> for Pull {
    fn from(found: Found) -> Self {
        let state = match (found.merged_at.is_some(), found.state.as_str()) {
            (true, _) => PullState::Merged,
            (false, "open") => PullState::Open,
            (false, _) => PullState::Closed,
        };
        let body = found.body.unwrap_or_default();
        Self { number: found.number, url: found.html_url, state, body }
    }
}

/// A branch as a query has it.
fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl Client {
    /// The newest pull request from a branch of the repository into another, whatever its state.
    pub async fn find_pull(
        &self,
        repository: &RepoName,
        head: &str,
        base: &str,
    ) -> Result<Option<Pull>, GithubError> {
        let owner = repository.as_str().split('/').next().unwrap_or_default();
        let (head, base) = (encode(&format!("{owner}:{head}")), encode(base));
        let path = format!(
            "/repos/{repository}/pulls?state=all&head={head}&base={base}&sort=created&\
             direction=desc&per_page=1"
        );
        let call = Call::get(repository.as_str(), "look for the pull request", path, Need::Pulls);
        let found: Vec<Found> = call.parse(&self.ask(&call).await?)?;
        Ok(found.into_iter().next().map(Pull::from))
    }

    /// Opens a pull request. One that another has opened meanwhile is given instead.
    pub async fn open_pull(
        &self,
        repository: &RepoName,
        new: NewPull<'_>,
    ) -> Result<Pull, GithubError> {
        let path = format!("/repos/{repository}/pulls");
        let body = json!({
            "title": cut(new.title, TITLE), "head": new.head, "base": new.base,
            "body": fits(repository, new.body)?, "maintainer_can_modify": false,
        });
        let call = Call::get(repository.as_str(), "open a pull request", path, Need::Pulls);
        let call = call.write(Method::POST, body);
        match self.ask(&call).await {
            Ok(raw) => call.parse::<Found>(&raw).map(Pull::from),
            // GitHub has one for these branches already, or the answer was lost.
            Err(error) if error.status() == Some(422) || error.may_pass() => {
                let found = self.find_pull(repository, new.head, new.base).await?;
                found.filter(|pull| pull.state == PullState::Open).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives an open pull request another title and text.
    pub async fn update_pull(
        &self,
        repository: &RepoName,
        number: u64,
        title: &str,
        body: &str,
    ) -> Result<Pull, GithubError> {
        let path = format!("/repos/{repository}/pulls/{number}");
        let body = json!({ "title": cut(title, TITLE), "body": fits(repository, body)? });
        let call = Call::get(repository.as_str(), "change the pull request", path, Need::Pulls);
        let call = call.write(Method::PATCH, body);
        call.parse::<Found>(&self.ask(&call).await?).map(Pull::from)
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// A text that GitHub takes whole: its end has what is read again.
fn fits<'a>(repository: &RepoName, body: &'a str) -> Result<&'a str, GithubError> {
    let length = body.chars().count();
    if length <= BODY {
        return Ok(body);
    }
    Err(GithubError {
        repository: repository.to_string(),
        asked: "write a pull request".to_owned(),
        problem: Problem::Ours(format!("its text has {length} characters, at most {BODY}")),
    })
}
