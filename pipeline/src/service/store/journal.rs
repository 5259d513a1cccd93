//! The journal: who holds a run, which steps finished, how it ended.
//!
//! A claim gives a [`Lease`] with a fencing number; every later write carries it and is refused
//! when another claim came after. A step's finish and the next one's start are one transaction.

use rusqlite::params;
use serde_json::Value;

use super::{
    Db, Run, RunState, Store, StoreError, now_ms,
    runs::{newer_done, one_run},
    types::step,
};
use crate::lane::{Outputs, Step, StepError};

/// A step that takes the service down with it this often is not started again by itself.
const MAX_INTERRUPTED: i64 = 5;

/// The right to write a run's journal, until somebody else claims the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    run: String,
    fence: i64,
}

impl Lease {
    /// Which run.
    pub fn run(&self) -> &str {
        &self.run
    }
}

/// A run to execute.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The run as it stood when it was claimed.
    pub run: Run,
    /// For the journal.
    pub lease: Lease,
    /// What its finished steps left.
    pub done: Outputs,
}

impl Claim {
    /// The first step that has not finished; `None`: all have.
    pub fn next(&self) -> Option<Step> {
        Step::ALL.into_iter().find(|step| !self.done.contains_key(step))
    }
}

/// Ends the write unless the lease is the current one of a running run.
fn held(db: &Db<'_>, lease: &Lease) -> Result<(), StoreError> {
    let rows = db.execute(
        "UPDATE runs SET updated = ?3 WHERE id = ?1 AND fence = ?2 AND state = 'running'",
        params![lease.run, lease.fence, now_ms()],
    )?;
    if rows == 1 {
        return Ok(());
    }
    Err(StoreError::StaleLease { run: lease.run.clone(), fence: lease.fence })
}

fn start(db: &Db<'_>, run: &str, step: Step) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO steps (run, step, attempt, outcome, started)
         SELECT ?1, ?2, coalesce(max(attempt), 0) + 1, 'running', ?3 FROM steps
         WHERE run = ?1 AND step = ?2",
        params![run, step.name(), now_ms()],
    )?;
    Ok(())
}

fn finish(
    db: &Db<'_>,
    run: &str,
    step: Step,
    outcome: &str,
    output: Option<&str>,
    error: Option<&str>,
) -> Result<(), StoreError> {
    let rows = db.execute(
        "UPDATE steps SET outcome = ?3, finished = ?4, output = ?5, error = ?6
         WHERE run = ?1 AND step = ?2 AND outcome = 'running'",
        params![run, step.name(), outcome, now_ms(), output, error],
    )?;
    if rows == 1 {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!("run {run}: step {} was not running", step.name())))
}

pub(super) fn set_state(db: &Db<'_>, run: &str, state: RunState) -> Result<(), StoreError> {
    db.execute(
        "UPDATE runs SET state = ?2, updated = ?3, failed_step = NULL, error = NULL WHERE id = ?1",
        params![run, state.name(), now_ms()],
    )?;
    Ok(())
}

fn set_failed(db: &Db<'_>, run: &str, step: &str, error: &str) -> Result<(), StoreError> {
    db.execute(
        "UPDATE runs SET state = 'failed', updated = ?4, failed_step = ?2, error = ?3
         WHERE id = ?1",
        params![run, step, error, now_ms()],
    )?;
    Ok(())
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt(format!("journal: {e}")))
}

