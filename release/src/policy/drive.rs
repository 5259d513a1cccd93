//! `drive:`, what a car asks of a release beyond somebody's signature.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{PolicyError, wire::AuthorityFile};
use crate::{CarKind, Platform, RepoName, model::Pilot};

/// The rules of the `drive:` section. Where it is present, only releases with a release
/// statement are admitted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriveRules {
    /// Which repositories' releases, for which kinds of car.
    pub sources: Vec<SourceRule>,
    /// Platforms that may drive; all when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub platforms: Option<Vec<Platform>>,
    /// The lowest counter admitted even by a car whose own floor is empty.
    #[serde(default)]
    pub minimum_counter: u64,
    /// Whether a release must say when it expires.
    #[serde(default)]
    pub require_expiry: bool,
    /// Most days since a release was issued; any age when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub max_age_days: Option<u32>,
    /// Laps that must be proven.
    #[serde(default, deserialize_with = "super::given::value")]
    pub laps: Option<LapRules>,
    /// Provenance that must be there.
    #[serde(default, deserialize_with = "super::given::value")]
    pub provenance: Option<ProvenanceRules>,
    /// The contract that the model must keep, by the pipeline's signed word.
    #[serde(default, deserialize_with = "super::given::value")]
    pub model: Option<ModelRules>,
    /// Golden frames that must be there, for the car's own hardware to reproduce.
    #[serde(default, deserialize_with = "super::given::value")]
    pub golden: Option<GoldenRules>,
    /// The CI run that must have signed; only with `keyless` authorities.
    #[serde(default, deserialize_with = "super::given::value")]
    pub workflow: Option<WorkflowRules>,
    /// Predicate types of further evidence that a release must name, signed by an authority:
    /// `https://cyclonedx.org/bom`.
    #[serde(default, deserialize_with = "super::given::items")]
    pub evidence: Vec<String>,
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LapRules {
    /// Tracks that must each have been driven.
    pub tracks: Vec<String>,
    /// Laps on each of them.
    pub min_laps: u32,
    /// Largest distance from the centre line allowed, in metres.
    #[serde(default, deserialize_with = "super::given::value")]
    pub max_abs_cte_m: Option<f64>,
    /// Largest mean distance from the centre line allowed, in metres.
    #[serde(default, deserialize_with = "super::given::value")]
    pub max_mean_abs_cte_m: Option<f64>,
    /// Seeds that must each have been driven on each track: laps on a seed that the pipeline did
    /// not choose by itself. Any when empty.
    #[serde(default, deserialize_with = "super::given::items")]
    pub seeds: Vec<u64>,
    /// Who may sign laps, when that is another key than the one for releases. They vouch for
    /// nothing else. The authorities of `spec` when empty.
    #[serde(default, deserialize_with = "super::given::items")]
    pub(super) authorities: Vec<AuthorityFile>,
}

/// The CI run that must have signed the release, by its certificate's claims (Fulcio extensions
/// .1.11 to .1.20).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowRules {
    /// Repositories whose runs count, as URLs: `https://github.com/team/car`.
    pub repositories: Vec<String>,
    /// Events that may have started it, e.g. `push`; any when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub triggers: Option<Vec<String>>,
    /// Whose machines may have run it, e.g. `github-hosted`; any when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub runners: Option<Vec<String>>,
    /// Whether the run must have been of the release's own tag and commit.
    #[serde(default = "yes")]
    pub own_tag: bool,
}

const fn yes() -> bool {
    true
}

/// Who must have built it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProvenanceRules {
    /// `builder.id`s that are trusted; any when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub builders: Option<Vec<String>>,
    /// Sources that are trusted, as provenance writes them (`git+https://…`); any when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub sources: Option<Vec<String>>,
}

/// What the car asks of the model: its own contract, beside the pipeline's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelRules {
    /// Kinds of pilot that the car can obey; any when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub pilots: Option<Vec<Pilot>>,
    /// Shapes of the input that the car can feed, batch first; any when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub input_shapes: Option<Vec<[u32; 4]>>,
    /// Newest standard operator set that the car's library runs.
    #[serde(default, deserialize_with = "super::given::value")]
    pub opset_max: Option<i64>,
    /// Operators that may be used; any when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub operators: Option<Vec<String>>,
    /// Largest file, in bytes.
    #[serde(default, deserialize_with = "super::given::value")]
    pub max_bytes: Option<u64>,
    /// Most weights.
    #[serde(default, deserialize_with = "super::given::value")]
    pub max_parameters: Option<u64>,
    /// SPDX expressions that the card's licence may be; any, or none, when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub licenses: Option<Vec<String>>,
}

/// What must be there to compare the car's own answers with.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GoldenRules {
    /// Frames that must be among them; any when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub frames: Option<Vec<String>>,
    /// Largest tolerance that a release may ask for; the release's own when absent.
    #[serde(default, deserialize_with = "super::given::value")]
    pub max_tolerance: Option<f64>,
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
        if self.max_age_days == Some(0) {
            return fail("drive.maxAgeDays", "0 admits nothing; leave it out to allow any age");
        }
        if self.evidence.iter().any(|kind| !kind.contains(':')) {
            return fail("drive.evidence", "want predicate types, which are URIs");
        }
        if self.workflow.as_ref().is_some_and(|workflow| workflow.repositories.is_empty()) {
            return fail("drive.workflow.repositories", "it is empty; name a repository's URL");
        }
        self.check_model()?;
        let Some(laps) = &self.laps else { return Ok(()) };
        if laps.min_laps == 0 {
            return fail("drive.laps.minLaps", "0 asks for nothing; leave `laps` out instead");
        }
        if laps.tracks.is_empty() {
            return fail("drive.laps.tracks", "it is empty; name a track");
        }
        for (field, limit) in [
            ("drive.laps.maxAbsCteM", laps.max_abs_cte_m),
            ("drive.laps.maxMeanAbsCteM", laps.max_mean_abs_cte_m),
        ] {
            if limit.is_some_and(|limit| limit.is_nan() || limit <= 0.0) {
                return fail(field, "want a distance in metres above 0");
            }
        }
        Ok(())
    }

    fn check_model(&self) -> Result<(), PolicyError> {
        let fail = |field: &str, why: &str| {
            Err(PolicyError::Field { field: field.to_owned(), why: why.to_owned() })
        };
        let allow_any = "it is empty; leave it out to allow any";
        if let Some(model) = &self.model {
            let empty = |list: Option<bool>| list.unwrap_or(false);
            for (field, empty) in [
                ("drive.model.pilots", empty(model.pilots.as_ref().map(Vec::is_empty))),
                ("drive.model.inputShapes", empty(model.input_shapes.as_ref().map(Vec::is_empty))),
                ("drive.model.operators", empty(model.operators.as_ref().map(Vec::is_empty))),
                ("drive.model.licenses", empty(model.licenses.as_ref().map(Vec::is_empty))),
            ] {
                if empty {
                    return fail(field, allow_any);
                }
            }
        }
        if let Some(golden) = &self.golden {
            if golden.frames.as_ref().is_some_and(Vec::is_empty) {
                return fail("drive.golden.frames", allow_any);
            }
            if golden.max_tolerance.is_some_and(|limit| !(limit > 0.0 && limit <= 1.0)) {
                return fail("drive.golden.maxTolerance", "want a number above 0 and up to 1");
            }
        }
        Ok(())
    }
}
