//! Release counters: one rising number per (source repository, car kind).

use pitlane_release::Counter;

use super::{Db, Store, StoreError, db::params};

/// Takes a counter, one more than the last, within the transaction that creates its run.
pub(super) fn take(db: &Db<'_>, source: &str, kind: &str, value: i64) -> Result<(), StoreError> {
    if u64::try_from(value).ok().and_then(Counter::new).is_none() {
        return Err(StoreError::Corrupt(format!("the counter of {source} {kind} has ended")));
    }
    // One or the other: who may meet a row locks it first, and a server keeps account of that.
    let sql = match value {
        1 => "INSERT INTO counters (source, kind, value) VALUES (?1, ?2, ?3)",
        _ => "UPDATE counters SET value = ?3 WHERE source = ?1 AND kind = ?2",
    };
    db.later(sql, params![source, kind, value])
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
