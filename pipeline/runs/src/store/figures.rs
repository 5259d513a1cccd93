//! Figures over everything that the store knows, for monitoring.

use super::{Store, StoreError, db::params};

/// What is counted. Any replica gives the same figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Pipeline, state, and how many runs.
    pub runs: Vec<(String, String, i64)>,
    /// Step, outcome, how many attempts ended so, and how long they took together (milliseconds).
    pub steps: Vec<(String, String, i64, i64)>,
    /// When the run was queued that waits longest (milliseconds since 1970).
    pub waiting_since: Option<i64>,
    /// Deliveries recorded so far.
    pub deliveries: i64,
    /// Alerts that stand.
    pub alerts: i64,
}

impl Store {
    /// The figures now.
    pub async fn figures(&self) -> Result<Figures, StoreError> {
        self.read(|db| {
            let one = |sql: &'static str| db.first(sql, params![], |row| row.get::<Option<i64>>(0));
            Ok(Figures {
                runs: db.all(
                    "SELECT pipeline, state, count(*) FROM runs GROUP BY pipeline, state
                     ORDER BY pipeline, state",
                    params![],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )?,
                steps: db.all(
                    "SELECT step, outcome, count(*), CAST(sum(finished - started) AS BIGINT)
                     FROM steps WHERE finished IS NOT NULL GROUP BY step, outcome
                     ORDER BY step, outcome",
                    params![],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
                )?,
                waiting_since: one("SELECT min(updated) FROM runs WHERE state = 'queued'")?
                    .flatten(),
                deliveries: one("SELECT max(seq) FROM deliveries")?.flatten().unwrap_or(0),
                alerts: one("SELECT count(*) FROM alerts")?.flatten().unwrap_or(0),
            })
        })
        .await
    }
}
