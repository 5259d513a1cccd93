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
/// Old rows go this many at a time.
const ROUND: i64 = 64;
/// Numbers of rows may have gaps: so many are looked at.
const LOOKED_AT: i64 = 2 * ROUND;
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
    let known = Known::of(db, delivery)?;
    if let Some(Before { digest: known, run, .. }) = &known.before {
        if known != digest {
            return Ok(Receipt::Reused);
        }
        if let Some(run) = run {
            return Ok(Receipt::Accepted { run: run.clone(), repeat: true });
        }
        // Refused or ignored before: judged anew, for the list may have changed since.
    }
    let now = now_ms();
    let before = known.before.as_ref().map(|before| before.seq);
    let (receipt, repository, tag) = match &delivery.decision {
        Decision::Run { push, route } => {
            let receipt = pushed(db, push, route, known, now)?;
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
    if let Some(seq) = before {
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
    let newest: Option<i64> = db.first_of_all(
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

/// New rows push old ones out: the store's size is bounded without a sweep.
fn forget(db: &Db<'_>, newest: i64) -> Result<(), StoreError> {
    if newest % ROUND != 0 {
        return Ok(());
    }
    let (bare, gone) = (newest - KEPT_BODIES, newest - KEPT_ROWS);
    db.execute(
        "UPDATE deliveries SET body = NULL, headers = NULL
         WHERE seq > ?1 AND seq <= ?2 AND headers IS NOT NULL",
        params![bare - LOOKED_AT, bare],
    )?;
    db.execute(
        "DELETE FROM deliveries WHERE seq > ?1 AND seq <= ?2",
        params![gone - LOOKED_AT, gone],
    )?;
    Ok(())
}

/// What is known of a delivery and of what it is about.
#[derive(Default)]
struct Known {
    /// The delivery of the same id.
    before: Option<Before>,
    /// Where its tag is recorded.
    recorded: Option<Target>,
    /// The runs that were made for its tag.
    runs: Vec<(String, Target)>,
    /// What a new run gets.
    next: Next,
}

struct Before {
    seq: i64,
    digest: Vec<u8>,
    run: Option<String>,
}

impl Known {
    /// In one question: each takes its way to a server and back.
    fn of(db: &Db<'_>, delivery: &Delivery) -> Result<Self, StoreError> {
        let about = match &delivery.decision {
            Decision::Run { push, route } => Some((&route.repository, &push.tag, &route.car_kind)),
            Decision::Deleted { .. } | Decision::Ignored { .. } => None,
        };
        let (repository, tag) = (about.map(|about| about.0), about.map(|about| about.1));
        let target =
            |commit, object: Option<String>| object.map(|object| Target { commit, object });
        let mut known = Self::default();
        db.all(
            "SELECT deliveries.seq, deliveries.digest, deliveries.run, tags.commit_id, tags.object,
               runs.id, runs.commit_id, runs.object,
               (SELECT max(seq) FROM runs),
               (SELECT value FROM counters WHERE source = ?2 AND kind = ?4)
             FROM (SELECT 1) AS one
             LEFT JOIN deliveries ON deliveries.id = ?1
             LEFT JOIN tags ON tags.repository = ?2 AND tags.tag = ?3
             LEFT JOIN runs ON runs.repository = ?2 AND runs.tag = ?3 AND runs.rollback = 0",
            params![delivery.id, repository, tag, about.map(|about| about.2)],
            |row| {
                if let Some(seq) = row.get(0)? {
                    known.before = Some(Before { seq, digest: row.get(1)?, run: row.get(2)? });
                }
                known.recorded = target(row.get(3)?, row.get(4)?);
                let made_for = target(row.get(6)?, row.get(7)?);
                known.runs.extend(row.get::<Option<String>>(5)?.zip(made_for));
                known.next = Next::after(row.get(8)?, row.get(9)?);
                Ok(())
            },
        )?;
        Ok(known)
    }
}

fn pushed(
    db: &Db<'_>,
    push: &TagPush,
    route: &Route,
    known: Known,
    now: i64,
) -> Result<Receipt, StoreError> {
    let offered = Target::of(push);
    let repository = &route.repository;
    let Known { recorded, runs, next, .. } = known;
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
    db.later(
        "INSERT INTO tags (repository, tag, commit_id, object, first_seen)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (repository, tag) DO UPDATE SET
               commit_id = CASE WHEN tags.object = excluded.object
                 THEN coalesce(excluded.commit_id, tags.commit_id) ELSE excluded.commit_id END,
               object = excluded.object, deleted = NULL",
        params![repository, push.tag, offered.commit, offered.object, now],
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
    let run = new.queue_as(db, next, now)?;
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

/// The numbers of the next run. Nobody else takes them before the transaction ends.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    seq: i64,
    counter: i64,
}

impl Next {
    /// After the last run of all, and the last counter of a source and kind.
    fn after(seq: Option<i64>, counter: Option<i64>) -> Self {
        let next = |last: Option<i64>| last.unwrap_or(0).saturating_add(1);
        Self { seq: next(seq), counter: next(counter) }
    }
}

impl NewRun<'_> {
    /// Queues it under the next counter; its id.
    pub(super) fn queue(&self, db: &Db<'_>, now: i64) -> Result<String, StoreError> {
        let next = db.first(
            "SELECT (SELECT max(seq) FROM runs),
               (SELECT value FROM counters WHERE source = ?1 AND kind = ?2)",
            params![self.repository, self.kind],
            |row| Ok(Next::after(row.get(0)?, row.get(1)?)),
        )?;
        self.queue_as(db, next.unwrap_or_default(), now)
    }

    fn queue_as(&self, db: &Db<'_>, next: Next, now: i64) -> Result<String, StoreError> {
        counters::take(db, self.repository, self.kind, next.counter)?;
        let local = self.local.map(super::journal::json).transpose()?;
        // The random part tells runs of different stores apart in logs and provenance.
        let id = format!("r{}-{:08x}", next.seq, OsRng.next_u32());
        db.later(
            "INSERT INTO runs (seq, id, state, repository, tag, commit_id, object, pipeline, kind,
               counter, rollback, created, updated, local)
             VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12)",
            params![
                next.seq,
                id,
                self.repository,
                self.tag,
                self.commit,
                self.object,
                self.pipeline,
                self.kind,
                next.counter,
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
