//! Duties: what one process alone should do, whichever it is. It is harmless when two do it for a
//! moment; it is wasteful when all replicas ask GitHub the same.

use super::{Store, StoreError, db::params};

impl Store {
    /// Takes or keeps a duty for so many milliseconds; whether this holder has it.
    pub async fn on_duty(&self, duty: &str, holder: &str, hold: i64) -> Result<bool, StoreError> {
        let (duty, holder) = (duty.to_owned(), holder.to_owned());
        self.write(move |db| {
            let now = db.clock()?;
            let changed = db.execute(
                "INSERT INTO duties (name, holder, until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                 WHERE duties.holder = excluded.holder OR duties.until < ?4",
                params![duty, holder, now + hold, now],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    /// Gives a duty back, so that another need not wait for its end.
    pub async fn off_duty(&self, duty: &str, holder: &str) -> Result<(), StoreError> {
        let (duty, holder) = (duty.to_owned(), holder.to_owned());
        self.write(move |db| {
            let sql = "DELETE FROM duties WHERE name = ?1 AND holder = ?2";
            db.execute(sql, params![duty, holder]).map(drop)
        })
        .await
    }
}
