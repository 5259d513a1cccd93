//! Reports runs to GitHub: a check run for each step, one status of the commit, a deployment for
//! each environment, the release's notes. Everything is reported as it stands now, and is found
//! again where it was reported before; so a report that was lost is made up for by the next one.

mod shown;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pitlane_github::{GithubError, Outcome, Run as Reported};
use pitlane_release::{Commit, RepoName};

use super::{
    follow::{Follower, Trouble},
    store::{Changed, Placed, Run, StepOutcome, StepRecord, Store, now_ms, output},
};
use crate::{github::Link, lane::Step, steps::Ready};

/// Runs of which it is remembered what was reported.
const REMEMBERED: usize = 64;
/// A step that is under way is told of once it has taken this long (milliseconds): most are over
/// before, and each report costs requests of the hour.
const YOUNG: i64 = 2000;

/// What is reported, for whom.
#[derive(Debug)]
pub struct Reporting {
    store: Store,
    link: Arc<Link>,
    pipelines: BTreeMap<String, Arc<Ready>>,
    /// Run → what was said of it, so that it is not asked for again at every change.
    said: BTreeMap<String, BTreeSet<String>>,
    /// What GitHub refuses, and was told of.
    refused: BTreeSet<String>,
    /// Runs with a step that was too young.
    young: BTreeSet<String>,
}

impl Reporting {
    /// Reports the runs of these pipelines.
    pub fn new(store: Store, link: Arc<Link>, pipelines: BTreeMap<String, Arc<Ready>>) -> Self {
        let (said, refused, young) = <_>::default();
        Self { store, link, pipelines, said, refused, young }
    }

    async fn report(&mut self, run: &Run) -> Result<(), Trouble> {
        let Ok(repository) = run.repository.parse::<RepoName>() else { return Ok(()) };
        if !self.link.has(&repository) {
            return Ok(());
        }
        let steps = self.store.steps(&run.id).await?;
        let found = output(&steps, Step::Checkout);
        let commit = found.and_then(|found| found["commit"].as_str()).or(run.commit.as_deref());
        // Who the tag belongs to is found out by the checkout; nothing can be said before.
        let Some(commit) = commit.and_then(|text| text.parse::<Commit>().ok()) else {
            return Ok(());
        };
        let Ok(tag) = run.tag.parse() else { return Ok(()) };
        let reported = Reported {
            repository,
            commit,
            tag,
            pipeline: run.pipeline.clone(),
            id: run.id.clone(),
            attempt: steps.iter().map(|step| step.attempt).max().unwrap_or(1),
            url: self.link.run_url(&run.id),
        };
        let old = |step: &StepRecord| {
            step.outcome != StepOutcome::Running || now_ms() - step.started > YOUNG
        };
        let young = !steps.iter().all(old);
        match young {
            true => self.young.insert(run.id.clone()),
            false => self.young.remove(&run.id),
        };
        let (wanted, link) = (self.link.report(), Arc::clone(&self.link));
        let client = link.client();
        let first = !self.said.contains_key(&run.id);
        if wanted.statuses && (first || !young) {
            let state = shown::state(run, &steps);
            let mark = format!("status {} {state:?}", reported.attempt);
            self.once(run, "statuses", mark, client.report_run(&reported, &state)).await?;
        }
        if wanted.checks && client.can_write_checks() {
            for record in steps.iter().filter(|step| old(step)) {
                let step = shown::step(record);
                let reported = Reported { attempt: record.attempt, ..reported.clone() };
                let mark = format!("check {} {step:?}", record.attempt);
                self.once(run, "checks", mark, client.report_step(&reported, &step)).await?;
            }
        }
        let Some(ready) = self.pipelines.get(&run.pipeline).cloned() else { return Ok(()) };
        if wanted.deployments {
            for place in self.store.places(&run.id).await? {
                let confirmed = self.confirmed(&place, &steps).await?;
                let Some(deployment) = shown::deployment(&place, &steps, confirmed) else {
                    continue;
                };
                let mark = format!("deployment {deployment:?}");
                let report = client.report_deployment(&reported, &deployment);
                self.once(run, "deployments", mark, report).await?;
            }
        }
        if wanted.releases
            && let Some(notes) = shown::notes(run, &steps, &ready)
        {
            let mark = "release".to_owned();
            self.once(run, "releases", mark, client.report_release(&reported, &notes)).await?;
        }
        Ok(())
    }

    /// How many cars of an environment have confirmed a release.
    async fn confirmed(&self, place: &Placed, steps: &[StepRecord]) -> Result<usize, Trouble> {
        let Some(image) = shown::image(steps) else { return Ok(0) };
        let digest = image.digest.to_string();
        let cars = self.store.confirmed_by(&place.pipeline, &place.environment, &digest).await?;
        Ok(cars.len())
    }

    /// Makes a report unless this was said already. What GitHub refuses is told once and does not
    /// hold up the rest.
    async fn once(
        &mut self,
        run: &Run,
        kind: &str,
        mark: String,
        report: impl Future<Output = Result<Outcome, GithubError>>,
    ) -> Result<(), Trouble> {
        let said = self.said.entry(run.id.clone()).or_default();
        if said.contains(&mark) {
            return Ok(());
        }
        match report.await {
            Ok(_) => {
                said.insert(mark);
            }
            Err(error) if error.may_pass() => {
                let trouble = match error.wait() {
                    Some(wait) => Trouble { error: error.into(), again: Some(wait) },
                    None => Trouble::passes(error),
                };
                return Err(trouble);
            }
            Err(error) => {
                said.insert(mark);
                if self.refused.insert(format!("{} {kind}", run.repository)) {
                    tracing::warn!(run.id = %run.id, "{kind} not reported to GitHub: {error}");
                } else {
                    tracing::debug!(run.id = %run.id, "{kind} not reported to GitHub: {error}");
                }
            }
        }
        Ok(())
    }
}

impl Follower for Reporting {
    const NAME: &'static str = "github";

    async fn idle(&mut self) -> Result<(), Trouble> {
        for id in std::mem::take(&mut self.young) {
            let run = self.store.run(&id).await?;
            self.report(&run).await?;
        }
        Ok(())
    }

    async fn see(&mut self, what: &Changed) -> Result<(), Trouble> {
        while self.said.len() > REMEMBERED {
            self.said.pop_first();
        }
        match what {
            Changed::Run(id) => {
                let run = self.store.run(id).await?;
                self.report(&run).await
            }
            // A car's word changes how a deployment stands; which run it is about, its image says.
            Changed::Car(pipeline, car) => {
                let cars = self.store.cars(Some((pipeline.clone(), car.clone()))).await?;
                let counter = cars.first().and_then(|car| car.status.counter);
                let done = self.store.newest_done(pipeline, 16).await?;
                match done.iter().find(|run| Some(run.counter) == counter) {
                    Some(run) => self.report(run).await,
                    None => Ok(()),
                }
            }
            Changed::Alert(_) | Changed::Approval(_) => Ok(()),
        }
    }
}
