//! Takes releases on through the environments when something lets them: the release itself, a
//! car's confirmation, a person's approval, a merged pull request. What is decided, and how files
//! are changed, is `pitlane-gitops`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use pitlane_gitops::{Approved, Candidate, Confirmed, Evidence, Progress, PromoteError, Promoter};
use pitlane_release::{CarKind, Digest, statement::Release};
use serde_json::{Value, json};

use super::{
    follow::{Follower, Trouble},
    store::{self, Changed, Placed, Run, RunState, StepRecord, Store, StoreError, now_ms, output},
};
use crate::{attest, forge::Forges, github::Link, lane::Step, prove::Proof, steps::Ready};

/// Releases that are looked at: older ones are overtaken.
const CANDIDATES: u32 = 16;
/// How often a pipeline whose releases wait for people in git is looked at again.
const LOOK: Duration = Duration::from_mins(1);

/// Takes releases on.
#[derive(Debug)]
pub struct Advancing {
    store: Store,
    pipelines: BTreeMap<String, Arc<Ready>>,
    link: Option<Arc<Link>>,
    /// Where copies of repositories are made.
    dir: PathBuf,
    /// Pipelines in which something waits.
    waiting: BTreeSet<String>,
    looked: Instant,
}

impl Advancing {
    /// For these pipelines; `dir` is for short-lived copies.
    pub fn new(
        store: Store,
        pipelines: BTreeMap<String, Arc<Ready>>,
        link: Option<Arc<Link>>,
        dir: PathBuf,
    ) -> Self {
        let looked = Instant::now();
        Self { store, pipelines, link, dir, waiting: BTreeSet::new(), looked }
    }

    async fn advance(&mut self, pipeline: &str) -> Result<(), Trouble> {
        let Some(ready) = self.pipelines.get(pipeline).cloned() else { return Ok(()) };
        let Some(config) = &ready.pipeline.spec.promote else { return Ok(()) };
        if !config.has_environments() {
            return Ok(());
        }
        // Until it is known that nothing waits: what fails now is looked at again.
        self.waiting.insert(pipeline.to_owned());
        let mut candidates = Vec::new();
        for run in self.store.newest_done(pipeline, CANDIDATES).await? {
            let steps = self.store.steps(&run.id).await?;
            candidates.extend(candidate(&run, &steps, &ready));
        }
        let evidence = Said { store: &self.store, pipeline };
        std::fs::create_dir_all(&self.dir).map_err(Trouble::passes)?;
        let forge = self.link.as_deref().map_or(Forges::Plain, |link| link.forge(&config.url));
        let promoter = Promoter { config, forge: &forge, dir: &self.dir };
        let advanced = promoter.advance(&candidates, &evidence).await;
        let progress = advanced.map_err(|error: PromoteError| match error.may_pass() {
            true => Trouble::passes(error),
            false => Trouble::stays(error),
        })?;
        let waits = progress.iter().any(|one| one.waits.is_some() || one.error.is_some());
        if !waits && !progress.iter().any(proposed) {
            self.waiting.remove(pipeline);
        }
        for one in progress {
            self.place(pipeline, &candidates, &one).await?;
        }
        Ok(())
    }

    /// Keeps how a release stands.
    async fn place(
        &self,
        pipeline: &str,
        candidates: &[Candidate],
        progress: &Progress,
    ) -> Result<(), Trouble> {
        let Some(counter) = progress.counter else { return Ok(()) };
        let Some(of) = candidates.iter().find(|one| one.counter == counter) else { return Ok(()) };
        let placed = Placed {
            pipeline: pipeline.to_owned(),
            environment: progress.environment.to_string(),
            counter: counter.get(),
            run: of.run.clone(),
            progress: shown(progress).map_err(Trouble::stays)?,
            time: now_ms(),
        };
        let environment = placed.environment.clone();
        if self.store.placed(placed).await? {
            tracing::info!(pipeline, environment, counter = counter.get(), "{}", word(progress));
        }
        Ok(())
    }

