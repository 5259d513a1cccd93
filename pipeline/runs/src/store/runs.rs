//! What people ask of runs: list, show, retry, roll back.

use std::time::Duration;

use super::{
    Alert, Db, Run, RunFilter, RunState, StepOutcome, StepRecord, Store, StoreError,
    db::{Row, params},
    inbox::NewRun,
    journal::set_state,
    now_ms,
    types::{RawRun, step},
};
use crate::{lane::LocalModel, route::Route, told::Told};

/// Runs listed at once, at most and by default.
const MAX_PAGE: u32 = 200;
const PAGE: u32 = 50;
/// How often other processes' news are looked for.
const LOOK: Duration = Duration::from_millis(500);

/// A release that is asked for with files on this machine.
#[derive(Clone, Debug)]
pub struct LocalRelease {
    /// Its pipeline.
    pub route: Route,
    /// Its tag.
    pub tag: String,
    /// The commit that the model comes from; checkout asks the repository when it is not told.
    pub commit: Option<String>,
    /// The files.
    pub files: LocalModel,
}

/// A finished run of the same source and kind with a higher counter.
pub(super) fn newer_done(db: &Db<'_>, run: &Run) -> Result<Option<String>, StoreError> {
    db.first(
        "SELECT id FROM runs WHERE repository = ?1 AND kind = ?2 AND counter > ?3
         AND state = 'done' ORDER BY counter DESC LIMIT 1",
        params![run.repository, run.car_kind, i64::try_from(run.counter).unwrap_or(0)],
        |row| row.get(0),
    )
}

impl Store {
    /// Queues a failed run again; it goes on from the failed step, under its own counter.
    pub async fn retry(&self, run: &str) -> Result<Run, StoreError> {
        let id = run.to_owned();
        let run = self
            .write(move |db| {
                let run = one_run(db, &id)?;
                if !run.state.can_retry() {
                    return Err(refused(
                        "not-failed",
                        format!(
                            "run {id} is {}: only one that failed or was cancelled can be retried",
                            run.state.name()
                        ),
                        "",
                    ));
                }
                // Its counter would put an older release over a newer one; no car would take it.
                let newer = newer_done(db, &run)?;
                if let Some(newer) = newer {
                    return Err(refused(
                        "superseded",
                        format!("run {id} is older than {newer}, which is released"),
                        "push a new tag, or release an old one again with `pitlane rollback TAG`",
                    ));
                }
                db.execute("UPDATE runs SET cancel = 0 WHERE id = ?1", params![id])?;
                set_state(db, &id, RunState::Queued)?;
                one_run(db, &id)
            })
            .await?;
        self.wake();
        Ok(run)
    }

    /// Ends a run: one that waits at once, one that runs as soon as its holder hears of it. After
    /// the check it is released, and only promotion is left: then it is refused.
    pub async fn cancel(&self, run: &str) -> Result<Run, StoreError> {
        let id = run.to_owned();
        let run = self
            .write(move |db| {
                let run = one_run(db, &id)?;
                if run.state.is_over() {
                    let message = format!("run {id} is {}: it has ended", run.state.name());
                    return Err(refused("ended", message, ""));
                }
                let checked: Option<i64> = db.first(
                    "SELECT attempt FROM steps
                     WHERE run = ?1 AND step = 'check' AND outcome IN ('running', 'done') LIMIT 1",
                    params![id],
                    |row| row.get(0),
                )?;
                if checked.is_some() {
                    let message =
                        format!("run {id} is being released; it is too late to cancel it");
                    return Err(refused("too-late", message, "roll back to another release"));
                }
                db.execute("UPDATE runs SET cancel = 1 WHERE id = ?1", params![id])?;
                if run.state == RunState::Queued {
                    set_state(db, &id, RunState::Cancelled)?;
                }
                one_run(db, &id)
            })
            .await?;
        self.tell_end();
        Ok(run)
    }

    /// Resolves when something may have ended, or was asked to end.
    pub async fn wait_end(&self) {
        drop(self.inner.ends.subscribe().changed().await);
    }

