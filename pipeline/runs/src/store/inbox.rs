//! The inbox: a delivery, its tag, its counter and its run, in one transaction.
//!
//! Two things make a delivery a repeat: its id (a redelivery) and its content (repository, tag,
//! commit). Either way there is one run. A tag keeps the first commit it was seen with, unless
//! its route allows moves.

use rand_core::{OsRng, RngCore as _};
use sha2::{Digest as _, Sha256};

use super::{Db, Store, StoreError, counters, db::params, now_ms};
use crate::{
    lane::{LocalModel, StepError},
    push::TagPush,
    route::Route,
};

/// Raw bodies and headers are kept for this many of the newest deliveries ...
const KEPT_BODIES: i64 = 2_000;
/// ... where they are not larger than this: 256 MiB in all at worst, 15 MB usually.
const KEPT_BODY: usize = 128 * 1024;
/// Rows (about 200 bytes each) are kept for this many: far beyond what a sender redelivers.
const KEPT_ROWS: i64 = 200_000;
/// Alerts kept.
const KEPT_ALERTS: i64 = 10_000;

/// A signed delivery, and what it was found to mean.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// `X-GitHub-Delivery`; the same for every redelivery.
    pub id: String,
    /// `X-GitHub-Event`.
    pub event: String,
    /// The headers worth keeping, as JSON.
    pub headers: String,
    /// The raw body.
    pub body: bytes::Bytes,
    /// What to do.
    pub decision: Decision,
}

/// What a delivery asks for.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Run the route's pipeline for this tag.
    Run {
        /// The tag.
        push: TagPush,
        /// Its route; `repository` there is the name that is recorded.
        route: Route,
    },
    /// The tag is gone.
    Deleted {
        /// `owner/name` as on the list.
        repository: String,
        /// Short name.
        tag: String,
    },
    /// Nothing.
    Ignored {
        /// `owner/name`, where known.
        repository: Option<String>,
    },
}

/// What came of it; on disk when the caller has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// There is a run.
    Accepted {
        /// Its id.
        run: String,
        /// Whether an earlier delivery had made it.
        repeat: bool,
    },
    /// The tag names another commit than the one recorded: no run, and an alert.
    Moved {
        /// The commit (or tag object) that is recorded.
        recorded: String,
        /// The one that was offered.
        offered: String,
    },
    /// Recorded, nothing to run.
    Recorded,
    /// The delivery id was used before, for another body.
    Reused,
}

struct Target {
    commit: Option<String>,
    object: String,
}

impl Target {
    fn of(push: &TagPush) -> Self {
        Self { commit: push.commit.clone(), object: push.object.clone() }
    }

    /// The same commit, however the tag object changed; where a commit is unknown the object
    /// must be the same.
    fn same(&self, other: &Self) -> bool {
        self.object == other.object || (self.commit.is_some() && self.commit == other.commit)
    }

    fn shown(&self) -> String {
        self.commit.clone().unwrap_or_else(|| self.object.clone())
    }
}

impl Store {
    /// Records a delivery and makes its run, if it asks for one. Durable when this returns.
    pub async fn deliver(&self, delivery: Delivery) -> Result<Receipt, StoreError> {
        let digest = Sha256::digest(&delivery.body).to_vec();
        let receipt = self.write(move |db| deliver(db, &delivery, &digest)).await?;
        if matches!(receipt, Receipt::Accepted { repeat: false, .. }) {
            self.wake();
        }
        Ok(receipt)
    }
}

