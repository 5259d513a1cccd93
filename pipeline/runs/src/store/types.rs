//! What the store tells: runs, their steps, alerts. The API sends these very types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StoreError, db::Row};
use crate::lane::{Job, LocalModel, Step, StepError};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Waits for its turn.
    Queued,
    /// An executor holds it.
    Running,
    /// Ended with an error, kept; `retry` goes on from the failed step.
    Failed,
    /// All steps finished.
    Done,
    /// Somebody asked for its end.
    Cancelled,
    /// A newer release of its source and kind took its place.
    Superseded,
}

impl RunState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Failed, Self::Done, Self::Cancelled, Self::Superseded];

    /// Whether nothing more happens by itself.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Failed | Self::Done | Self::Cancelled | Self::Superseded => true,
        }
    }

    /// The word in the store and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
        }
    }

    /// The state of a word.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether `retry` may queue it again.
    pub const fn can_retry(self) -> bool {
        match self {
            Self::Failed | Self::Cancelled => true,
            Self::Queued | Self::Running | Self::Done | Self::Superseded => false,
        }
    }
}

/// One run. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its name: `r12-5f3a9c01`.
    pub id: String,
    /// Its place in the order of all runs.
    pub seq: i64,
    /// Where it stands.
    pub state: RunState,
    /// `owner/name`.
    pub repository: String,
    /// Short name of the tag.
    pub tag: String,
    /// The commit as the delivery told it; checkout peels the tag and compares.
    pub commit: Option<String>,
    /// What the ref held: the commit, or the tag object of an annotated tag.
    pub object: String,
    /// Which pipeline builds it.
    pub pipeline: String,
    /// The kind of car it is for.
    pub car_kind: String,
    /// Its place among the releases of (repository, car kind).
    pub counter: u64,
    /// Whether it releases an old tag again.
    pub rollback: bool,
    /// When it was queued first.
    pub created: i64,
    /// When its state changed last.
    pub updated: i64,
    /// The step that failed.
    pub failed_step: Option<Step>,
    /// Why.
    pub error: Option<StepError>,
    /// The files it is made of, when it is not made from the tag's commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalModel>,
    /// The process that has it, or had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

/// A run as read, before its texts are parsed.
pub(super) struct RawRun {
    run: Run,
    state: String,
    counter: i64,
    failed_step: Option<String>,
    error: Option<String>,
    local: Option<String>,
}

impl RawRun {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let run = Run {
            id: row.get(0)?,
            seq: row.get(1)?,
            state: RunState::Queued,
            repository: row.get(3)?,
            tag: row.get(4)?,
            commit: row.get(5)?,
            object: row.get(6)?,
            pipeline: row.get(7)?,
            car_kind: row.get(8)?,
            counter: 0,
            rollback: row.get(10)?,
            created: row.get(11)?,
            updated: row.get(12)?,
            failed_step: None,
            error: None,
            local: None,
            holder: row.get(16)?,
        };
        Ok(Self {
            run,
            state: row.get(2)?,
            counter: row.get(9)?,
            failed_step: row.get(13)?,
            error: row.get(14)?,
            local: row.get(15)?,
        })
    }

    pub(super) fn parse(self) -> Result<Run, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt(format!("run {}: {what}", self.run.id));
        let state = RunState::parse(&self.state).ok_or_else(|| corrupt("unknown state"))?;
        let counter = u64::try_from(self.counter).map_err(|_| corrupt("negative counter"))?;
        let failed_step = self.failed_step.as_deref().map(|name| step(name, &self.run.id));
        let error = self.error.as_deref().map(|text| {
            serde_json::from_str(text).map_err(|e| corrupt(&format!("its error: {e}")))
        });
        let (failed_step, error) = (failed_step.transpose()?, error.transpose()?);
        let local = self.local.as_deref().map(|text| {
            serde_json::from_str(text).map_err(|e| corrupt(&format!("its files: {e}")))
        });
        let local = local.transpose()?;
        Ok(Run { state, counter, failed_step, error, local, ..self.run })
    }
}

impl Run {
    /// What each step is given.
    pub fn job(&self) -> Job {
        let annotated = self.commit.as_deref() != Some(self.object.as_str());
        Job {
            run: self.id.clone(),
            pipeline: self.pipeline.clone(),
            repository: self.repository.clone(),
            tag: self.tag.clone(),
            commit: self.commit.clone(),
            // Without a commit nobody knows yet what the object is; checkout finds out.
            tag_object: annotated.then(|| self.object.clone()),
            counter: self.counter,
            rollback: self.rollback,
            local: self.local.clone(),
        }
    }
}

pub(super) fn step(name: &str, run: &str) -> Result<Step, StoreError> {
    Step::parse(name).ok_or_else(|| StoreError::Corrupt(format!("run {run}: no step `{name}`")))
}

/// How one attempt of a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepOutcome {
    /// Under way.
    Running,
    /// Finished; its output is kept.
    Done,
    /// Ended with an error.
    Failed,
    /// The service ended during it.
    Interrupted,
}

impl StepOutcome {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "running" => Some(Self::Running),
            "done" => Some(Self::Done),
            "failed" => Some(Self::Failed),
            "interrupted" => Some(Self::Interrupted),
            _ => None,
        }
    }
}

/// One attempt of a step. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// Which step.
    pub step: Step,
    /// From 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: StepOutcome,
    /// When it began.
    pub started: i64,
    /// When it ended.
    pub finished: Option<i64>,
    /// What it left for later steps.
    pub output: Option<Value>,
    /// Why it failed.
    pub error: Option<StepError>,
}

/// What a step's finished attempt left; none while it has not finished.
pub fn output(steps: &[StepRecord], step: Step) -> Option<&Value> {
    let done = steps.iter().rev().find(|one| one.step == step && one.outcome == StepOutcome::Done);
    done.and_then(|one| one.output.as_ref())
}

/// Something a person should look at. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Stable code: `tag-moved`.
    pub code: String,
    /// `owner/name`.
    pub repository: String,
    /// Short name of the tag.
    pub tag: String,
    /// For people.
    pub message: String,
    /// First time.
    pub first_seen: i64,
    /// Last time.
    pub last_seen: i64,
    /// How often.
    pub times: u64,
}

/// Which runs to list, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunFilter {
    /// Only those in this state.
    pub state: Option<RunState>,
    /// Only those of this repository.
    pub repository: Option<String>,
    /// Only those of this tag.
    pub tag: Option<String>,
    /// Only those with a lower `seq`: the next page.
    #[schemars(extend("minimum" = i64::MIN, "maximum" = i64::MAX))]
    pub before: Option<i64>,
    /// At most this many; 50 where absent, never more than 200.
    #[schemars(extend("maximum" = u32::MAX))]
    pub limit: Option<u32>,
}
