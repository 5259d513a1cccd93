//! Runs whose holder is gone: they go back to the queue, and whoever claims them goes on.

use super::{
    Db, RunState, Store, StoreError,
    db::params,
    journal::{json, set_ended},
    now_ms,
};
use crate::lane::StepError;

/// A step that takes the service down with it this often is not started again by itself.
const MAX_INTERRUPTED: i64 = 5;

impl Store {
    /// Queues again what the last process left running, and fails what took it down too often.
    /// Call once, before any claim. Returns how many runs go on. A store that others write too has
    /// leases instead: what ended is taken back at the next claim.
    pub async fn adopt(&self) -> Result<usize, StoreError> {
        let shared = self.is_shared();
        let adopted = self.write(move |db| {
            // The lock beside the file proves that nobody else holds anything.
            take_back(db, if shared { db.clock()? } else { i64::MAX })
        });
        let adopted = adopted.await?;
        self.wake();
        Ok(adopted)
    }
}

/// Takes back the runs whose lease ended before this time.
pub(super) fn take_back(db: &Db<'_>, ended: i64) -> Result<usize, StoreError> {
    let gone: Vec<String> = db.all(
        "SELECT id FROM runs WHERE state = 'running' AND lease < ?1",
        params![ended],
        |row| row.get(0),
    )?;
    if gone.is_empty() {
        return Ok(0);
    }
    db.execute(
        "UPDATE steps SET outcome = 'interrupted', finished = ?1 WHERE outcome = 'running'
         AND run IN (SELECT id FROM runs WHERE state = 'running' AND lease < ?2)",
        params![now_ms(), ended],
    )?;
    let poisonous: Vec<(String, String)> = db.all(
        "SELECT s.run, s.step FROM steps s JOIN runs r ON r.id = s.run
         WHERE r.state = 'running' AND r.lease < ?2 AND s.outcome = 'interrupted' AND s.attempt >
           (SELECT coalesce(max(attempt), 0) FROM steps o
            WHERE o.run = s.run AND o.step = s.step AND o.outcome IN ('failed', 'done'))
         GROUP BY s.run, s.step HAVING count(*) >= ?1",
        params![MAX_INTERRUPTED, ended],
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
        set_ended(db, &run, RunState::Failed, &step, &error)?;
        // Counts as a failed attempt, so that a retry has all its chances again.
        db.execute(
            "UPDATE steps SET outcome = 'failed', error = ?3 WHERE run = ?1 AND step = ?2
             AND attempt = (SELECT max(attempt) FROM steps WHERE run = ?1 AND step = ?2)",
            params![run, step, error],
        )?;
    }
    db.execute(
        "UPDATE runs SET state = 'queued', holder = NULL WHERE state = 'running' AND lease < ?1",
        params![ended],
    )
}