fn deliver(db: &Db<'_>, delivery: &Delivery, digest: &[u8]) -> Result<Receipt, StoreError> {
    let before: Option<(i64, Vec<u8>, Option<String>)> = db.first(
        "SELECT seq, digest, run FROM deliveries WHERE id = ?1",
        params![delivery.id],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    if let Some((_, known, run)) = &before {
        if known != digest {
            return Ok(Receipt::Reused);
        }
        if let Some(run) = run {
            return Ok(Receipt::Accepted { run: run.clone(), repeat: true });
        }
        // Refused or ignored before: judged anew, for the list may have changed since.
    }
    let now = now_ms();
    let (receipt, repository, tag) = match &delivery.decision {
        Decision::Run { push, route } => {
            let receipt = pushed(db, push, route, now)?;
            (receipt, Some(route.repository.as_str()), Some(push.tag.as_str()))
        }
        Decision::Deleted { repository, tag } => {
            db.execute(
                "UPDATE tags SET deleted = ?3 WHERE repository = ?1 AND tag = ?2",
                params![repository, tag, now],
            )?;
            (Receipt::Recorded, Some(repository.as_str()), Some(tag.as_str()))
        }
        Decision::Ignored { repository } => (Receipt::Recorded, repository.as_deref(), None),
    };
    let (outcome, run) = match &receipt {
        Receipt::Accepted { run, repeat: false } => ("accepted", Some(run)),
        Receipt::Accepted { run, repeat: true } => ("repeat", Some(run)),
        Receipt::Moved { .. } => ("refused", None),
        Receipt::Recorded if tag.is_some() => ("deleted", None),
        Receipt::Recorded | Receipt::Reused => ("ignored", None),
    };
    if let Some((seq, ..)) = before {
        db.execute(
            "UPDATE deliveries SET outcome = ?2, run = ?3 WHERE seq = ?1",
            params![seq, outcome, run],
        )?;
        return Ok(receipt);
    }
    // A repeat's body says nothing new, and an ignored one nothing at all.
    let keep = !matches!(outcome, "repeat" | "ignored") && delivery.body.len() <= KEPT_BODY;
    let body = keep.then_some(&delivery.body[..]);
    let headers = keep.then_some(&delivery.headers);
    let newest: Option<i64> = db.first(
        "INSERT INTO deliveries
           (id, received, event, repository, tag, outcome, run, digest, headers, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) RETURNING seq",
        params![
            delivery.id,
            now,
            delivery.event,
            repository,
            tag,
            outcome,
            run,
            digest,
            headers,
            body
        ],
        |row| row.get(0),
    )?;
    forget(db, newest.unwrap_or(0))?;
    Ok(receipt)
}

/// Each new row pushes one out: the store's size is bounded without a sweep.
fn forget(db: &Db<'_>, newest: i64) -> Result<(), StoreError> {
    db.execute(
        "UPDATE deliveries SET body = NULL, headers = NULL WHERE seq = ?1",
        params![newest - KEPT_BODIES],
    )?;
    db.execute("DELETE FROM deliveries WHERE seq = ?1", params![newest - KEPT_ROWS])?;
    Ok(())
}

fn pushed(db: &Db<'_>, push: &TagPush, route: &Route, now: i64) -> Result<Receipt, StoreError> {
    let offered = Target::of(push);
    let repository = &route.repository;
    let recorded = db.first(
        "SELECT commit_id, object FROM tags WHERE repository = ?1 AND tag = ?2",
        params![repository, push.tag],
        |row| Ok(Target { commit: row.get(0)?, object: row.get(1)? }),
    )?;
    let shown = offered.shown();
    let about = (repository.as_str(), push.tag.as_str(), shown.as_str());
    match recorded {
        Some(recorded) if !recorded.same(&offered) && !route.allow_moved_tags => {
            let recorded = recorded.shown();
            let message = format!("moved from {recorded} to {shown}: no run was started");
            alert(db, "tag-moved", about, &message, now)?;
            return Ok(Receipt::Moved { recorded, offered: shown });
        }
        None if push.forced && !route.allow_moved_tags => {
            let message =
                format!("moved to {shown} before a delivery of it was seen; recorded there");
            alert(db, "tag-moved-before", about, &message, now)?;
        }
        Some(_) | None => {}
    }
    db.execute(
        "INSERT INTO tags (repository, tag, commit_id, object, first_seen)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (repository, tag) DO UPDATE SET
               commit_id = CASE WHEN tags.object = excluded.object
                 THEN coalesce(excluded.commit_id, tags.commit_id) ELSE excluded.commit_id END,
               object = excluded.object, deleted = NULL",
        params![repository, push.tag, offered.commit, offered.object, now],
    )?;
    let runs = db.all(
        "SELECT id, commit_id, object FROM runs
         WHERE repository = ?1 AND tag = ?2 AND rollback = 0",
        params![repository, push.tag],
        |row| Ok((row.get::<String>(0)?, Target { commit: row.get(1)?, object: row.get(2)? })),
    )?;
    if let Some((run, _)) = runs.into_iter().find(|(_, target)| target.same(&offered)) {
        return Ok(Receipt::Accepted { run, repeat: true });
    }
    let new = NewRun {
        repository,
        tag: &push.tag,
        commit: offered.commit.as_deref(),
        object: &offered.object,
        pipeline: &route.pipeline,
        kind: &route.car_kind,
        rollback: false,
        local: None,
    };
    let run = new.queue(db, now)?;
    if route.supersede {
        supersede(db, route, &run, now)?;
    }
    Ok(Receipt::Accepted { run, repeat: false })
}

/// Ends the runs of the same source and kind that still wait.
fn supersede(db: &Db<'_>, route: &Route, by: &str, now: i64) -> Result<(), StoreError> {
    let why = format!("run {by} of a newer tag takes its place");
    let error =
        StepError::new("superseded", why, "push a new tag to release this commit after all");
    db.execute(
        "UPDATE runs SET state = 'superseded', updated = ?4, failed_step = 'checkout', error = ?5
         WHERE repository = ?1 AND kind = ?2 AND id <> ?3 AND state = 'queued' AND rollback = 0",
        params![route.repository, route.car_kind, by, now, super::journal::json(&error)?],
    )?;
    Ok(())
}

/// What a run is made of.
pub(super) struct NewRun<'a> {
    pub(super) repository: &'a str,
    pub(super) tag: &'a str,
    pub(super) commit: Option<&'a str>,
    pub(super) object: &'a str,
    pub(super) pipeline: &'a str,
    pub(super) kind: &'a str,
    pub(super) rollback: bool,
    pub(super) local: Option<&'a LocalModel>,
}