    /// Queues a run that releases an old tag again, under a new counter.
    pub async fn rollback(&self, repository: &str, tag: &str) -> Result<Run, StoreError> {
        let (repository, tag) = (repository.to_owned(), tag.to_owned());
        let run = self
            .write(move |db| {
                let sql = "SELECT id FROM runs WHERE lower(repository) = lower(?1) AND tag = ?2
                           AND state = 'done' ORDER BY counter DESC LIMIT 1";
                let old: Option<String> = db.first(sql, params![repository, tag], |r| r.get(0))?;
                let Some(old) = old else {
                    return Err(refused(
                        "not-released",
                        format!("{repository} has no finished release of {tag}"),
                        "`pitlane runs list` shows the releases",
                    ));
                };
                let old = one_run(db, &old)?;
                let open: Option<String> = db.first(
                    "SELECT id FROM runs WHERE repository = ?1 AND tag = ?2 AND rollback = 1
                     AND state IN ('queued', 'running') LIMIT 1",
                    params![old.repository, tag],
                    |row| row.get(0),
                )?;
                if let Some(open) = open {
                    return one_run(db, &open);
                }
                let new = NewRun {
                    repository: &old.repository,
                    tag: &tag,
                    commit: old.commit.as_deref(),
                    object: &old.object,
                    pipeline: &old.pipeline,
                    kind: &old.car_kind,
                    rollback: true,
                    local: None,
                };
                let id = new.queue(db, now_ms())?;
                one_run(db, &id)
            })
            .await?;
        self.wake();
        Ok(run)
    }

    /// Queues a run that is made from files on this machine instead of a checkout. A tag that a
    /// run has, or that is recorded at another commit, is refused.
    pub async fn queue_local(&self, new: LocalRelease) -> Result<Run, StoreError> {
        let run = self
            .write(move |db| {
                let LocalRelease { route, tag, commit, files } = &new;
                let about = params![route.repository, tag];
                let taken: Option<String> = db.first(
                    "SELECT id FROM runs WHERE repository = ?1 AND tag = ?2 AND state <> 'failed'
                     LIMIT 1",
                    about,
                    |row| row.get(0),
                )?;
                if let Some(run) = taken {
                    let message = format!("tag {tag} is released by run {run}");
                    return Err(refused("tag-taken", message, "choose a new tag"));
                }
                if let Some(commit) = commit {
                    record_tag(db, route, tag, commit)?;
                }
                let new = NewRun {
                    repository: &route.repository,
                    tag,
                    commit: commit.as_deref(),
                    object: commit.as_deref().unwrap_or_default(),
                    pipeline: &route.pipeline,
                    kind: &route.car_kind,
                    rollback: false,
                    local: Some(files),
                };
                let id = new.queue(db, now_ms())?;
                one_run(db, &id)
            })
            .await?;
        self.wake();
        Ok(run)
    }

    /// One run, as soon as it has ended, or as it is when the time is over.
    pub async fn ended(&self, id: &str, within: Duration) -> Result<Run, StoreError> {
        let until = tokio::time::Instant::now() + within;
        loop {
            // Before the look: an end between the look and the wait is not missed.
            let mut ends = self.inner.ends.subscribe();
            let run = self.run(id).await?;
            let now = tokio::time::Instant::now();
            if run.state.is_over() || now >= until {
                return Ok(run);
            }
            // Another process's news are not told here: they are looked for.
            let next = if self.is_shared() { until.min(now + LOOK) } else { until };
            drop(tokio::time::timeout_at(next, ends.changed()).await);
        }
    }

    /// One run.
    pub async fn run(&self, id: &str) -> Result<Run, StoreError> {
        let id = id.to_owned();
        self.read(move |db| one_run(db, &id)).await
    }

    /// Runs, newest first.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<Run>, StoreError> {
        self.read(move |db| {
            let limit = filter.limit.unwrap_or(PAGE).min(MAX_PAGE);
            let state = filter.state.map(RunState::name);
            let raw = db.all(
                "SELECT id, seq, state, repository, tag, commit_id, object, pipeline, kind, counter,
                   rollback, created, updated, failed_step, error, local, holder FROM runs
                 WHERE (CAST(?1 AS TEXT) IS NULL OR state = ?1)
                   AND (CAST(?2 AS TEXT) IS NULL OR lower(repository) = lower(?2))
                   AND (CAST(?3 AS TEXT) IS NULL OR tag = ?3)
                   AND (CAST(?4 AS BIGINT) IS NULL OR seq < ?4)
                 ORDER BY seq DESC LIMIT ?5",
                params![state, filter.repository, filter.tag, filter.before, limit],
                RawRun::read,
            )?;
            raw.into_iter().map(RawRun::parse).collect()
        })
        .await
    }

    /// Every attempt of every step of a run, in the order they began.
    pub async fn steps(&self, run: &str) -> Result<Vec<StepRecord>, StoreError> {
        let id = run.to_owned();
        self.read(move |db| {
            one_run(db, &id)?;
            steps(db, &id)
        })
        .await
    }

    /// The newest alerts, at most 200.
    pub async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        self.read(|db| {
            db.all(
                "SELECT code, repository, tag, message, first_seen, last_seen, times FROM alerts
                 ORDER BY last_seen DESC, seq DESC LIMIT 200",
                &[],
                read_alert,
            )
        })
        .await
    }
}

