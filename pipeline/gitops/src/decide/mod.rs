//! Which release goes to which environment next: a pure function of what is deployed, confirmed
//! and approved.
//!
//! Three rules. What comes to an environment is what the environment before has now. It comes when
//! the environment's approval is met. It is newer than everything that was ever promoted there, so
//! that nothing goes back, and nothing that a person rolled away comes again, by itself.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use pitlane_release::{CarKind, Counter, Digest};
use serde::{Deserialize, Serialize};

use crate::{Approval, Environment, Held};

/// A release, as far as it matters for the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// Its counter.
    pub counter: Counter,
    /// Its image.
    pub digest: Digest,
}

/// What an environment has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployed {
    /// What its file names now.
    pub digest: Option<Digest>,
    /// Counter of the newest release that was promoted there, rolled away or not.
    pub newest: Option<Counter>,
    /// Why it takes nothing at all now (paused, deleted).
    pub stopped: Option<Held>,
}

/// Somebody has confirmed an image: a car that drove it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confirmed {
    /// Where.
    pub environment: CarKind,
    /// What.
    pub digest: Digest,
    /// Who; the same one counts once.
    pub by: String,
}

/// A person has approved a release for an environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approved {
    /// Where it may go.
    pub environment: CarKind,
    /// What.
    pub digest: Digest,
    /// Which release of it.
    pub counter: Counter,
    /// Who.
    pub by: String,
}

/// What follows for one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Promote this one.
    Promote(Offer),
    /// The newest release that it could get waits for something.
    Wait {
        /// The release.
        offer: Offer,
        /// For what.
        on: WaitsFor,
    },
    /// It is left alone.
    Held(Held),
    /// It has the newest there is.
    UpToDate,
}

/// What a release waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "waitsFor", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum WaitsFor {
    /// The environment before has another release.
    #[error("environment {environment}, which is before it, to have the release")]
    Before {
        /// Which one that is.
        environment: CarKind,
    },
    /// Cars have to confirm it.
    #[error("{want} to confirm it in environment {environment}, {have} did")]
    Confirmation {
        /// Where.
        environment: CarKind,
        /// How many did.
        have: u32,
        /// How many must.
        want: u32,
    },
    /// A person has to approve it.
    #[error("a person to approve it")]
    Approval,
}

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The environments, in order.
    pub environments: &'a [Environment],
    /// What each has, in the same order.
    pub deployed: &'a [Deployed],
    /// The releases there are, in any order.
    pub offers: &'a [Offer],
    /// Who confirmed what.
    pub confirmed: &'a [Confirmed],
    /// Who approved what.
    pub approved: &'a [Approved],
}

impl Situation<'_> {
    /// What follows for each environment, in order.
    pub fn decide(&self) -> Vec<Decision> {
        (0..self.environments.len()).map(|number| self.decide_one(number)).collect()
    }

    /// The next thing to do, if there is one: the earliest environment that may get a release.
    pub fn next(&self) -> Option<(&Environment, Offer)> {
        self.environments.iter().zip(self.decide()).find_map(|(environment, decision)| {
            match decision {
                Decision::Promote(offer) => Some((environment, offer)),
                Decision::Wait { .. } | Decision::Held(_) | Decision::UpToDate => None,
            }
        })
    }

    fn decide_one(&self, number: usize) -> Decision {
        let Some(here) = self.deployed.get(number) else { return Decision::UpToDate };
        let mut offers = self.offers.to_vec();
        offers.sort_by(|a, b| b.cmp(a));
        let newer = offers.into_iter().take_while(|offer| {
            here.newest.is_none_or(|newest| offer.counter > newest)
                && here.digest != Some(offer.digest)
        });
        let mut waits = None;
        for offer in newer {
            if let Some(held) = &here.stopped {
                return Decision::Held(held.clone());
            }
            match self.waits_for(number, offer) {
                None => return Decision::Promote(offer),
                Some(on) => waits = waits.or(Some(Decision::Wait { offer, on })),
            }
        }
        waits.unwrap_or(Decision::UpToDate)
    }

    fn waits_for(&self, number: usize, offer: Offer) -> Option<WaitsFor> {
        let environment = &self.environments[number];
        if let Some(before) = number.checked_sub(1)
            && self.deployed[before].digest != Some(offer.digest)
        {
            return Some(WaitsFor::Before { environment: self.environments[before].name.clone() });
        }
        match &environment.approval {
            Approval::Auto => None,
            Approval::AfterConfirmed(of) => {
                let fits = |c: &&Confirmed| c.environment == *of && c.digest == offer.digest;
                let by: BTreeSet<&str> =
                    self.confirmed.iter().filter(fits).map(|c| c.by.as_str()).collect();
                let (have, want) =
                    (u32::try_from(by.len()).unwrap_or(u32::MAX), environment.confirmations);
                let environment = of.clone();
                (have < want).then_some(WaitsFor::Confirmation { environment, have, want })
            }
            Approval::Manual => {
                let fits = |a: &Approved| {
                    a.environment == environment.name
                        && a.digest == offer.digest
                        && a.counter == offer.counter
                };
                (!self.approved.iter().any(fits)).then_some(WaitsFor::Approval)
            }
        }
    }
}
