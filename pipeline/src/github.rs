//! GitHub, where sources are on it: which repositories it is asked about, a token for clones, and
//! what the API says of a tag.
//!
//! How GitHub is asked is `pitlane-github`'s business. Tags that no delivery told of are
//! `service::looking`'s, what people see there is `service::reporting`'s.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use pitlane_github::{ApiAddress, App, Client, Credentials, GitEnv, Settings, Token};
use pitlane_release::{Commit, ReleaseTag, RepoName};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{config::Source, forge::Forges, lane::StepError};

/// Shortest pause between two looks at the tags (seconds).
const SHORTEST: u64 = 1;

/// GitHub in the service's configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Github {
    /// Address of the API; `https://HOST/api/v3` of an enterprise server. GitHub's own when absent.
    #[serde(default)]
    address: Option<String>,
    /// File with a token, mode 0600; or `app`.
    #[serde(default)]
    token_file: Option<PathBuf>,
    /// A GitHub App; or `tokenFile`.
    #[serde(default)]
    app: Option<AppFile>,
    /// Seconds between two looks at the tags. A look that finds nothing new costs nothing of the
    /// hour's requests.
    #[serde(default = "default_poll")]
    poll_seconds: u64,
    /// Whether lost deliveries of the repositories' hook, or of the App's, are asked for again:
    /// the address of the hook as GitHub calls it, or `app`. Not when absent; tags are looked at
    /// all the same.
    #[serde(default)]
    redeliver: Option<String>,
    /// What is reported to GitHub.
    #[serde(default)]
    report: Report,
    /// Address of a run for people, with `{run}` in it; links to it are in what is reported.
    #[serde(default)]
    run_url: Option<String>,
}

/// What is reported to GitHub. Each needs a permission (docs/github.md).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "four switches of a configuration")]
pub struct Report {
    /// A check run for each step; GitHub takes them from Apps alone.
    pub checks: bool,
    /// One status of the commit.
    pub statuses: bool,
    /// A deployment for each environment.
    pub deployments: bool,
    /// The release's notes.
    pub releases: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self { checks: true, statuses: true, deployments: true, releases: true }
    }
}

impl Report {
    /// Whether anything is.
    pub const fn any(self) -> bool {
        self.checks || self.statuses || self.deployments || self.releases
    }
}

/// A GitHub App.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AppFile {
    /// Its number.
    id: u64,
    /// Its private key, PEM; mode 0600.
    key_file: PathBuf,
    /// The number of its installation; looked up by the repository when absent.
    #[serde(default)]
    installation: Option<u64>,
}

const fn default_poll() -> u64 {
    60
}

impl Github {
    /// Makes paths relative to the configuration's folder.
    pub fn rebase(&mut self, dir: &Path) {
        let key = self.app.as_mut().map(|app| &mut app.key_file);
        for path in self.token_file.iter_mut().chain(key) {
            *path = dir.join(&*path);
        }
    }

    fn credentials(&self) -> anyhow::Result<Credentials> {
        match (&self.token_file, &self.app) {
            (Some(file), None) => Ok(Credentials::Token(Token::from_file(file)?)),
            (None, Some(app)) => {
                Ok(Credentials::App(App::from_file(app.id, &app.key_file, app.installation)?))
            }
            _ => bail!("give one of `tokenFile` and `app`"),
        }
    }
}

/// The link to GitHub.
#[derive(Debug)]
pub struct Link {
    client: Client,
    address: ApiAddress,
    poll: Duration,
    redeliver: Option<String>,
    report: Report,
    run_url: Option<String>,
    /// The sources that are on it.
    repositories: BTreeSet<RepoName>,
}

impl Link {
    /// Reads the credentials; opens no connection yet. The sources that are on this GitHub are
    /// those whose clone URL is of its host.
    pub fn open<'a>(
        github: &Github,
        sources: impl Iterator<Item = &'a Source>,
    ) -> anyhow::Result<Self> {
        let address = match &github.address {
            Some(text) => text.parse::<ApiAddress>().context("field `github.address`")?,
            None => ApiAddress::default(),
        };
        let credentials = github.credentials().context("field `github`")?;
        let settings = Settings { address: address.clone(), ..Settings::new(credentials) };
        let on_it = sources.filter(|source| address.is_of(&source.url));
        let repositories: BTreeSet<RepoName> =
            on_it.map(|source| source.repository.clone()).collect();
        if repositories.is_empty() {
            bail!("field `github`: no pipeline's `source.url` is of {address}");
        }
        let poll = Duration::from_secs(github.poll_seconds.max(SHORTEST));
        if github.run_url.as_ref().is_some_and(|url| !url.contains("{run}")) {
            bail!("field `github.runUrl`: there is no `{{run}}` in it");
        }
        let (redeliver, run_url) = (github.redeliver.clone(), github.run_url.clone());
        let (client, report) = (Client::new(settings)?, github.report);
        Ok(Self { client, address, poll, redeliver, report, run_url, repositories })
    }

    /// GitHub itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The pause between two looks at the tags.
    pub fn poll(&self) -> Duration {
        self.poll
    }

    /// The hook whose lost deliveries are asked for again.
    pub fn redeliver(&self) -> Option<&str> {
        self.redeliver.as_deref()
    }

    /// What is reported.
    pub fn report(&self) -> Report {
        self.report
    }

    /// Where a GitOps repository is: here, or on a plain git server.
    pub fn forge(&self, url: &str) -> Forges {
        match self.address.repository_of(url) {
            Some(repository) => {
                Forges::Github { client: self.client.clone(), repository, url: url.to_owned() }
            }
            None => Forges::Plain,
        }
    }

    /// Where people see a run.
    pub fn run_url(&self, run: &str) -> Option<String> {
        self.run_url.as_ref().map(|url| url.replace("{run}", run))
    }

    /// The sources that are on it.
    pub fn repositories(&self) -> &BTreeSet<RepoName> {
        &self.repositories
    }

    /// Whether a source is on it.
    pub fn has(&self, repository: &RepoName) -> bool {
        self.repositories.contains(repository)
    }

    /// What git needs to read a source; nothing for one that is elsewhere.
    pub async fn login(&self, repository: &RepoName, url: &str) -> anyhow::Result<Option<GitEnv>> {
        if !self.has(repository) {
            return Ok(None);
        }
        Ok(Some(self.client.git_env(repository, url).await?))
    }

    /// Compares what git gave for a tag with what the API says of it; where `signed`, GitHub must
    /// vouch for the tag's signature, too.
    pub async fn vouches(
        &self,
        repository: &RepoName,
        tag: &ReleaseTag,
        commit: &Commit,
        signed: bool,
    ) -> anyhow::Result<()> {
        let refuse = |code: &str, why: String, hint: &str| -> anyhow::Result<()> {
            Err(StepError::new(code, why, hint).refusal().into())
        };
        let Some(found) = self.client.resolve_tag(repository, tag).await? else {
            let why = format!("GitHub has no tag {tag} of {repository} any more");
            return refuse("tag-gone", why, "push the tag again, or a new one");
        };
        if found.commit != *commit {
            let why = format!("tag {tag} is at {commit} in git and at {} by the API", found.commit);
            return refuse("tag-moved", why, "somebody moved the tag; make a new one");
        }
        if !signed {
            return Ok(());
        }
        match found.require_signature() {
            Ok(object) => {
                tracing::info!(%tag, object = %object.id, "GitHub verified the tag's signature");
                Ok(())
            }
            Err(why) => refuse(
                "tag-unsigned",
                why.to_string(),
                "make a new tag with `git tag -s`, with a key that the signer's account has",
            ),
        }
    }
}
