//! The lane: the steps of a run, their order, and the seam between running and journalling them.

use std::{collections::BTreeMap, future::Future, path::PathBuf, pin::Pin};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The steps of a run, in order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Fetch the tag's commit from the configured repository.
    Checkout,
    /// Parse and bound the model against the contract.
    Model,
    /// Let the operator's gates look at the commit's files.
    Gates,
    /// Put base, runtime and model together as OCI images.
    Assemble,
    /// Drive the candidate in the twin, in a locked-down process.
    Prove,
    /// Upload blobs, platform manifests and index, by digest.
    Push,
    /// Sign and attach provenance and laps.
    Attest,
    /// Sign index, platform manifests and the release statement.
    Sign,
    /// Read everything back and admit it by the car's own policy; only then write the tag.
    Check,
    /// Change one scalar in the GitOps repository.
    Promote,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Self; 10] = [
        Self::Checkout,
        Self::Model,
        Self::Gates,
        Self::Assemble,
        Self::Prove,
        Self::Push,
        Self::Attest,
        Self::Sign,
        Self::Check,
        Self::Promote,
    ];

    /// Its name, as in journals, URLs and `--help`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::Model => "model",
            Self::Gates => "gates",
            Self::Assemble => "assemble",
            Self::Prove => "prove",
            Self::Push => "push",
            Self::Attest => "attest",
            Self::Sign => "sign",
            Self::Check => "check",
            Self::Promote => "promote",
        }
    }

    /// The step of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == text)
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What finished steps left for those after them; kept in the journal as JSON.
pub type Outputs = BTreeMap<Step, Value>;

/// Why a step did not finish.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("{message}")]
pub struct StepError {
    /// A stable code.
    pub code: String,
    /// What happened, with the file or value.
    pub message: String,
    /// The next step.
    pub hint: String,
    /// Whether trying again by itself can help.
    pub retryable: bool,
    /// Whether this is an answer (no) and not the lack of one.
    #[serde(default)]
    pub refused: bool,
}

impl StepError {
    /// Something only a person can mend.
    pub fn new(
        code: impl Into<String>,
        message: impl std::fmt::Display,
        hint: impl Into<String>,
    ) -> Self {
        let (code, hint) = (code.into(), hint.into());
        Self { code, message: format!("{message:#}"), hint, retryable: false, refused: false }
    }

    /// A refusal: the input was judged, and the answer is no.
    #[must_use]
    pub fn refusal(mut self) -> Self {
        self.refused = true;
        self
    }

    /// Something that may pass.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }
}

/// One run's identity, given to each step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The run's id; also the name of its working directory.
    pub run: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Source repository, `owner/name`.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The commit the event named, if it named one.
    pub commit: Option<String>,
    /// The tag object, for annotated tags.
    pub tag_object: Option<String>,
    /// The release's counter.
    pub counter: u64,
    /// Whether an old image gets a new statement, and nothing is built.
    pub rollback: bool,
    /// Where the model comes from, when it is not the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalModel>,
}

/// A model that is taken from a file on this machine instead of the tag's commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalModel {
    /// The model, an absolute path.
    pub model: PathBuf,
    /// Its card, an absolute path; the commit's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<PathBuf>,
}

/// A step's future.
pub type StepFuture<'a> = Pin<Box<dyn Future<Output = Result<Value, StepError>> + Send + 'a>>;

/// Executes steps; the service's journal calls it, and so does `pitlane release`.
pub trait Lane: Send + Sync + 'static {
    /// Runs one step. Idempotent: a step that was killed is run again from its start, with the
    /// same inputs, and must come to the same end.
    fn run<'a>(&'a self, job: &'a Job, step: Step, done: &'a Outputs) -> StepFuture<'a>;

    /// The first step whose results are not on this machine and are still needed, when the run
    /// comes from another one: it is done again from there.
    fn lost(&self, job: &Job, done: &Outputs) -> Option<Step> {
        let _ = (job, done);
        None
    }
}
