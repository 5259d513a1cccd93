//! `Progress`: how an environment stands after releases were taken as far as they may go.

use pitlane_release::{CarKind, Counter, Digest};
use serde::{Deserialize, Serialize};

use crate::{Candidate, Decision, Environment, Held, Outcome, Promotion, WaitsFor};

/// How far releases came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The environment.
    pub environment: CarKind,
    /// The release it is about: promoted, held or waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<Counter>,
    /// What was done, if something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitsFor>,
    /// Why it is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Why it could not be brought there; the environments behind it wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Progress {
    pub(crate) fn of(environment: &Environment) -> Self {
        let environment = environment.name.clone();
        Self { environment, counter: None, promotion: None, waits: None, held: None, error: None }
    }

    pub(crate) fn done(
        environment: &Environment,
        candidate: &Candidate,
        promotion: Promotion,
    ) -> Self {
        let held = match &promotion.outcome {
            Outcome::Held { held } => Some(held.clone()),
            Outcome::Committed { .. } | Outcome::InPlace | Outcome::Proposed { .. } => None,
        };
        let (counter, promotion) = (Some(candidate.counter), Some(promotion));
        Self { counter, promotion, held, ..Self::of(environment) }
    }

    pub(crate) fn stands(environment: &Environment, decision: Decision) -> Self {
        match decision {
            Decision::Wait { offer, on } => {
                Self { counter: Some(offer.counter), waits: Some(on), ..Self::of(environment) }
            }
            Decision::Held(held) => Self { held: Some(held), ..Self::of(environment) },
            Decision::Promote(_) | Decision::UpToDate => Self::of(environment),
        }
    }
}

/// What the promotion of one release came to, for the journal of its run: what was done in the
/// first environment, and how all of them stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promoted {
    /// The commit, if anything had to change; on a branch of its own for pull requests.
    pub commit: Option<String>,
    /// What was there before.
    pub from: Option<String>,
    /// The release's image.
    pub to: Option<Digest>,
    /// How each environment stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<Progress>,
}

impl Promoted {
    /// Sums the progress up; an environment that failed is an error, so that it is tried again.
    pub fn of(progress: Vec<Progress>) -> Result<Self, FailedEnvironments> {
        let failed = progress.iter().filter_map(|one| {
            one.error.as_ref().map(|error| format!("environment {}: {error}", one.environment))
        });
        let failed: Vec<String> = failed.collect();
        if !failed.is_empty() {
            return Err(FailedEnvironments(failed.join("; ")));
        }
        let first = progress.first().and_then(|first| first.promotion.as_ref());
        let commit = first.and_then(|first| match &first.outcome {
            Outcome::Committed { commit } | Outcome::Proposed { commit, .. } => {
                Some(commit.clone())
            }
            Outcome::InPlace | Outcome::Held { .. } => None,
        });
        let (from, to) = (first.map(|first| first.from.clone()), first.map(|first| first.to));
        Ok(Self { commit, from, to, environments: progress })
    }
}

/// Environments that a release could not be brought to; those before them have it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FailedEnvironments(String);
