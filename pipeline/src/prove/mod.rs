//! The step `prove`: the candidate drives laps in the twin, away from every key.
//!
//! The model is somebody else's program. It runs in the image that is about to be released, by the
//! runtime in it, in a jail that has no network, no key, no environment and no file but that
//! image; the one thing it can reach is the twin's socket. The twin, which reads what the candidate
//! sends, sits in a jail of its own. In lock step nothing depends on how fast this machine is.
//!
//! # Modules
//! - the operator's word: [`Scenario`], [`Limits`]; the answer: [`Proof`]
//! - deciding, without I/O: [`judge`] on a [`LapReport`]
//! - acting: `drive` (one run), `golden` (answers to fixed frames), `confined` (a jailed child), `evidence` (what it left behind),
//!   `twin_root`, and [`jail`], the entry point that jailed children start in

mod confined;
mod drive;
mod evidence;
mod golden;
pub mod jail;
mod report;
mod scenario;
mod twin_root;

use std::path::{Path, PathBuf};

use pitlane_release::{Digest, golden::GoldenFrames};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use report::{LapReport, Shortfall, TwinVersion, judge};
pub use scenario::{Limits, Run, Scenario, ScenarioError};

use jail::Isolation;

/// What is needed to prove a candidate.
#[derive(Clone, Debug)]
pub struct Prove<'a> {
    /// The unpacked root of the candidate image for this machine's platform.
    pub rootfs: &'a Path,
    /// The model inside, such as `/models/pilot.onnx`.
    pub model: &'a str,
    /// ONNX Runtime inside, where it is not at the runtime's own default.
    pub onnx_runtime: Option<&'a str>,
    /// What to drive.
    pub scenario: &'a Scenario,
    /// What it may use.
    pub limits: &'a Limits,
    /// Whether the candidate also answers the golden frames.
    pub golden: bool,
    /// The binary `pitlane-twin`.
    pub twin: PathBuf,
    /// The binary with the subcommand `jail`: this one (`std::env::current_exe`).
    pub jail: PathBuf,
    /// Where reports, traces, plots and logs stay, one directory for each run.
    pub evidence_dir: &'a Path,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The runs that were driven, in order; after one that failed there is none.
    pub runs: Vec<RunProof>,
    /// Whether every run of the scenario was driven and counts.
    pub passed: bool,
    /// The candidate's answers to the golden frames, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<GoldenFrames>,
    /// Why there are none, though they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden_failure: Option<Failure>,
}

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunProof {
    /// What was asked.
    pub run: Run,
    /// What the twin reported; none if it was stopped before.
    pub report: Option<LapReport>,
    /// Why the run does not count; none if it does.
    pub failure: Option<Failure>,
    /// The files that stay.
    pub files: Files,
    /// What held for the candidate while it drove.
    pub isolation: Isolation,
    /// Milliseconds by the wall clock.
    pub wall_ms: u64,
}

/// Why a run does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A code that stays.
    pub code: String,
    /// For people: what happened, when, and where to look.
    pub message: String,
}

/// The files of a run; none where the twin wrote none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    /// The lap report as the twin wrote it.
    pub report: Option<PathBuf>,
    /// Every frame's position and controls, JSON lines.
    pub trace: Option<PathBuf>,
    /// The digest of the trace.
    pub trace_digest: Option<Digest>,
    /// The drive on the track, SVG.
    pub plot: Option<PathBuf>,
    /// The last words of the runtime.
    pub car_log: Option<PathBuf>,
}

/// Why there is no answer: nothing is known of the candidate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The scenario itself is wrong.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A program is not there.
    #[error("`{program}` could not be started; is it installed beside `pitlane`?")]
    Start {
        /// Its path.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The jail could not be had; nothing was run.
    #[error("nothing was run, because it cannot be locked up here: {said}")]
    Jail {
        /// What the jail said.
        said: String,
    },
    /// The twin itself failed.
    #[error("the twin failed ({status}): {said}")]
    Twin {
        /// How it ended.
        status: String,
        /// Its last words.
        said: String,
    },
    /// A file of ours.
    #[error("`{path}` could not be {what}")]
    File {
        /// The path.
        path: PathBuf,
        /// Read, written, made.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Drives the scenario's runs one after another and stops at the first that does not count.
///
/// A candidate that drives badly, crashes, or takes too long is an answer ([`Proof::passed`] is
/// false); an error means that no answer could be had. All children are gone when this returns or
/// is dropped.
pub async fn prove(prove: &Prove<'_>) -> Result<Proof, ProveError> {
    prove.scenario.check()?;
    let mut runs = vec![];
    for (index, run) in prove.scenario.runs.iter().enumerate() {
        let driven = drive::run(prove, index, run).await?;
        let failed = driven.failure.is_some();
        runs.push(driven);
        if failed {
            return Ok(Proof { runs, passed: false, golden: None, golden_failure: None });
        }
    }
    if !prove.golden {
        return Ok(Proof { runs, passed: true, golden: None, golden_failure: None });
    }
    let (golden, golden_failure) = match golden::answers(prove).await? {
        Ok(golden) => (Some(golden), None),
        Err(failure) => (None, Some(failure)),
    };
    Ok(Proof { runs, passed: golden.is_some(), golden, golden_failure })
}
