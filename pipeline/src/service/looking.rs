//! Looks at the tags of the sources now and then: GitHub delivers once, repeats nothing, and tells
//! nothing at all of more than three tags that are pushed at once.
//!
//! A tag that is new is given to the inbox as if it had been delivered, so a delivery and a look
//! make one run, and a tag that moved gets the same answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use pitlane_github::{Change, Hook, KnownTag, TagWatch, undelivered};
use pitlane_release::{ReleaseTag, RepoName};
use serde_json::json;
use tokio::sync::watch;

use super::{
    event::TagPush,
    route::Routes,
    store::{Decision, Delivery, Receipt, Store, StoredTag},
};
use crate::github::Link;

/// Pause after a look that failed, at least.
const PAUSE: Duration = Duration::from_secs(10);
/// What looks are called among the deliveries.
const EVENT: &str = "tags";
/// The duty of the one process that looks.
const DUTY: &str = "look-at-tags";
/// A replica that does not look asks this often whether it should.
const STAND_BY: Duration = Duration::from_secs(5);
/// Deliveries are asked for again when they are at least so old: before, they may be on their way.
const ON_ITS_WAY: i64 = 30;
/// Deliveries older than this are not looked at (seconds): tags tell the same.
const OLD: i64 = 24 * 3600;
/// Most deliveries that are asked for again at one look.
const AGAIN: usize = 20;

/// The looks at the tags.
#[derive(Debug)]
pub struct Watch {
    link: Arc<Link>,
    store: Store,
    routes: Routes,
    holder: String,
}

/// What is remembered of a repository between two looks.
#[derive(Debug, Default)]
struct Seen {
    list: TagWatch,
    /// None before the store was asked.
    known: Option<BTreeMap<ReleaseTag, KnownTag>>,
    /// Whose deliveries are looked at.
    hook: Option<Hook>,
    /// Deliveries that were asked for again.
    asked: BTreeSet<String>,
}

impl Watch {
    /// Looks at the tags of the link's repositories for these routes; `holder` is this process.
    pub fn new(link: Arc<Link>, store: Store, routes: Routes, holder: String) -> Self {
        Self { link, store, routes, holder }
    }

    /// Looks until the service stops; of several replicas one does.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut seen: BTreeMap<&RepoName, Seen> = BTreeMap::new();
        let hold = self.link.poll().saturating_mul(2) + Duration::from_mins(1);
        let hold = i64::try_from(hold.as_millis()).unwrap_or(i64::MAX);
        loop {
            let mut pause = STAND_BY;
            match self.store.on_duty(DUTY, &self.holder, hold).await {
                Ok(true) => pause = self.round(&mut seen, &stopping).await,
                // What was seen is old when it is this one's turn again.
                Ok(false) => seen.clear(),
                Err(error) => tracing::warn!(%error, "the tags were not looked at"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
            if *stopping.borrow() {
                drop(self.store.off_duty(DUTY, &self.holder).await);
                return;
            }
        }
    }

    /// Looks at each repository once; the pause after it.
    async fn round<'a>(
        &'a self,
        seen: &mut BTreeMap<&'a RepoName, Seen>,
        stopping: &watch::Receiver<bool>,
    ) -> Duration {
        let mut pause = self.link.poll();
        for repository in self.link.repositories() {
            if *stopping.borrow() {
                break;
            }
            let one = seen.entry(repository).or_default();
            match self.look(repository, one).await {
                Ok(0) => {}
                Ok(found) => tracing::info!(%repository, found, "tags that nobody delivered"),
                Err((wait, error)) => {
                    pause = pause.max(wait.unwrap_or(PAUSE));
                    tracing::warn!(%repository, "the tags were not looked at: {error:#}");
                }
            }
            if let Err(error) = self.ask_again(repository, one).await {
                tracing::warn!(%repository, "lost deliveries were not asked for: {error:#}");
            }
        }
        pause
    }

    /// Asks GitHub to deliver again what did not arrive: it never does so by itself.
    async fn ask_again(&self, repository: &RepoName, seen: &mut Seen) -> anyhow::Result<()> {
        let Some(address) = self.link.redeliver() else { return Ok(()) };
        let client = self.link.client();
        let hook = match (&seen.hook, address) {
            (Some(hook), _) => hook.clone(),
            (None, "app") => seen.hook.insert(Hook::App).clone(),
            (None, url) => match client.find_hook(repository, url).await? {
                Some(id) => {
                    let hook = Hook::Repository { repository: repository.clone(), id };
                    seen.hook.insert(hook).clone()
                }
                None => anyhow::bail!("the repository has no hook that calls {url}"),
            },
        };
        let now = Timestamp::now().as_second();
        let since = Timestamp::from_second(now - OLD)?;
        let deliveries = client.deliveries(&hook, since).await?;
        for event in ["push", "create", "release"] {
            for lost in undelivered(&deliveries, event).into_iter().take(AGAIN) {
                let asked = seen.asked.contains(&lost.guid);
                if asked || lost.delivered_at.as_second() > now - ON_ITS_WAY {
                    continue;
                }
                client.redeliver(&hook, lost.id).await?;
                tracing::info!(%repository, delivery = %lost.guid, event, "asked for it again");
                seen.asked.insert(lost.guid.clone());
            }
        }
        // What was asked for a day ago is not listed any more.
        seen.asked.retain(|guid| deliveries.iter().any(|one| one.guid == *guid));
        Ok(())
    }

