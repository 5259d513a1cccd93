//! Release counters: one rising number per (source repository, car kind).

use pitlane_release::Counter;

use super::{Db, Store, StoreError, db::params};

/// Takes the next counter, within the transaction that creates its run.
pub(super) fn next(db: &Db<'_>, source: &str, kind: &str) -> Result<Counter, StoreError> {
    let value: Option<i64> = db.first(
        "INSERT INTO counters (source, kind, value) VALUES (?1, ?2, 1)
         ON CONFLICT (source, kind) DO UPDATE SET value = counters.value + 1 RETURNING value",
        params![source, kind],
        |row| row.get(0),
    )?;
    let counter = value.and_then(|value| u64::try_from(value).ok()).and_then(Counter::new);
    counter.ok_or_else(|| StoreError::Corrupt(format!("the counter of {source} {kind} has ended")))
}

impl Store {
    /// Makes the next counter of (source, kind) higher than `at_least`: for a registry that has
    /// releases this store never made. Never lowers; returns the value that stands.
    pub async fn raise_counter(
        &self,
        source: &str,
        kind: &str,
        at_least: Counter,
    ) -> Result<u64, StoreError> {
        let (source, kind) = (source.to_owned(), kind.to_owned());
        let at_least = i64::try_from(at_least.get()).expect("a counter is below 2^53");
        self.write(move |db| {
            let value: Option<i64> = db.first(
                "INSERT INTO counters (source, kind, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (source, kind) DO UPDATE SET value =
                   CASE WHEN counters.value < excluded.value THEN excluded.value
                   ELSE counters.value END
                 RETURNING value",
                params![source, kind, at_least],
                |row| row.get(0),
            )?;
            let value = value.and_then(|value| u64::try_from(value).ok());
            value.ok_or_else(|| StoreError::Corrupt(format!("no counter of {source} {kind}")))
        })
        .await
    }
}
