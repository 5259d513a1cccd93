//! Lets go of the past: folders of finished runs, what they sealed, and what nobody can need any
//! more of the embedded registry.
//!
//! Never of what is under way. A failed run whose folder is gone can still be retried: it begins
//! again at the checkout, and finds what it sealed in the store.

mod folders;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use pitlane_registry::{CollectOptions, Collected, Registry};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{sync::watch, time::sleep};

use self::folders::{Folder, leaving, size};
use super::store::{Store, StoreError, now_ms};

/// The first look, so that a service that is started again and again does not look each time.
const FIRST: Duration = Duration::from_mins(1);
/// Time between looks.
const EVERY: Duration = Duration::from_hours(6);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What is kept of runs that are over. The oldest goes first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Keep {
    /// Days that a run's folder and what it sealed are kept; so long stays in the embedded
    /// registry what no tag leads to.
    #[schemars(range(min = 1, max = 36_500))]
    pub days: u32,
    /// Folders of a pipeline's runs, at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub runs: u32,
    /// GiB of all runs' folders together, at most.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub gib: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { days: 90, runs: 200, gib: 20 }
    }
}

impl Keep {
    /// Refuses figures that make no sense.
    pub fn check(&self) -> Result<(), String> {
        let all = [
            ("days", self.days, 36_500),
            ("runs", self.runs, 1_000_000),
            ("gib", self.gib, 1 << 20),
        ];
        for (name, value, most) in all {
            if !(1..=most).contains(&value) {
                return Err(format!("field `keep.{name}`: {value}; want 1 to {most}"));
            }
        }
        Ok(())
    }

    /// What is older is let go (milliseconds since 1970).
    fn cut(&self, now: i64) -> i64 {
        now.saturating_sub(i64::from(self.days).saturating_mul(DAY_MS))
    }
}

/// What was let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Folders of runs.
    pub folders: usize,
    /// Documents and attempts in the store.
    pub rows: usize,
    /// Of the embedded registry.
    pub registry: Collected,
}

/// Who lets go.
#[derive(Debug)]
pub struct Keeping {
    /// Limits.
    pub keep: Keep,
    /// The store.
    pub store: Store,
    /// Where runs have their folders.
    pub runs: PathBuf,
    /// The embedded registry, if there is one.
    pub registry: Option<Arc<Registry>>,
}

impl Keeping {
    /// Looks now and then, until the service stops.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut pause = FIRST;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            pause = EVERY;
            match self.once(now_ms()).await {
                Ok(Gone { folders: 0, rows: 0, .. }) => {}
                Ok(Gone { folders, rows, .. }) => {
                    tracing::info!(folders, rows, "let go of old runs' files");
                }
                Err(error) => tracing::warn!("old runs' files stay for now: {error:#}"),
            }
        }
    }

    /// One look.
    pub async fn once(&self, now: i64) -> anyhow::Result<Gone> {
        let mut gone = Gone { folders: self.folders(now).await?, ..Gone::default() };
        let cut = self.keep.cut(now);
        gone.rows = self.store.forget(cut).await?;
        if let Some(registry) = self.registry.clone() {
            let untagged = Some(Duration::from_hours(24) * self.keep.days);
            let options = CollectOptions { untagged, ..CollectOptions::default() };
            let (store, runtime) = (self.store.clone(), tokio::runtime::Handle::current());
            let needed = move || Ok(runtime.block_on(store.needed(cut))?);
            let collecting =
                tokio::task::spawn_blocking(move || registry.collect(&options, &needed));
            gone.registry = collecting.await??;
        }
        Ok(gone)
    }

    async fn folders(&self, now: i64) -> anyhow::Result<usize> {
        let mut folders = Vec::new();
        for (run, path) in here(&self.runs)? {
            let measured = path.clone();
            let bytes = tokio::task::spawn_blocking(move || size(&measured)).await?;
            let (pipeline, over, updated) = match self.store.run(&run).await {
                Ok(run) => (run.pipeline, run.state.is_over(), run.updated),
                // Of a store that was lost.
                Err(StoreError::Unknown { .. }) => (String::new(), true, touched(&path)),
                Err(error) => return Err(error.into()),
            };
            folders.push(Folder { run, pipeline, over, updated, bytes });
        }
        let mut count = 0;
        for run in leaving(folders, &self.keep, self.keep.cut(now)) {
            // Somebody may have asked for it again meanwhile.
            if self.store.run(&run).await.is_ok_and(|run| !run.state.is_over()) {
                continue;
            }
            let path = self.runs.join(&run);
            let removing = tokio::task::spawn_blocking({
                let path = path.clone();
                move || fs::remove_dir_all(path)
            });
            removing.await?.with_context(|| path.display().to_string())?;
            count += 1;
        }
        Ok(count)
    }
}

/// The folders that are named like runs.
fn here(runs: &Path) -> anyhow::Result<BTreeSet<(String, PathBuf)>> {
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error).with_context(|| runs.display().to_string()),
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let entry = entry.with_context(|| runs.display().to_string())?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.file_type()?.is_dir() && super::api::is_run_id(&name) {
            found.insert((name, entry.path()));
        }
    }
    Ok(found)
}

/// When a folder was written to (milliseconds since 1970).
fn touched(path: &Path) -> i64 {
    let time = fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(i64::MAX)
}
