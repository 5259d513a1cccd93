//! Where GitOps repositories are: on a plain git server, or on GitHub, which has pull requests
//! and wants a login for git.

use pitlane_github::{Client, NewPull, Pull, PullState as There};
use pitlane_gitops::{Forge, ForgeError, Login, Proposal, PullRequest, PullState};
use pitlane_release::RepoName;

/// What opens pull requests for one GitOps repository.
#[derive(Debug)]
pub enum Forges {
    /// A plain git server: branches alone.
    Plain,
    /// GitHub.
    Github {
        /// It.
        client: Client,
        /// The GitOps repository.
        repository: RepoName,
        /// Its clone URL.
        url: String,
    },
}

fn request(pull: Pull) -> PullRequest {
    let state = match pull.state {
        There::Open => PullState::Open,
        There::Closed => PullState::Closed,
        There::Merged => PullState::Merged,
    };
    PullRequest { number: pull.number, url: pull.url, state, body: pull.body }
}

fn failed(branch: &str) -> impl Fn(pitlane_github::GithubError) -> ForgeError + '_ {
    |error| ForgeError { branch: branch.to_owned(), why: error.to_string() }
}

impl Forge for Forges {
    async fn login(&self) -> Result<Login, ForgeError> {
        let Self::Github { client, repository, url } = self else { return Ok(Login::default()) };
        let env = client.git_env_to_push(repository, url).await.map_err(failed(""))?;
        Ok(Login::new(env.pairs()))
    }

    async fn find(&self, branch: &str, base: &str) -> Result<Option<PullRequest>, ForgeError> {
        let Self::Github { client, repository, .. } = self else { return Ok(None) };
        let found = client.find_pull(repository, branch, base).await.map_err(failed(branch))?;
        Ok(found.map(request))
    }

    async fn open(&self, proposal: &Proposal) -> Result<Option<PullRequest>, ForgeError> {
        let Self::Github { client, repository, .. } = self else { return Ok(None) };
        let Proposal { branch, base, title, body, .. } = proposal;
        let new = NewPull { head: branch, base, title, body };
        let opened = client.open_pull(repository, new).await.map_err(failed(branch))?;
        Ok(Some(request(opened)))
    }

    async fn update(
        &self,
        pull: &PullRequest,
        proposal: &Proposal,
    ) -> Result<PullRequest, ForgeError> {
        let Self::Github { client, repository, .. } = self else { return Ok(pull.clone()) };
        let Proposal { branch, title, body, .. } = proposal;
        let changed = client.update_pull(repository, pull.number, title, body).await;
        Ok(request(changed.map_err(failed(branch))?))
    }
}