impl NewRun<'_> {
    /// Queues it under the next counter; its id.
    pub(super) fn queue(&self, db: &Db<'_>, now: i64) -> Result<String, StoreError> {
        let counter = counters::next(db, self.repository, self.kind)?;
        let counter = i64::try_from(counter.get()).expect("a counter is below 2^53");
        let local = self.local.map(super::journal::json).transpose()?;
        let seq: Option<i64> =
            db.first("SELECT coalesce(max(seq), 0) + 1 FROM runs", &[], |row| row.get(0))?;
        let seq = seq.unwrap_or(1);
        // The random part tells runs of different stores apart in logs and provenance.
        let id = format!("r{seq}-{:08x}", OsRng.next_u32());
        db.execute(
            "INSERT INTO runs (seq, id, state, repository, tag, commit_id, object, pipeline, kind,
               counter, rollback, created, updated, local)
             VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12)",
            params![
                seq,
                id,
                self.repository,
                self.tag,
                self.commit,
                self.object,
                self.pipeline,
                self.kind,
                counter,
                self.rollback,
                now,
                local
            ],
        )?;
        Ok(id)
    }
}

/// `about` is (repository, tag, commit): one alert, however often it comes.
fn alert(
    db: &Db<'_>,
    code: &str,
    about: (&str, &str, &str),
    message: &str,
    now: i64,
) -> Result<(), StoreError> {
    let (repository, tag, detail) = about;
    db.execute(
        "INSERT INTO alerts (code, repository, tag, detail, message, first_seen, last_seen)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
         ON CONFLICT (code, repository, tag, detail)
         DO UPDATE SET times = alerts.times + 1, last_seen = excluded.last_seen",
        params![code, repository, tag, detail, message, now],
    )?;
    db.execute(
        "DELETE FROM alerts WHERE seq <= (SELECT max(seq) FROM alerts) - ?1",
        params![KEPT_ALERTS],
    )?;
    Ok(())
}
