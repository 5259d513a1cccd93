//! A token for git: in its environment, never on its command line or in a URL.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_release::RepoName;
use zeroize::Zeroizing;

use crate::{
    client::Client,
    credential::Credentials,
    error::{GithubError, Problem},
    session::Use,
};

/// Variables for a git command that clones or fetches over HTTPS.
#[derive(Clone)]
pub struct GitEnv(Vec<(&'static str, Zeroizing<String>)>);

impl std::fmt::Debug for GitEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GitEnv(…)")
    }
}

impl GitEnv {
    /// The variables and their values, as `Command::envs` takes them.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl Client {
    /// What a git command needs to read a repository at `url`. With an App it is a token that
    /// may read this repository and do nothing else, good for at least a quarter of an hour.
    ///
    /// Refused for URLs of other hosts, and for plain HTTP beyond this machine.
    pub async fn git_env(&self, repository: &RepoName, url: &str) -> Result<GitEnv, GithubError> {
        self.git_env_for(repository, url, Use::Clone).await
    }

    /// The same to push to it, too.
    pub async fn git_env_to_push(
        &self,
        repository: &RepoName,
        url: &str,
    ) -> Result<GitEnv, GithubError> {
        self.git_env_for(repository, url, Use::Push).await
    }

    async fn git_env_for(
        &self,
        repository: &RepoName,
        url: &str,
        purpose: Use,
    ) -> Result<GitEnv, GithubError> {
        let error = |problem| GithubError {
            repository: repository.to_string(),
            asked: "make a token for git".to_owned(),
            problem,
        };
        let origin = self.inner().address.check_clone(url);
        let origin = origin.map_err(|reason| error(Problem::Ours(reason)))?;
        let token = match self.inner().sessions.credentials() {
            Credentials::Token(token) => token.clone(),
            Credentials::App(_) => self.installation_token(repository.as_str(), purpose).await?,
        };
        let login = Zeroizing::new(format!("x-access-token:{}", token.reveal()));
        let encoded = Zeroizing::new(STANDARD.encode(login.as_bytes()));
        let value = Zeroizing::new(format!("Authorization: Basic {}", *encoded));
        Ok(GitEnv(vec![
            ("GIT_CONFIG_COUNT", Zeroizing::new("1".to_owned())),
            // For this host alone, wherever a redirect or a submodule leads.
            ("GIT_CONFIG_KEY_0", Zeroizing::new(format!("http.{origin}/.extraHeader"))),
            ("GIT_CONFIG_VALUE_0", value),
        ]))
    }
}