impl Store {
    /// Queues again what the last process left running, and fails what took it down too often.
    /// Call once, before any claim. Returns how many runs go on.
    pub async fn adopt(&self) -> Result<usize, StoreError> {
        let adopted = self.write(|db| {
            db.execute(
                "UPDATE steps SET outcome = 'interrupted', finished = ?1 WHERE outcome = 'running'",
                params![now_ms()],
            )?;
            let poisonous: Vec<(String, String)> = db.all(
                "SELECT s.run, s.step FROM steps s JOIN runs r ON r.id = s.run
                 WHERE r.state = 'running' AND s.outcome = 'interrupted' AND s.attempt >
                   (SELECT coalesce(max(attempt), 0) FROM steps o
                    WHERE o.run = s.run AND o.step = s.step AND o.outcome IN ('failed', 'done'))
                 GROUP BY s.run, s.step HAVING count(*) >= ?1",
                params![MAX_INTERRUPTED],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            for (run, step) in poisonous {
                let error = json(&StepError {
                    code: "interrupted".to_owned(),
                    message: format!("the service ended {MAX_INTERRUPTED} times during {step}"),
                    hint: "look for the kernel's out-of-memory messages, then `pitlane runs retry`"
                        .to_owned(),
                    retryable: true,
                    refused: false,
                })?;
                set_failed(db, &run, &step, &error)?;
                // Counts as a failed attempt, so that a retry has all its chances again.
                db.execute(
                    "UPDATE steps SET outcome = 'failed', error = ?3 WHERE run = ?1 AND step = ?2
                     AND attempt = (SELECT max(attempt) FROM steps WHERE run = ?1 AND step = ?2)",
                    params![run, step, error],
                )?;
            }
            Ok(db.execute("UPDATE runs SET state = 'queued' WHERE state = 'running'", [])?)
        });
        let adopted = adopted.await?;
        self.wake();
        Ok(adopted)
    }

    /// Takes the oldest queued run whose pipeline is not busy, and starts its next step.
    pub async fn claim(&self) -> Result<Option<Claim>, StoreError> {
        self.write(|db| {
            loop {
                let id: Option<(String, i64)> = db.first(
                    // From one pipeline with queued runs to the next, by the index: a long queue behind
                    // a busy pipeline must not make every delivery pay for it.
                    "UPDATE runs SET state = 'running', fence = fence + 1, updated = ?1
                 WHERE seq = (
                   WITH RECURSIVE waiting(pipeline) AS (
                     SELECT min(pipeline) FROM runs WHERE state = 'queued'
                     UNION ALL
                     SELECT (SELECT min(r.pipeline) FROM runs r
                             WHERE r.state = 'queued' AND r.pipeline > waiting.pipeline)
                     FROM waiting WHERE waiting.pipeline IS NOT NULL)
                   SELECT min((SELECT min(q.seq) FROM runs q
                               WHERE q.state = 'queued' AND q.pipeline = waiting.pipeline))
                   FROM waiting WHERE waiting.pipeline IS NOT NULL AND NOT EXISTS
                     (SELECT 1 FROM runs b
                      WHERE b.state = 'running' AND b.pipeline = waiting.pipeline))
                 RETURNING id, fence",
                    params![now_ms()],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
                let Some((id, fence)) = id else { return Ok(None) };
                let run = one_run(db, &id)?;
                // A retried run may have waited while a newer one finished: its older counter would
                // be promoted over the newer one, and no car would take it.
                if let Some(newer) = newer_done(db, &run)? {
                    let why = format!("run {newer} released a higher counter meanwhile");
                    let error = StepError::new("superseded", why, "push a new tag, or roll back");
                    let step = run.failed_step.map_or("checkout", Step::name);
                    set_failed(db, &id, step, &json(&error)?)?;
                    continue;
                }
                let finished: Vec<(String, Option<String>)> = db.all(
                    "SELECT step, output FROM steps WHERE run = ?1 AND outcome = 'done'",
                    params![id],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
                let mut done = Outputs::new();
                for (name, output) in finished {
                    let output = serde_json::from_str(output.as_deref().unwrap_or("null"))
                        .map_err(|e| {
                            StoreError::Corrupt(format!("run {id}: output of {name}: {e}"))
                        })?;
                    done.insert(step(&name, &id)?, output);
                }
                let claim = Claim { run, lease: Lease { run: id, fence }, done };
                match claim.next() {
                    Some(step) => start(db, &claim.lease.run, step)?,
                    None => set_state(db, &claim.lease.run, RunState::Done)?,
                }
                return Ok(Some(claim));
            }
        })
        .await
    }

    /// A step finished: keeps its output and starts `next`; without one the run is done.
    pub async fn advance(
        &self,
        lease: &Lease,
        finished: Step,
        output: &Value,
        next: Option<Step>,
    ) -> Result<(), StoreError> {
        let (lease, output) = (lease.clone(), json(output)?);
        let written = self.write(move |db| {
            held(db, &lease)?;
            finish(db, &lease.run, finished, "done", Some(&output), None)?;
            match next {
                Some(step) => start(db, &lease.run, step),
                None => set_state(db, &lease.run, RunState::Done),
            }
        });
        written.await?;
        if next.is_none() {
            self.tell_end();
        }
        Ok(())
    }

    /// A step failed; it is tried again at once (`again`), or the run ends as failed.
    pub async fn fail(
        &self,
        lease: &Lease,
        failed: Step,
        error: &StepError,
        again: bool,
    ) -> Result<(), StoreError> {
        let (lease, error) = (lease.clone(), json(error)?);
        let written = self.write(move |db| {
            held(db, &lease)?;
            finish(db, &lease.run, failed, "failed", None, Some(&error))?;
            if again {
                return start(db, &lease.run, failed);
            }
            set_failed(db, &lease.run, failed.name(), &error)
        });
        written.await?;
        if !again {
            self.tell_end();
        }
        Ok(())
    }

    /// Lets go of a run between steps: the next process goes on with it.
    pub async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.write(move |db| {
            held(db, &lease)?;
            // Nothing of the started step was done: it leaves no trace.
            db.execute(
                "DELETE FROM steps WHERE run = ?1 AND outcome = 'running'",
                params![lease.run],
            )?;
            set_state(db, &lease.run, RunState::Queued)
        })
        .await
    }
}
