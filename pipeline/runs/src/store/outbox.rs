//! What is to be told to whom, until it was: facts are put once, and wait for each of their
//! channels by themselves.

use super::{Store, StoreError, db::params, now_ms};

/// A fact is remembered this long (milliseconds), so that it is not told twice: longer than
/// anybody who tells it again may be behind.
const REMEMBERED: i64 = 90 * 24 * 3600 * 1000;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The same whenever the same thing is told.
    pub id: String,
    /// The event, JSON.
    pub event: String,
    /// Who gets it.
    pub channels: Vec<String>,
}

/// A delivery that has not ended. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The event, JSON.
    pub event: String,
    /// Tries so far.
    pub attempts: u32,
    /// When the first was.
    pub first_try: Option<i64>,
    /// Not before.
    pub due: Option<i64>,
}

impl Store {
    /// Puts those facts that were not put before; how many.
    pub async fn tell(&self, facts: Vec<Fact>) -> Result<usize, StoreError> {
        self.write(move |db| {
            let now = now_ms();
            let mut new = 0;
            for fact in &facts {
                let sql = "INSERT INTO told (id, time) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
                if db.execute(sql, params![fact.id, now])? == 0 {
                    continue;
                }
                new += 1;
                for channel in &fact.channels {
                    db.execute(
                        "INSERT INTO outbox (channel, id, event) VALUES (?1, ?2, ?3)",
                        params![channel, fact.id, fact.event],
                    )?;
                }
            }
            if new > 0 {
                db.execute("DELETE FROM told WHERE time < ?1", params![now - REMEMBERED])?;
            }
            Ok(new)
        })
        .await
    }

    /// The oldest delivery of a channel.
    pub async fn waiting(&self, channel: &str) -> Result<Option<Waiting>, StoreError> {
        let channel = channel.to_owned();
        self.read(move |db| {
            db.first(
                "SELECT event, attempts, first_try, due FROM outbox WHERE channel = ?1
                 ORDER BY seq LIMIT 1",
                params![channel],
                |row| {
                    Ok(Waiting {
                        event: row.get(0)?,
                        attempts: row.get(1)?,
                        first_try: row.get(2)?,
                        due: row.get(3)?,
                    })
                },
            )
        })
        .await
    }

    /// A delivery ended.
    pub async fn told(&self, channel: &str, id: &str) -> Result<(), StoreError> {
        let (channel, id) = (channel.to_owned(), id.to_owned());
        self.write(move |db| {
            let sql = "DELETE FROM outbox WHERE channel = ?1 AND id = ?2";
            db.execute(sql, params![channel, id]).map(drop)
        })
        .await
    }

    /// A delivery is tried again.
    pub async fn tell_later(
        &self,
        channel: &str,
        id: &str,
        attempts: u32,
        first_try: i64,
        due: i64,
    ) -> Result<(), StoreError> {
        let (channel, id) = (channel.to_owned(), id.to_owned());
        self.write(move |db| {
            db.execute(
                "UPDATE outbox SET attempts = ?3, first_try = ?4, due = ?5
                 WHERE channel = ?1 AND id = ?2",
                params![channel, id, attempts, first_try, due],
            )
            .map(drop)
        })
        .await
    }

    /// Drops the oldest deliveries of a channel until `keep` are left; how many.
    pub async fn shed(&self, channel: &str, keep: i64) -> Result<u64, StoreError> {
        let channel = channel.to_owned();
        let sql = "SELECT count(*) FROM outbox WHERE channel = ?1";
        let name = channel.clone();
        let counted = self.read(move |db| db.first(sql, params![name], |row| row.get::<i64>(0)));
        if counted.await?.unwrap_or(0) <= keep {
            return Ok(0);
        }
        let dropped = self.write(move |db| {
            db.execute(
                "DELETE FROM outbox WHERE channel = ?1 AND seq NOT IN
                   (SELECT seq FROM outbox WHERE channel = ?1 ORDER BY seq DESC LIMIT ?2)",
                params![channel, keep],
            )
        });
        Ok(dropped.await? as u64)
    }

    /// Forgets deliveries to channels that are not among these any more.
    pub async fn keep_channels(&self, names: Vec<String>) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "SELECT DISTINCT channel FROM outbox";
            let found: Vec<String> = db.all(sql, params![], |row| row.get(0))?;
            for gone in found.iter().filter(|name| !names.contains(name)) {
                db.execute("DELETE FROM outbox WHERE channel = ?1", params![gone])?;
            }
            Ok(())
        })
        .await
    }
}
