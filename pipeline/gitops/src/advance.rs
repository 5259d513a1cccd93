//! Takes releases as far through the environments as they may go now.

use std::{collections::BTreeMap, future::Future};

use crate::{
    Approval, Approved, Candidate, Confirmed, Decision, Deployed, EditRefusal, Environment, Forge,
    Held, Offer, Outcome, Progress, Promoter, Situation, Standing, error::PromoteError,
};
use pitlane_release::{CarKind, Counter, Digest};

/// Most releases looked at in one go.
const MAX_CANDIDATES: usize = 64;

/// Who confirmed and approved what: told by the service, which knows cars and people.
pub trait Evidence: Send + Sync {
    /// Who confirmed this image in this environment.
    fn confirmed(
        &self,
        environment: &CarKind,
        digest: &Digest,
    ) -> impl Future<Output = Result<Vec<Confirmed>, String>> + Send;

    /// Who approved releases for this environment.
    fn approved(
        &self,
        environment: &CarKind,
    ) -> impl Future<Output = Result<Vec<Approved>, String>> + Send;
}

/// Evidence that is at hand; the default is none.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Who confirmed what.
    pub confirmed: Vec<Confirmed>,
    /// Who approved what.
    pub approved: Vec<Approved>,
}

impl Evidence for Known {
    async fn confirmed(&self, of: &CarKind, digest: &Digest) -> Result<Vec<Confirmed>, String> {
        let fits = |c: &&Confirmed| c.environment == *of && c.digest == *digest;
        Ok(self.confirmed.iter().filter(fits).cloned().collect())
    }

    async fn approved(&self, of: &CarKind) -> Result<Vec<Approved>, String> {
        Ok(self.approved.iter().filter(|a| a.environment == *of).cloned().collect())
    }
}

impl<F: Forge> Promoter<'_, F> {
    /// Takes these releases as far as they may go now, and says how each environment stands, in
    /// order. Call it when a release was made, confirmed or approved; calling it again is harmless.
    /// An environment that fails does not hide what was done in those before it.
    pub async fn advance(
        &self,
        candidates: &[Candidate],
        evidence: &impl Evidence,
    ) -> Result<Vec<Progress>, PromoteError> {
        let environments = self.config.environments();
        let mut newest: Vec<&Candidate> = candidates.iter().collect();
        newest.sort_by_key(|candidate| std::cmp::Reverse(candidate.counter));
        newest.truncate(MAX_CANDIDATES);
        let Some(first) = newest.first() else { return Ok(Vec::new()) };
        // A pipeline without named environments has nothing to wait for, and needs no first look.
        if !self.config.has_environments() {
            let [environment] = environments.as_slice() else { return Ok(Vec::new()) };
            let promotion = self.promote(environment, first).await?;
            return Ok(vec![Progress::done(environment, first, promotion)]);
        }
        let mut deployed = self.deployed(&environments, first).await?;
        let (confirmed, approved) = gather(&environments, &newest, evidence).await?;
        let offers: Vec<Offer> = newest.iter().map(|candidate| candidate.offer()).collect();
        let mut done: BTreeMap<CarKind, Progress> = BTreeMap::new();
        let situation = |deployed: &[Deployed]| {
            let (offers, confirmed, approved) = (&offers[..], &confirmed[..], &approved[..]);
            let environments = &environments[..];
            Situation { environments, deployed, offers, confirmed, approved }.decide()
        };
        for (number, environment) in environments.iter().enumerate() {
            let Decision::Promote(offer) = &situation(&deployed)[number] else { continue };
            let candidate = newest.iter().find(|candidate| candidate.offer() == *offer);
            let Some(candidate) = candidate else { continue };
            let progress = match self.promote(environment, candidate).await {
                Ok(promotion) => {
                    if matches!(promotion.outcome, Outcome::Committed { .. } | Outcome::InPlace) {
                        deployed[number].digest = Some(offer.digest);
                        deployed[number].newest = Some(offer.counter);
                    }
                    Progress::done(environment, candidate, promotion)
                }
                Err(error) => Progress {
                    counter: Some(offer.counter),
                    error: Some(error.to_string()),
                    ..Progress::of(environment)
                },
            };
            done.insert(environment.name.clone(), progress);
        }
        let stands = situation(&deployed);
        let said = environments.iter().zip(stands).map(|(environment, decision)| {
            done.remove(&environment.name)
                .unwrap_or_else(|| Progress::stands(environment, decision))
        });
        Ok(said.collect())
    }

    /// What each environment has now.
    pub async fn deployed(
        &self,
        environments: &[Environment],
        like: &Candidate,
    ) -> Result<Vec<Deployed>, PromoteError> {
        let mut copies = BTreeMap::new();
        let mut found = Vec::with_capacity(environments.len());
        for environment in environments {
            let branch = self.config.branch_of(environment).to_owned();
            let copy = match copies.entry(branch) {
                std::collections::btree_map::Entry::Occupied(copy) => copy.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(self.copy(environment).await?)
                }
            };
            match copy.standing(&environment.target).await {
                Ok(standing) => found.push(has(&standing, environment, like)),
                Err(refused @ PromoteError::Refused { .. }) => {
                    found.push(stopped(Held::Unusable { why: refused.to_string() }, None));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

/// What an environment has, by its file and its history.
fn has(standing: &Standing, environment: &Environment, like: &Candidate) -> Deployed {
    let target = &environment.target;
    let newest = standing.newest().map(|record| record.counter);
    let file = target.file().display();
    let looked = match &standing.file {
        Some(bytes) => target.look(bytes, &like.image.repository),
        None => Err(EditRefusal::missing("it is not there", "write it once by hand")),
    };
    match looked {
        Ok(found) => {
            let stopped = found.paused.map(|comment| Held::Paused { comment });
            Deployed { digest: found.digest, newest, stopped }
        }
        Err(EditRefusal::Missing { what, .. }) if newest.is_some() => {
            stopped(Held::Deleted { what: format!("{file}: {what}") }, newest)
        }
        Err(refusal) => stopped(Held::Unusable { why: format!("{file}: {refusal}") }, newest),
    }
}

fn stopped(why: Held, newest: Option<Counter>) -> Deployed {
    Deployed { digest: None, newest, stopped: Some(why) }
}

async fn gather(
    environments: &[Environment],
    candidates: &[&Candidate],
    evidence: &impl Evidence,
) -> Result<(Vec<Confirmed>, Vec<Approved>), PromoteError> {
    let (mut confirmed, mut approved) = (Vec::new(), Vec::new());
    for environment in environments {
        match &environment.approval {
            Approval::Auto => {}
            Approval::AfterConfirmed(of) => {
                for candidate in candidates {
                    let found = evidence.confirmed(of, &candidate.image.digest).await;
                    confirmed.extend(found.map_err(PromoteError::Evidence)?);
                }
            }
            Approval::Manual => {
                let found = evidence.approved(&environment.name).await;
                approved.extend(found.map_err(PromoteError::Evidence)?);
            }
        }
    }
    Ok((confirmed, approved))
}

impl Candidate {
    /// The part of it that the order of environments depends on.
    pub fn offer(&self) -> Offer {
        Offer { counter: self.counter, digest: self.image.digest }
    }
}