/// One alert, if it still stands.
pub(super) fn alert(db: &Db<'_>, seq: i64) -> Result<Option<Alert>, StoreError> {
    db.first(
        "SELECT code, repository, tag, message, first_seen, last_seen, times FROM alerts
         WHERE seq = ?1",
        params![seq],
        read_alert,
    )
}

fn read_alert(row: &Row<'_>) -> Result<Alert, StoreError> {
    Ok(Alert {
        code: row.get(0)?,
        repository: row.get(1)?,
        tag: row.get(2)?,
        message: row.get(3)?,
        first_seen: row.get(4)?,
        last_seen: row.get(5)?,
        times: row.get::<i64>(6)?.unsigned_abs(),
    })
}

fn steps(db: &Db<'_>, id: &str) -> Result<Vec<StepRecord>, StoreError> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("run {id}: a step's {what}"));
    let mut records = db.all(
        "SELECT step, attempt, outcome, started, finished, output, error FROM steps WHERE run = ?1",
        params![id],
        |row| {
            let outcome: String = row.get(2)?;
            let output: Option<String> = row.get(5)?;
            let error: Option<String> = row.get(6)?;
            Ok(StepRecord {
                step: step(&row.get::<String>(0)?, id)?,
                attempt: row.get(1)?,
                outcome: StepOutcome::parse(&outcome).ok_or_else(|| corrupt("outcome"))?,
                started: row.get(3)?,
                finished: row.get(4)?,
                output: output
                    .map(|t| serde_json::from_str(&t))
                    .transpose()
                    .map_err(|_| corrupt("output"))?,
                error: error
                    .map(|t| serde_json::from_str(&t))
                    .transpose()
                    .map_err(|_| corrupt("error"))?,
            })
        },
    )?;
    records.sort_by_key(|record| (record.step, record.attempt));
    Ok(records)
}

pub(super) fn one_run(db: &Db<'_>, id: &str) -> Result<Run, StoreError> {
    let raw = db.first(
        "SELECT id, seq, state, repository, tag, commit_id, object, pipeline, kind, counter,
           rollback, created, updated, failed_step, error, local, holder FROM runs WHERE id = ?1",
        params![id],
        RawRun::read,
    )?;
    raw.ok_or_else(|| unknown_run(id))?.parse()
}

/// Records the tag at its commit, as a push of it does.
fn record_tag(db: &Db<'_>, route: &Route, tag: &str, commit: &str) -> Result<(), StoreError> {
    let recorded: Option<Option<String>> = db.first(
        "SELECT commit_id FROM tags WHERE repository = ?1 AND tag = ?2",
        params![route.repository, tag],
        |row| row.get(0),
    )?;
    let moved = recorded.flatten().filter(|recorded| recorded != commit);
    if let (Some(recorded), false) = (moved, route.allow_moved_tags) {
        let message = format!("tag {tag} is recorded at {recorded}, not at {commit}");
        return Err(refused("tag-moved", message, "tags are for ever; choose a new one"));
    }
    db.execute(
        "INSERT INTO tags (repository, tag, commit_id, object, first_seen)
         VALUES (?1, ?2, ?3, ?3, ?4) ON CONFLICT (repository, tag)
         DO UPDATE SET commit_id = excluded.commit_id, deleted = NULL",
        params![route.repository, tag, commit, now_ms()],
    )?;
    Ok(())
}

fn unknown_run(id: &str) -> StoreError {
    let shown: String = id.chars().take(80).collect();
    StoreError::Unknown { what: format!("run `{}`", shown.escape_debug()) }
}

fn refused(code: &str, message: String, hint: &str) -> StoreError {
    StoreError::Refused(Told { code: code.to_owned(), message, hint: hint.to_owned() })
}
