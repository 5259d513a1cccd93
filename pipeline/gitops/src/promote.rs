//! `Promoter`: brings a release into an environment, by a commit or a pull request.
//!
//! Read what the branch says, decide, make the commit, push it. Who loses a race begins again on
//! top of the winner; who was killed finds by the trailers what landed.

use std::{path::Path, time::Duration};

use pitlane_release::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    Candidate, Edited, Environment, Forge, GitFailure, Held, How, PlainGit, Promote, Standing,
    Verdict,
    error::PromoteError,
    git::{Copy, NewCommit, Pushed},
};

/// How often a push that lost a race is tried again on top of the winner. Of N who push at once
/// the last needs N.
pub(crate) const ATTEMPTS: u32 = 24;
/// The first pause after a lost race is at most this; it doubles.
const PAUSE: Duration = Duration::from_millis(60);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Promotes releases as a pipeline file says.
#[derive(Debug)]
pub struct Promoter<'a, F = PlainGit> {
    /// Where and how.
    pub config: &'a Promote,
    /// What opens pull requests.
    pub forge: &'a F,
    /// Where copies of the repository are made; they are gone afterwards.
    pub dir: &'a Path,
}

/// What a promotion came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promotion {
    /// What the scalar was before.
    pub from: String,
    /// The release's image.
    pub to: Digest,
    /// What was done.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How many git commands it took.
    pub commands: u32,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The commit is on the branch, made now or by an earlier try.
    Committed {
        /// The commit.
        commit: String,
    },
    /// The branch names the image already; nothing was done.
    InPlace,
    /// The commit is on a branch of its own, for people to merge.
    Proposed {
        /// The commit.
        commit: String,
        /// Its branch.
        branch: String,
        /// The pull request, where the forge has them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
    },
    /// It was left alone.
    Held {
        /// Why.
        held: Held,
    },
}

impl<F: Forge> Promoter<'_, F> {
    /// Brings a release into an environment, whatever others do at the same time. That it may go
    /// there was decided before; what people did to the file is respected here.
    pub async fn promote(
        &self,
        environment: &Environment,
        candidate: &Candidate,
    ) -> Result<Promotion, PromoteError> {
        let copy = self.copy(environment).await?;
        let promotion = match self.config.how_of(environment) {
            How::Commit => self.commit(&copy, environment, candidate).await?,
            How::PullRequest => self.propose(&copy, environment, candidate).await?,
        };
        if let Outcome::Held { held } = &promotion.outcome {
            let (environment, counter) = (&environment.name, candidate.counter);
            tracing::warn!(%environment, %counter, code = held.code(), "not promoted: {held}");
        }
        Ok(promotion)
    }

    pub(crate) async fn copy(&self, environment: &Environment) -> Result<Copy, PromoteError> {
        let (url, branch) = (&self.config.url, self.config.branch_of(environment));
        let login = self.forge.login().await?;
        Copy::of(url, branch, self.dir, login).await.map_err(|failure| PromoteError::Clone {
            url: url.clone(),
            branch: branch.to_owned(),
            failure,
        })
    }

    async fn commit(
        &self,
        copy: &Copy,
        environment: &Environment,
        candidate: &Candidate,
    ) -> Result<Promotion, PromoteError> {
        let branch = self.config.branch_of(environment);
        let mut rejected = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                match (&rejected, copy.refresh().await) {
                    (_, Ok(())) => {}
                    (None, Err(failure)) => return Err(failure.into()),
                    (Some(_), Err(_)) => break,
                }
            }
            let (standing, edited) = match self.look(copy, environment, candidate).await? {
                Look::Answer(promotion) => return Ok(*promotion),
                Look::Write(standing, edited) => (standing, edited),
            };
            if rejected.is_some() {
                break;
            }
            let commit = self.make(copy, environment, candidate, &standing, &edited).await?;
            match copy.push(&commit, branch, None).await {
                Ok(Pushed::Done) => {
                    let outcome = Outcome::Committed { commit };
                    return Ok(promotion(copy, candidate, edited.from, outcome));
                }
                Ok(Pushed::Lost) => {
                    tracing::info!(attempt, branch, "somebody else pushed first; again on top");
                    tokio::time::sleep(pause(attempt)).await;
                }
                // The answer may be lost and the commit there: one more look tells.
                Ok(Pushed::Refused(said)) => rejected = Some(said),
                Err(slow @ GitFailure::Slow { .. }) => rejected = Some(slow.to_string()),
                Err(failure) => return Err(failure.into()),
            }
        }
        let branch = branch.to_owned();
        Err(match rejected {
            Some(said) => PromoteError::Rejected { branch, said },
            None => PromoteError::Raced { branch, attempts: ATTEMPTS },
        })
    }

    /// What the branch says, as an answer or as what is to be written.
    pub(crate) async fn look(
        &self,
        copy: &Copy,
        environment: &Environment,
        candidate: &Candidate,
    ) -> Result<Look, PromoteError> {
        let target = &environment.target;
        let standing = copy.standing(target).await?;
        let refused = |refusal| PromoteError::Refused { file: target.file().into(), refusal };
        let outcome = match standing.verdict(target, candidate).map_err(refused)? {
            Verdict::Landed { commit } => Outcome::Committed { commit },
            Verdict::InPlace => Outcome::InPlace,
            Verdict::Held(held) => Outcome::Held { held },
            Verdict::Write(edited) => return Ok(Look::Write(standing, edited)),
        };
        let from = standing.digest(target, candidate).map(|d| d.to_string()).unwrap_or_default();
        Ok(Look::Answer(Box::new(promotion(copy, candidate, from, outcome))))
    }

    pub(crate) async fn make(
        &self,
        copy: &Copy,
        environment: &Environment,
        candidate: &Candidate,
        standing: &Standing,
        edited: &Edited,
    ) -> Result<String, GitFailure> {
        let new = NewCommit {
            parent: &standing.head,
            file: environment.target.file(),
            executable: standing.executable,
            bytes: edited.text.as_bytes(),
            message: &candidate.message(environment, self.config.has_environments()),
            author: &self.config.author,
            signing_key: self.config.signing_key.as_deref(),
        };
        copy.commit(&new).await
    }
}

/// What a look at the branch leads to.
pub(crate) enum Look {
    Answer(Box<Promotion>),
    Write(Standing, Edited),
}

pub(crate) fn promotion(
    copy: &Copy,
    candidate: &Candidate,
    from: String,
    outcome: Outcome,
) -> Promotion {
    Promotion { from, to: candidate.image.digest, outcome, commands: copy.git.started() }
}

/// A random part of a pause that doubles: those who lost together do not meet again.
pub(crate) fn pause(attempt: u32) -> Duration {
    let longest = PAUSE.saturating_mul(1 << attempt.min(8)).min(MAX_PAUSE);
    longest.mul_f64(fastrand::f64())
}
