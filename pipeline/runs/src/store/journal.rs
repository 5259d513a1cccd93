//! The journal: who holds a run, which steps finished, how it ended.
//!
//! A claim gives a [`Lease`] with a fencing number; every later write carries it and is refused
//! when another claim came after. A step's finish and the next one's start are one transaction.

use serde_json::Value;

use super::{
    Db, Run, RunState, Store, StoreError,
    db::params,
    now_ms,
    runs::{newer_done, one_run},
    takeover,
    types::step,
};
use crate::lane::{Outputs, Step, StepError};

/// How long a claim holds without being renewed (milliseconds): the time after which a dead
/// replica's work is taken over.
const LEASE: i64 = 30_000;

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
         SELECT CAST(?1 AS TEXT), CAST(?2 AS TEXT), coalesce(max(attempt), 0) + 1, 'running',
           CAST(?3 AS BIGINT) FROM steps
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

/// Ends a run in this state, with the step and the reason.
pub(super) fn set_ended(
    db: &Db<'_>,
    run: &str,
    state: RunState,
    step: &str,
    error: &str,
) -> Result<(), StoreError> {
    db.execute(
        "UPDATE runs SET state = ?5, updated = ?4, failed_step = ?2, error = ?3
         WHERE id = ?1",
        params![run, step, error, now_ms(), state.name()],
    )?;
    Ok(())
}

/// The step that was under way did not end.
pub(super) fn interrupt(db: &Db<'_>, run: &str) -> Result<(), StoreError> {
    db.execute(
        "UPDATE steps SET outcome = 'interrupted', finished = ?2
         WHERE run = ?1 AND outcome = 'running'",
        params![run, now_ms()],
    )?;
    Ok(())
}

/// Whether somebody asked for its end.
fn cancelled(db: &Db<'_>, run: &str) -> Result<bool, StoreError> {
    let asked =
        db.first("SELECT cancel FROM runs WHERE id = ?1", params![run], |row| row.get(0))?;
    Ok(asked.unwrap_or(false))
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt(format!("journal: {e}")))
}

impl Store {
    /// Takes the oldest queued run whose pipeline is not busy, and starts its next step. `holder`
    /// says to people which process has it. Where others write the store too, what nobody renewed
    /// goes back to the queue before.
    pub async fn claim(&self, holder: &str) -> Result<Option<Claim>, StoreError> {
        let (holder, shared) = (holder.to_owned(), self.is_shared());
        self.write(move |db| {
            let clock = db.clock()?;
            if shared {
                takeover::take_back(db, clock)?;
            }
            loop {
                let id: Option<(String, i64)> = db.first(
                    // From one pipeline with queued runs to the next, by the index: a long queue behind
                    // a busy pipeline must not make every delivery pay for it.
                    "UPDATE runs SET state = 'running', fence = fence + 1, updated = ?1,
                   lease = ?2, holder = ?3
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
                    params![now_ms(), clock + LEASE, holder],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
                let Some((id, fence)) = id else { return Ok(None) };
                let run = one_run(db, &id)?;
                if cancelled(db, &id)? {
                    set_state(db, &id, RunState::Cancelled)?;
                    continue;
                }
                // A retried run may have waited while a newer one finished: its older counter would
                // be promoted over the newer one, and no car would take it.
                if let Some(newer) = newer_done(db, &run)? {
                    let why = format!("run {newer} released a higher counter meanwhile");
                    let error = StepError::new("superseded", why, "push a new tag, or roll back");
                    let step = run.failed_step.map_or("checkout", Step::name);
                    set_ended(db, &id, RunState::Superseded, step, &json(&error)?)?;
                    continue;
                }
                let finished: Vec<(String, Option<String>)> = db.all(
                    "SELECT step, output FROM steps WHERE run = ?1 AND outcome = 'done'
                     ORDER BY attempt",
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
            set_ended(db, &lease.run, RunState::Failed, failed.name(), &error)
        });
        written.await?;
        if !again {
            self.tell_end();
        }
        Ok(())
    }

    /// Takes back what the steps from `first` on left, and starts that one again: their files are
    /// on a machine that is gone.
    pub async fn rewind(&self, lease: &Lease, first: Step) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.write(move |db| {
            held(db, &lease)?;
            for step in Step::ALL.into_iter().filter(|step| *step >= first) {
                db.execute(
                    "UPDATE steps SET outcome = 'interrupted' WHERE run = ?1 AND step = ?2
                     AND outcome IN ('done', 'running')",
                    params![lease.run, step.name()],
                )?;
            }
            start(db, &lease.run, first)
        })
        .await
    }

    /// Says that the holder lives. Answers whether somebody asked for the run's end.
    pub async fn renew(&self, lease: &Lease) -> Result<bool, StoreError> {
        let lease = lease.clone();
        self.write(move |db| {
            let until = db.clock()? + LEASE;
            let asked = db.first(
                "UPDATE runs SET lease = ?3 WHERE id = ?1 AND fence = ?2 AND state = 'running'
                 RETURNING cancel",
                params![lease.run, lease.fence, until],
                |row| row.get(0),
            )?;
            let Lease { run, fence } = lease;
            asked.ok_or(StoreError::StaleLease { run, fence })
        })
        .await
    }

    /// Ends a run whose end was asked for.
    pub async fn cancelled(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        let written = self.write(move |db| {
            held(db, &lease)?;
            interrupt(db, &lease.run)?;
            set_state(db, &lease.run, RunState::Cancelled)
        });
        written.await?;
        self.tell_end();
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