    /// A pipeline without environments has one place, which its run's step has written.
    async fn only_place(&self, run: &Run) -> Result<(), Trouble> {
        let Some(ready) = self.pipelines.get(&run.pipeline) else { return Ok(()) };
        let config = ready.pipeline.spec.promote.as_ref();
        if config.is_none_or(pitlane_gitops::Promote::has_environments) {
            return Ok(());
        }
        let steps = self.store.steps(&run.id).await?;
        let Some(output) = output(&steps, Step::Promote) else { return Ok(()) };
        let Some(progress) = output["environments"].as_array().and_then(|all| all.first()) else {
            return Ok(());
        };
        let placed = Placed {
            pipeline: run.pipeline.clone(),
            environment: progress["environment"].as_str().unwrap_or_default().to_owned(),
            counter: run.counter,
            run: run.id.clone(),
            progress: progress.clone(),
            time: now_ms(),
        };
        self.store.placed(placed).await?;
        Ok(())
    }
}

fn proposed(progress: &Progress) -> bool {
    let outcome = progress.promotion.as_ref().map(|promotion| &promotion.outcome);
    matches!(outcome, Some(pitlane_gitops::Outcome::Proposed { .. }))
}

/// Progress as it is kept: without the figure that differs from try to try. A promotion that was
/// made before is found again as one, so a repeated look is no news.
fn shown(progress: &Progress) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(progress)?;
    if let Some(made) = value.get_mut("promotion").and_then(Value::as_object_mut) {
        made.insert("commands".into(), json!(0));
    }
    Ok(value)
}

fn word(progress: &Progress) -> &'static str {
    match progress {
        Progress { error: Some(_), .. } => "could not be promoted",
        Progress { held: Some(_), .. } => "held",
        Progress { waits: Some(_), .. } => "waits",
        _ => "promoted",
    }
}

/// The release of a finished run.
fn candidate(run: &Run, steps: &[StepRecord], ready: &Ready) -> Option<Candidate> {
    let signed = output(steps, Step::Sign)?;
    let release: Release = serde_json::from_value(signed["release"].clone()).ok()?;
    let mut candidate = Candidate::of(&release, ready.pusher.repository(), &run.id);
    let proof = output(steps, Step::Prove).cloned();
    let proof: Option<Proof> = proof.and_then(|proof| serde_json::from_value(proof).ok());
    candidate.drives = proof.and_then(|proof| attest::drives(&proof).ok()).unwrap_or_default();
    Some(candidate)
}

/// What cars and people said, out of the store.
struct Said<'a> {
    store: &'a Store,
    pipeline: &'a str,
}

impl Evidence for Said<'_> {
    async fn confirmed(&self, of: &CarKind, digest: &Digest) -> Result<Vec<Confirmed>, String> {
        let found = self.store.confirmed_by(self.pipeline, of.as_str(), &digest.to_string()).await;
        let cars = found.map_err(|error: StoreError| error.to_string())?;
        let by = |by| Confirmed { environment: of.clone(), digest: *digest, by };
        Ok(cars.into_iter().map(by).collect())
    }

    async fn approved(&self, of: &CarKind) -> Result<Vec<Approved>, String> {
        let found = self.store.approvals(self.pipeline, of.as_str()).await;
        let words = found.map_err(|error: StoreError| error.to_string())?;
        let parse = |word: store::Approved| {
            let digest = word.digest.parse().ok()?;
            let counter = pitlane_release::Counter::new(word.counter)?;
            Some(Approved { environment: of.clone(), digest, counter, by: word.by })
        };
        Ok(words.into_iter().filter_map(parse).collect())
    }
}

impl Follower for Advancing {
    const NAME: &'static str = "environments";

    async fn begin(&mut self) -> Result<(), Trouble> {
        // What waited under another process waits still.
        self.waiting = self.pipelines.keys().cloned().collect();
        Ok(())
    }

    async fn see(&mut self, what: &Changed) -> Result<(), Trouble> {
        match what {
            Changed::Run(id) => {
                let run = self.store.run(id).await?;
                if run.state != RunState::Done {
                    return Ok(());
                }
                self.only_place(&run).await?;
                // How it stands is kept with the run, and that is a change, too: not again then.
                let places = self.store.places(id).await?;
                if places.is_empty() { self.advance(&run.pipeline).await } else { Ok(()) }
            }
            Changed::Car(pipeline, _) | Changed::Approval(pipeline) => self.advance(pipeline).await,
            Changed::Alert(_) => Ok(()),
        }
    }

    async fn idle(&mut self) -> Result<(), Trouble> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        for pipeline in self.waiting.clone() {
            self.advance(&pipeline).await?;
        }
        Ok(())
    }
}
