//! A lab with one repository, and clients of it.

use std::time::Duration;

use pitlane_github::{App, Client, Credentials, Settings, Times, Token};
use pitlane_github_lab::{AppKey, Asked, Lab};
use pitlane_release::{ReleaseTag, RepoName};

/// All that the service ever needs.
pub(crate) const ALL: &str = "checks=write contents=write deployments=write metadata=read \
                              pull_requests=write repository_hooks=write statuses=write";

pub(crate) struct Setup {
    pub(crate) lab: Lab,
    pub(crate) app: AppKey,
    /// The only commit; `v1.0.0` names it.
    pub(crate) commit: String,
    pub(crate) repo: RepoName,
    _folder: tempfile::TempDir,
}

pub(crate) fn tag(name: &str) -> ReleaseTag {
    name.parse().unwrap()
}

/// Quick enough for tests, slow enough for a busy machine.
pub(crate) fn times() -> Times {
    Times {
        connect: Duration::from_secs(10),
        request: Duration::from_secs(10),
        patience: Duration::from_secs(3),
        backoff: Duration::from_millis(5),
        attempts: 3,
    }
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::granted(ALL)
    }

    /// A private repository, and an App that may do this.
    pub(crate) fn granted(permissions: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::start(folder.path()).unwrap();
        lab.repository("octo/car", true).unwrap();
        let files: [(&str, &[u8]); 2] = [("README.md", b"a car\n"), ("models/pilot.onnx", b"onnx")];
        let commit = lab.commit("octo/car", &files, "a model").unwrap();
        lab.push_tags("octo/car", &[("v1.0.0", Some(&commit))]).unwrap();
        let app = lab.app(permissions, &["octo/car"]).unwrap();
        Self { lab, app, commit, repo: "octo/car".parse().unwrap(), _folder: folder }
    }

    pub(crate) fn app_credentials(&self) -> Credentials {
        Credentials::App(App::new(self.app.id, self.app.pem.as_bytes(), None, "the lab").unwrap())
    }

    pub(crate) fn settings(&self, credentials: Credentials) -> Settings {
        let mut settings = Settings::new(credentials);
        settings.address = self.lab.url().parse().unwrap();
        settings.times = times();
        settings
    }

    /// A client as the App.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.settings(self.app_credentials())).unwrap()
    }

    /// A client with a person's token that may do this.
    pub(crate) fn person(&self, permissions: &str) -> Client {
        let token = self.lab.token(permissions, &["octo/car"]);
        let token = Token::new(&token, "the lab").unwrap();
        Client::new(self.settings(Credentials::Token(token))).unwrap()
    }

    /// The requests since the last time, as `METHOD PATH`, without those for tokens.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.lab.take_asked();
        let asked = asked.iter().filter(|one| !is_for_tokens(one));
        asked.map(|one| format!("{} {}", one.method, one.path)).collect()
    }
}

/// Whether a request is about an App's tokens.
pub(crate) fn is_for_tokens(asked: &Asked) -> bool {
    asked.path.ends_with("/access_tokens") || asked.path.ends_with("/installation")
}
