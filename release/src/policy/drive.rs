//! `drive:`, what a car asks of a release beyond somebody's signature.

use schemars::JsonSchema;
use serde::Deserialize;

use super::PolicyError;
use crate::{CarKind, Platform, RepoName};

/// The rules of the `drive:` section. Where it is present, only releases with a release
/// statement are admitted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriveRules {
    /// Which repositories' releases, for which kinds of car.
    pub sources: Vec<SourceRule>,
    /// Platforms that may drive; all when absent.
    #[serde(default)]
    pub platforms: Option<Vec<Platform>>,
    /// The lowest counter admitted even by a car whose own floor is empty.
    #[serde(default)]
    pub minimum_counter: u64,
    /// Whether a release must say when it expires.
    #[serde(default)]
    pub require_expiry: bool,
    /// Laps that must be proven.
    #[serde(default)]
    pub laps: Option<LapRules>,
    /// Provenance that must be there.
    #[serde(default)]
    pub provenance: Option<ProvenanceRules>,
}

/// A source of releases.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceRule {
    /// The repository.
    pub repository: RepoName,
    /// The kinds of car it may release for.
    pub car_kinds: Vec<CarKind>,
}

/// What must have been driven in the twin.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LapRules {
    /// Tracks that must each have been driven.
    pub tracks: Vec<String>,
    /// Laps on each of them.
    pub min_laps: u32,
    /// Largest distance from the centre line allowed, in metres.
    #[serde(default)]
    pub max_abs_cte_m: Option<f64>,
}

/// Who must have built it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProvenanceRules {
    /// `builder.id`s that are trusted; any when absent.
    #[serde(default)]
    pub builders: Option<Vec<String>>,
}

impl DriveRules {
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        let fail = |field: &str, why: &str| {
            Err(PolicyError::Field { field: field.to_owned(), why: why.to_owned() })
        };
        if self.sources.is_empty() {
            return fail("drive.sources", "it is empty; no release could ever drive");
        }
        if self.sources.iter().any(|source| source.car_kinds.is_empty()) {
            return fail("drive.sources[].carKinds", "it is empty");
        }
        if self.platforms.as_ref().is_some_and(Vec::is_empty) {
            return fail("drive.platforms", "it is empty; leave it out to allow all");
        }
        let Some(laps) = &self.laps else { return Ok(()) };
        if laps.min_laps == 0 {
            return fail("drive.laps.minLaps", "0 asks for nothing; leave `laps` out instead");
        }
        if laps.tracks.is_empty() {
            return fail("drive.laps.tracks", "it is empty; name a track");
        }
        if laps.max_abs_cte_m.is_some_and(|limit| limit.is_nan() || limit <= 0.0) {
            return fail("drive.laps.maxAbsCteM", "want a distance in metres above 0");
        }
        Ok(())
    }
}
