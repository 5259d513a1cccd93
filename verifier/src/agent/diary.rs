//! The car's diary: what it was offered, what it decided, what drives. For `status`, for people.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    path::Path,
};

use pitlane_release::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many decisions are remembered.
const MAX_ENTRIES: usize = 64;
/// The file in the car's state directory.
pub const FILE: &str = "status.json";

/// What the agent tells about the car.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diary {
    /// What drives now.
    pub driving: Option<Driving>,
    /// The lowest counter that still starts.
    pub floor: u64,
    /// The last decisions, oldest first.
    pub decisions: VecDeque<Decision>,
}

/// What drives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Driving {
    /// The platform manifest.
    pub image: String,
    /// Its counter.
    pub counter: u64,
    /// The container's id.
    pub container: String,
    /// Whether it was confirmed.
    pub confirmed: bool,
    /// What the runtime last reported.
    pub status: Value,
}

/// A decision about a wish.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When.
    pub at: String,
    /// The GitOps commit that wished for it.
    pub commit: String,
    /// The image.
    pub image: String,
    /// `admitted`, `confirmed`, `unhealthy`, `error`, or a refusal's code.
    pub outcome: String,
    /// More about it.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// How long the decision took, gathering included (milliseconds).
    #[serde(default)]
    pub ms: f64,
    /// The checks that passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
}

impl Decision {
    /// A decision of now.
    pub fn new(commit: &str, image: &str, outcome: &str, message: String) -> Self {
        Self {
            at: jiff::Timestamp::now().to_string(),
            commit: commit.into(),
            image: image.into(),
            outcome: outcome.into(),
            message,
            hint: String::new(),
            ms: 0.0,
            checks: Vec::new(),
        }
    }

    /// A refusal.
    pub fn refused(commit: &str, image: &str, refusal: &Refusal) -> Self {
        let mut decision = Self::new(commit, image, refusal.code(), refusal.to_string());
        decision.hint = refusal.hint().into();
        decision
    }
}

impl Diary {
    /// The diary of the agent before; an empty one where there is none to read.
    pub fn read(dir: &Path) -> Self {
        /// 64 decisions of less than 2 KB.
        const MAX: u64 = 1024 * 1024;
        let mut bytes = Vec::new();
        let read = std::fs::File::open(dir.join(FILE))
            .and_then(|file| file.take(MAX).read_to_end(&mut bytes));
        let mut diary: Self =
            read.ok().and_then(|_| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        diary.driving = None;
        diary
    }

    /// Notes a decision. What only repeats the last word about the same wish is noted once.
    pub fn note(&mut self, decision: Decision) {
        let last = self.decisions.iter().rev().find(|last| last.commit == decision.commit);
        let same = |last: &Decision| {
            (&last.image, &last.outcome, &last.message)
                == (&decision.image, &decision.outcome, &decision.message)
        };
        if last.is_some_and(same) {
            return;
        }
        tracing::info!(
            outcome = decision.outcome,
            image = decision.image,
            gitops.commit = decision.commit,
            "{}",
            decision.message
        );
        self.decisions.push_back(decision);
        while self.decisions.len() > MAX_ENTRIES {
            self.decisions.pop_front();
        }
    }

    /// A number that changes when something worth writing happened.
    pub fn mark(&self) -> usize {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        self.floor.hash(&mut hasher);
        if let Some(driving) = &self.driving {
            (&driving.container, driving.confirmed).hash(&mut hasher);
        }
        if let Some(last) = self.decisions.back() {
            (&last.at, &last.commit, &last.outcome).hash(&mut hasher);
        }
        // Only compared with itself, so a lost bit does not matter.
        usize::try_from(hasher.finish() >> 1).unwrap_or(0)
    }

    /// Writes it for `status` to read. Losing it loses no safety, so a failure is only told.
    pub fn write(&self, dir: &Path) {
        let written = (|| {
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.flush()?;
            file.persist(dir.join(FILE))?;
            std::io::Result::Ok(())
        })();
        if let Err(error) = written {
            tracing::warn!(%error, "the status file could not be written");
        }
    }
}
