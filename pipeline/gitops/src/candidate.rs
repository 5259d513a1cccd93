//! `Candidate`: a release that may be promoted, and what its commit says.

use std::fmt::Write as _;

use pitlane_release::{
    CarKind, Commit, Counter, Digest, PinnedImage, Platform, ReleaseTag, RepoName, Repository,
    lap::Drive, statement::Release,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::{Environment, form::Pin, record};

/// A release that may be promoted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The kind of car it is for.
    pub car_kind: CarKind,
    /// Where its source is.
    pub source: RepoName,
    /// Its tag.
    pub tag: ReleaseTag,
    /// Its commit.
    pub commit: Commit,
    /// Its place in the order of releases.
    pub counter: Counter,
    /// Its index.
    pub image: PinnedImage,
    /// Platform → manifest.
    pub platforms: BTreeMap<Platform, Digest>,
    /// Its model.
    pub model: Digest,
    /// The run that made it.
    pub run: String,
    /// Whether an old image got a new statement.
    pub rollback: bool,
    /// The drives that prove it.
    pub drives: Vec<Drive>,
}

impl Candidate {
    /// The candidate of a release in this repository, made by this run. Drives are added by the
    /// caller, who read the lap attestation.
    pub fn of(release: &Release, repository: &Repository, run: &str) -> Self {
        Self {
            car_kind: release.car_kind.clone(),
            source: release.source.repository.clone(),
            tag: release.source.tag.clone(),
            commit: release.source.commit.clone(),
            counter: release.counter,
            image: repository.pin(release.index),
            platforms: release.platforms.clone(),
            model: release.model.digest,
            run: run.to_owned(),
            rollback: release.rollback_to.is_some(),
            drives: Vec::new(),
        }
    }

    /// What is written into files.
    pub fn pin(&self) -> Pin {
        Pin { digest: self.image.digest, tag: self.tag.to_string() }
    }

    /// First line of commits and title of pull requests; names the environment, if there is one.
    pub fn title(&self, environment: Option<&Environment>) -> String {
        let verb = if self.rollback { "roll back to" } else { "release" };
        let to = environment.map(|e| format!(" to {}", e.name)).unwrap_or_default();
        format!("{}: {verb} {}{to}", self.car_kind, self.tag)
    }

    /// The whole commit message.
    pub(crate) fn message(&self, environment: &Environment, named: bool) -> String {
        let mut text = self.title(named.then_some(environment));
        let _ = write!(
            text,
            "\n\nImage:   {}\nCounter: {}\nSource:  {} {}\nModel:   {}\n\n",
            self.image, self.counter, self.source, self.commit, self.model
        );
        text.push_str(&record::trailers(self, environment));
        text
    }
}