    /// One look; how many runs it made. An error comes with the time that GitHub asks to wait.
    async fn look(
        &self,
        repository: &RepoName,
        seen: &mut Seen,
    ) -> Result<usize, (Option<Duration>, anyhow::Error)> {
        let ours = |error: super::store::StoreError| (None, error.into());
        let name = repository.as_str();
        let known = match &mut seen.known {
            Some(known) => known,
            empty => {
                let Some(tags) = self.store.tags(name).await.map_err(ours)? else {
                    self.first(repository, &mut seen.list).await?;
                    return Ok(0);
                };
                empty.insert(tags.into_iter().filter_map(known).collect())
            }
        };
        let wanted = |tag: &ReleaseTag| self.routes.find(name, tag.as_str()).is_some();
        let decision =
            self.link.client().look(repository, "", &wanted, known, &mut seen.list).await;
        let decision = decision.map_err(|error| (error.wait(), error.into()))?;
        let mut made = 0;
        for change in decision.changes {
            let receipt = self.store.deliver(self.delivery(name, &change)).await.map_err(ours)?;
            match receipt {
                Receipt::Moved { recorded, offered } => {
                    let tag = change.tag();
                    tracing::warn!(%repository, %tag, %recorded, %offered, "moved tag refused");
                    change.refuse(known);
                }
                Receipt::Accepted { run, repeat } => {
                    made += usize::from(!repeat);
                    tracing::info!(run.id = %run, repeat, tag = %change.tag(), "tag found");
                    change.take(known);
                }
                Receipt::Recorded | Receipt::Reused => change.take(known),
            }
        }
        Ok(made)
    }

    /// The first look at a repository: what is there already is old, and starts nothing.
    async fn first(
        &self,
        repository: &RepoName,
        list: &mut TagWatch,
    ) -> Result<(), (Option<Duration>, anyhow::Error)> {
        let name = repository.as_str();
        let wanted = |tag: &ReleaseTag| self.routes.find(name, tag.as_str()).is_some();
        let mut known = BTreeMap::new();
        loop {
            let look = self.link.client().look(repository, "", &wanted, &known, list).await;
            let decision = look.map_err(|error| (error.wait(), error.into()))?;
            decision.changes.into_iter().for_each(|change| change.take(&mut known));
            // A look follows some annotated tags and leaves the rest to the next one.
            if decision.open.is_empty() {
                break;
            }
        }
        let tags: Vec<TagPush> =
            known.iter().map(|(tag, now)| push(name, tag, now, false)).collect();
        tracing::info!(
            %repository,
            tags = tags.len(),
            "first look: tags that were there before are not released"
        );
        self.store.first_look(name, tags).await.map_err(|error| (None, error.into()))
    }

    /// A change as a delivery whose name is the same whoever finds it, and however often.
    fn delivery(&self, repository: &str, change: &Change) -> Delivery {
        let tag = change.tag();
        let (held, decision) = match change {
            Change::New { now, .. } | Change::Recreated { now, .. } => {
                (now.held(), self.decide(repository, tag, now, false))
            }
            Change::Moved { now, .. } => (now.held(), self.decide(repository, tag, now, true)),
            Change::Deleted { was, .. } => (
                was.held(),
                Decision::Deleted { repository: repository.to_owned(), tag: tag.to_string() },
            ),
        };
        let deleted = matches!(change, Change::Deleted { .. });
        let body =
            json!({ "repository": repository, "tag": tag, "held": held, "deleted": deleted });
        let state = if deleted { "gone" } else { "here" };
        Delivery {
            id: format!("{EVENT}-{repository}-{tag}-{held}-{state}"),
            event: EVENT.to_owned(),
            headers: "{}".to_owned(),
            body: body.to_string().into(),
            decision,
        }
    }

    fn decide(&self, repository: &str, tag: &ReleaseTag, now: &KnownTag, forced: bool) -> Decision {
        match self.routes.find(repository, tag.as_str()) {
            Some(route) => {
                Decision::Run { push: push(repository, tag, now, forced), route: route.clone() }
            }
            None => Decision::Ignored { repository: Some(repository.to_owned()) },
        }
    }
}

fn push(repository: &str, tag: &ReleaseTag, now: &KnownTag, forced: bool) -> TagPush {
    TagPush {
        repository: repository.to_owned(),
        tag: tag.to_string(),
        object: now.held().to_string(),
        commit: Some(now.commit.to_string()),
        forced,
    }
}

/// A recorded tag as a look compares it. One whose commit was never told is asked for again.
fn known(stored: StoredTag) -> Option<(ReleaseTag, KnownTag)> {
    let tag = stored.tag.parse().ok()?;
    let commit: pitlane_release::Commit = stored.commit?.parse().ok()?;
    let object = (stored.object != commit.as_str()).then(|| stored.object.parse().ok()).flatten();
    Some((tag, KnownTag { deleted: stored.deleted, ..KnownTag::new(commit, object) }))
}
