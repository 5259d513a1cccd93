//! Promotion by pull request: one branch for a kind of car and an environment, with one commit on
//! top of what is to be changed, brought up to date in place while it is open.

use std::path::Path;

use crate::{
    Candidate, Edited, Environment, Forge, Held, Outcome, Promoter, Promotion, Proposal, PullState,
    body,
    error::PromoteError,
    git::{Copy, Pushed},
    promote::{ATTEMPTS, Look, pause, promotion},
};

impl<F: Forge> Promoter<'_, F> {
    pub(crate) async fn propose(
        &self,
        copy: &Copy,
        environment: &Environment,
        candidate: &Candidate,
    ) -> Result<Promotion, PromoteError> {
        let base = self.config.branch_of(environment);
        let branch = format!("pitlane/{}/{}", candidate.car_kind, environment.name);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(pause(attempt)).await;
                copy.refresh().await?;
            }
            let (standing, edited) = match self.look(copy, environment, candidate).await? {
                Look::Answer(promotion) => return Ok(*promotion),
                Look::Write(standing, edited) => (standing, edited),
            };
            let from = edited.from.clone();
            let held = |held| promotion(copy, candidate, from.clone(), Outcome::Held { held });
            let pull = self.forge.find(&branch, base).await?;
            let ended = pull.iter().filter(|pull| pull.state != PullState::Open).find_map(|pull| {
                let counter = body::counter_of(&pull.body)?;
                (counter >= candidate.counter)
                    .then(|| Held::Closed { counter, url: pull.url.clone() })
            });
            if let Some(closed) = ended {
                return Ok(held(closed));
            }
            let old = copy.other(&branch).await?;
            let state =
                self.on_branch(copy, old.as_deref(), environment, candidate, &edited).await?;
            let same = matches!(state, OnBranch::Same(_));
            let commit = match state {
                OnBranch::Same(commit) => commit,
                OnBranch::Held(why) => {
                    return Ok(held(match why {
                        Held::Edited { .. } => Held::Edited { branch },
                        other => other,
                    }));
                }
                OnBranch::Replace => {
                    let new = self.make(copy, environment, candidate, &standing, &edited).await?;
                    match copy.push(&new, &branch, Some(old.as_deref().unwrap_or(""))).await? {
                        Pushed::Done => new,
                        Pushed::Lost => continue,
                        Pushed::Refused(said) => {
                            return Err(PromoteError::Rejected { branch, said });
                        }
                    }
                }
            };
            let proposal = Proposal {
                branch: branch.clone(),
                base: base.to_owned(),
                commit: commit.clone(),
                title: candidate.title(self.config.has_environments().then_some(environment)),
                body: body::body(candidate, environment, &edited.from, standing.newest()),
            };
            let open = pull.filter(|pull| pull.state == PullState::Open);
            let pull = match open {
                // People write into bodies: one that speaks of this release is left to them.
                Some(pull) if body::counter_of(&pull.body) == Some(candidate.counter) && same => {
                    Some(pull)
                }
                Some(pull) => Some(self.forge.update(&pull, &proposal).await?),
                None => self.forge.open(&proposal).await?,
            };
            let outcome = Outcome::Proposed { commit, branch, url: pull.map(|pull| pull.url) };
            return Ok(promotion(copy, candidate, edited.from, outcome));
        }
        Err(PromoteError::Raced { branch, attempts: ATTEMPTS })
    }

    /// What the branch of a pull request holds already.
    async fn on_branch(
        &self,
        copy: &Copy,
        old: Option<&str>,
        environment: &Environment,
        candidate: &Candidate,
        edited: &Edited,
    ) -> Result<OnBranch, PromoteError> {
        let Some(old) = old else { return Ok(OnBranch::Replace) };
        let target = &environment.target;
        let (record, files) = copy.about(old, target).await?;
        let others = Ok(OnBranch::Held(Held::Edited { branch: String::new() }));
        let Some(record) = record else { return others };
        let only = files.len() == 1 && Path::new(&files[0]) == target.file();
        let (_, bytes) = copy.file(old, target).await?;
        let bytes = bytes.map(|found| found.bytes).unwrap_or_default();
        let found = target.look(&bytes, &record.image.repository);
        if !only || found.ok().and_then(|found| found.digest) != Some(record.image.digest) {
            return others;
        }
        if record.counter > candidate.counter {
            let (counter, newest) = (candidate.counter, record.counter);
            return Ok(OnBranch::Held(Held::Older { counter, newest }));
        }
        let same = record.counter == candidate.counter
            && record.image == candidate.image
            && bytes == edited.text.as_bytes();
        Ok(if same { OnBranch::Same(old.to_owned()) } else { OnBranch::Replace })
    }
}

/// What is on the branch of a pull request.
enum OnBranch {
    Same(String),
    Replace,
    Held(Held),
}
