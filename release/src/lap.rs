//! The lap attestation: proof that a candidate drove in the twin before anyone signed it.
//!
//! The predicate carries the fields of in-toto's test-result v0.1 (`result`, `configuration`,
//! `passedTests`, `failedTests`) and the drives themselves. It names the exact platform manifest
//! that drove, and the ones that carry the very same model blob: those, and no other image, it
//! is evidence for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, Platform};

/// Predicate type of lap attestations.
pub const LAP: &str = "https://pitlane.dev/lap/v1";

/// What a candidate did in the twin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lap {
    /// Whether every drive passed.
    pub result: TestResult,
    /// What was configured: scenario, twin, track; by digest.
    pub configuration: Vec<Resource>,
    /// Names of the drives that passed.
    pub passed_tests: Vec<String>,
    /// Names of the drives that failed.
    pub failed_tests: Vec<String>,
    /// The platform whose image drove.
    pub platform: Platform,
    /// The manifest that drove.
    pub manifest: Digest,
    /// Other platforms' manifests that carry the same model blob.
    pub shares_model: BTreeMap<Platform, Digest>,
    /// Digest of the model file that drove.
    pub model: Digest,
    /// The drives.
    pub drives: Vec<Drive>,
}

/// The words of in-toto's test-result predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TestResult {
    /// All passed.
    Passed,
    /// Passed with warnings.
    Warned,
    /// At least one failed.
    Failed,
}

/// in-toto's resource descriptor, as far as it is used here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// A name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Algorithm → hexadecimal digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// Its media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
}

impl Resource {
    /// A named resource of this digest.
    pub fn named(name: &str, digest: Digest) -> Self {
        Self {
            name: Some(name.to_owned()),
            uri: None,
            digest: BTreeMap::from([("sha256".to_owned(), digest.hex())]),
            media_type: None,
        }
    }
}

/// One drive in the twin: the report that the twin wrote (its format is in `docs/twin.md`).
/// Lengths are metres of the simulated world, times are seconds of simulated time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drive {
    /// Name of the track.
    pub track: String,
    /// Digest of the track's centre line and width.
    pub track_digest: Digest,
    /// Seed of everything random.
    pub seed: u64,
    /// Lighting.
    pub light: String,
    /// Where on the track it started, 0..1.
    pub start: f64,
    /// Whether the twin waited for each answer, so that nothing hung on the machine's speed.
    pub lock_step: bool,
    /// Laps asked for.
    pub laps_wanted: u32,
    /// Laps driven.
    pub laps: u32,
    /// How long each took.
    pub lap_times_s: Vec<f64>,
    /// Camera frames driven on.
    pub frames: u64,
    /// Simulated time.
    pub sim_seconds: f64,
    /// Whether the car left the road.
    pub off_road: bool,
    /// How often it hit something.
    pub hits: u64,
    /// Mean distance from the centre line.
    pub mean_abs_cte_m: f64,
    /// Largest distance from the centre line.
    pub max_abs_cte_m: f64,
    /// Half the road's width.
    pub road_half_width_m: f64,
    /// Whether the twin calls it passed.
    pub passed: bool,
}

impl Lap {
    /// Whether it is evidence for this manifest: the one that drove, or one with its model.
    pub fn speaks_for(&self, platform: Platform, manifest: &Digest) -> bool {
        (self.platform == platform && self.manifest == *manifest)
            || self.shares_model.get(&platform) == Some(manifest)
    }
}
