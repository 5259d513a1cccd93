//! Following what happens: runs, alerts, cars and approvals in the order of their last change.
//!
//! A follower tells others (GitHub, people, a GitOps repository). It reads changes behind the
//! place that it has come to, does its part, and then keeps the new place; so nothing is missed
//! however often it is killed, and what it does must be harmless to do again. Something that
//! changes often is read once, as it stands now.

use super::{Alert, Db, Store, StoreError, db::params};

/// Most changes that are read at once.
const PAGE: i64 = 64;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A run, or one of its steps or places.
    Run(String),
    /// Something that a person should look at.
    Alert(Box<Alert>),
    /// What a car says of itself: pipeline and car.
    Car(String, String),
    /// A person approved a release for an environment of this pipeline.
    Approval(String),
}

/// One change; later ones have greater numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place in the order.
    pub seq: i64,
    /// What has changed; none when it is gone meanwhile.
    pub what: Option<Changed>,
}

/// Notes that something has changed, where no trigger does.
pub(super) fn changed(db: &Db<'_>, kind: &str, id: &str) -> Result<(), StoreError> {
    db.execute("DELETE FROM changes WHERE kind = ?1 AND id = ?2", params![kind, id])?;
    db.execute("INSERT INTO changes (kind, id) VALUES (?1, ?2)", params![kind, id]).map(drop)
}

impl Store {
    /// Begins to follow from now on; one that follows already goes on where it was.
    pub async fn follow(&self, follower: &str) -> Result<(), StoreError> {
        let follower = follower.to_owned();
        self.write(move |db| {
            db.execute(
                "INSERT INTO followers (name, seq)
                 SELECT CAST(?1 AS TEXT), coalesce(max(seq), 0) FROM changes
                 WHERE true ON CONFLICT (name) DO NOTHING",
                params![follower],
            )
            .map(drop)
        })
        .await
    }

    /// The next changes for a follower, oldest first; some only.
    pub async fn changes(&self, follower: &str) -> Result<Vec<Change>, StoreError> {
        let follower = follower.to_owned();
        self.read(move |db| {
            let rows: Vec<(i64, String, String)> = db.all(
                "SELECT seq, kind, id FROM changes
                 WHERE seq > (SELECT seq FROM followers WHERE name = ?1) ORDER BY seq LIMIT ?2",
                params![follower, PAGE],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            rows.into_iter()
                .map(|(seq, kind, id)| Ok(Change { seq, what: what(db, &kind, id)? }))
                .collect()
        })
        .await
    }

    /// Keeps how far a follower has come. Never goes back.
    pub async fn followed(&self, follower: &str, seq: i64) -> Result<(), StoreError> {
        let follower = follower.to_owned();
        self.write(move |db| {
            let sql = "UPDATE followers SET seq = ?2 WHERE name = ?1 AND seq < ?2";
            db.execute(sql, params![follower, seq]).map(drop)
        })
        .await?;
        Ok(())
    }
}

fn what(db: &Db<'_>, kind: &str, id: String) -> Result<Option<Changed>, StoreError> {
    let pair = |id: &str| id.split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned()));
    Ok(match kind {
        "run" => Some(Changed::Run(id)),
        "alert" => {
            let seq: i64 = id.parse().map_err(|_| StoreError::Corrupt(format!("alert {id}")))?;
            super::runs::alert(db, seq)?.map(|alert| Changed::Alert(Box::new(alert)))
        }
        "car" => pair(&id).map(|(pipeline, car)| Changed::Car(pipeline, car)),
        "approval" => Some(Changed::Approval(id)),
        _ => return Err(StoreError::Corrupt(format!("a change of kind `{kind}`"))),
    })
}
