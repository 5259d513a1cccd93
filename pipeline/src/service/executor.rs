//! Takes queued runs in order, one at a time per pipeline, and executes their steps.
//!
//! What is finished is in the journal before the next step begins; a process that is killed
//! leaves a run that the next one continues there. A step that panics or runs out of time failed.
//! While a step is at work its lease is renewed; who loses it, or hears that the run's end was
//! asked for, stops the step.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::Instrument as _;

use super::{
    store::{Claim, Lease, Store, StoreError},
    traces,
};
use crate::lane::{Job, Lane, Outputs, Step, StepError};

/// Looks for work this often without being woken: a safety net, not the way work arrives.
const POLL: Duration = Duration::from_secs(5);
/// A step's output in the journal: digests and a few figures, not files.
const MAX_OUTPUT: usize = 1024 * 1024;
/// A step that ran out of time gets this long to end before its run goes on without it.
const ABORT_TIME: Duration = Duration::from_secs(5);
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often a lease is renewed: a third of its time, so that two tries may fail.
const RENEW: Duration = Duration::from_secs(10);
/// When there was nothing to do, news of a queued run is looked at this long after that at the
/// earliest: many deliveries at once are one look.
const AGAIN: Duration = Duration::from_millis(100);
/// Where other processes queue runs, too, work is looked for this often.
const POLL_SHARED: Duration = Duration::from_millis(500);

/// How steps are run.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// Time for one attempt of a step.
    pub step_timeout: fn(Step) -> Duration,
    /// Attempts of a step whose error is retryable.
    pub attempts: u32,
    /// Pause before the second attempt; each further one doubles it.
    pub backoff: Duration,
    /// Runs (of different pipelines) at once.
    pub concurrent: usize,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            // Laps are driven in real time at worst; the others move at most a few GB.
            step_timeout: |step| match step {
                Step::Prove | Step::Model => Duration::from_hours(1),
                // Builds of a Dockerfile have a limit of their own, one for each platform.
                Step::Assemble => Duration::from_hours(7),
                _ => Duration::from_mins(10),
            },
            attempts: 3,
            backoff: Duration::from_secs(2),
            concurrent: 2,
        }
    }
}

/// A running executor; `drain` ends it.
#[derive(Debug)]
pub struct Executor {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Executor {
    /// Adopts what the last process left unfinished, then executes until drained.
    pub async fn start(
        store: Store,
        lane: Arc<dyn Lane>,
        config: ExecutorConfig,
    ) -> Result<Self, StoreError> {
        let adopted = store.adopt().await?;
        if adopted > 0 {
            tracing::info!(runs = adopted, "going on with unfinished runs");
        }
        let (stop, stopping) = watch::channel(false);
        let holder = holder();
        let worker = Worker { store, lane, config, stopping, holder };
        Ok(Self { stop, task: tokio::spawn(worker.work()) })
    }

    /// Takes no more runs and lets each end its current step, `within` at most. Returns whether
    /// all came to rest; what did not is continued by the next process, from that step's start.
    pub async fn drain(mut self, within: Duration) -> bool {
        self.stop.send_replace(true);
        let rested = timeout(within, &mut self.task).await.is_ok();
        if !rested {
            // Its JoinSet goes with it, and that aborts the runs.
            self.task.abort();
            drop(self.task.await);
        }
        rested
    }
}

enum Attempted {
    Finished(Value),
    Failed,
    Stopped,
}

#[derive(Clone)]
struct Worker {
    store: Store,
    lane: Arc<dyn Lane>,
    config: ExecutorConfig,
    stopping: watch::Receiver<bool>,
    holder: String,
}

/// This process, for people.
pub fn holder() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}-{}", host.unwrap_or_default(), std::process::id())
}

impl Worker {
    async fn work(mut self) {
        let mut runs = JoinSet::new();
        let poll = if self.store.is_shared() { POLL_SHARED } else { POLL };
        let mut idle: Option<Instant> = None;
        while !*self.stopping.borrow() {
            if let Some(idle) = idle.take() {
                sleep(AGAIN.saturating_sub(idle.elapsed())).await;
            }
            while runs.len() < self.config.concurrent.max(1) {
                match self.store.claim(&self.holder).await {
                    Ok(Some(claim)) => {
                        let worker = self.clone();
                        let span = traces::run(&claim.run);
                        runs.spawn(async move { worker.run(claim).await }.instrument(span));
                    }
                    Ok(None) => {
                        idle = Some(Instant::now());
                        break;
                    }
                    Err(error) => {
                        tracing::error!(%error, "no run could be claimed");
                        sleep(STORE_PAUSE).await;
                        break;
                    }
                }
            }
            let store = self.store.clone();
            tokio::select! {
                () = store.wait_queued() => {}
                Some(_) = runs.join_next() => {}
                () = sleep(poll) => {}
                _ = self.stopping.wait_for(|stop| *stop) => {}
            }
        }
        while runs.join_next().await.is_some() {}
    }

    async fn run(self, claim: Claim) {
        let lease = claim.lease.clone();
        let mut outcome = tokio::select! {
            outcome = self.steps(claim) => outcome,
            // The step's task ends with the future that waits for it.
            ended = self.held(&lease) => match ended {
                Ok(()) => {
                    tracing::info!(run.id = lease.run(), "run cancelled");
                    self.store.cancelled(&lease).await
                }
                Err(error) => Err(error),
            },
        };
        // A journal that cannot be written (a full disk) must not hold the pipeline for ever: the
        // run goes back to the queue as soon as that can be written, and does its step again.
        loop {
            match outcome {
                Ok(()) => return,
                Err(error @ StoreError::StaleLease { .. }) => {
                    tracing::warn!(run.id = lease.run(), %error, "run ended or was taken over");
                    return;
                }
                Err(error) => {
                    tracing::error!(run.id = lease.run(), %error, "journal write failed");
                }
            }
            self.pause(STORE_PAUSE).await;
            if *self.stopping.borrow() {
                // It stays `running` in the store; the next process adopts it.
                return;
            }
            outcome = self.store.release(&lease).await;
        }
    }

    /// Renews the lease until it is lost, or until the run's end is asked for.
    async fn held(&self, lease: &Lease) -> Result<(), StoreError> {
        loop {
            tokio::select! {
                () = sleep(RENEW) => {}
                () = self.store.wait_end() => {}
            }
            match self.store.renew(lease).await {
                Ok(false) => {}
                Ok(true) => return Ok(()),
                Err(error @ StoreError::StaleLease { .. }) => return Err(error),
                // The journal's own writes tell whether the store is back in time.
                Err(error) => tracing::warn!(run.id = lease.run(), %error, "lease not renewed"),
            }
        }
    }

    async fn steps(&self, claim: Claim) -> Result<(), StoreError> {
        let Claim { run, lease, done } = &claim;
        let (lease, job, mut done) = (lease.clone(), Arc::new(run.job()), done.clone());
        let mut next = claim.next();
        if let Some(first) = self.lane.lost(&job, &done).filter(|first| next > Some(*first)) {
            tracing::info!(run.id = %job.run, step = first.name(), "begun elsewhere: done again");
            self.store.rewind(&lease, first).await?;
            done.retain(|step, _| *step < first);
            next = Some(first);
        }
        while let Some(step) = next {
            if *self.stopping.borrow() {
                return self.store.release(&lease).await;
            }
            let output = match self.attempts(&lease, &job, step, &done).await? {
                Attempted::Finished(output) => output,
                Attempted::Failed => return Ok(()),
                Attempted::Stopped => return self.store.release(&lease).await,
            };
            next = Step::ALL.into_iter().find(|other| *other > step && !done.contains_key(other));
            self.store.advance(&lease, step, &output, next).await?;
            done.insert(step, output);
        }
        tracing::info!(run.id = %job.run, counter = job.counter, "run done");
        Ok(())
    }

    /// One step with its retries; a failed run is in the journal when this returns.
    async fn attempts(
        &self,
        lease: &Lease,
        job: &Arc<Job>,
        step: Step,
        done: &Outputs,
    ) -> Result<Attempted, StoreError> {
        let mut pause = self.config.backoff;
        let mut attempt = 1;
        loop {
            let began = Instant::now();
            let span = traces::step(job, step, attempt);
            let outcome = self.once(job, step, done).instrument(span.clone()).await;
            traces::ended(&span, &outcome);
            drop(span);
            let error = match outcome {
                Ok(output) => {
                    let duration_ms = began.elapsed().as_millis();
                    tracing::info!(run.id = %job.run, step = step.name(), duration_ms, "step done");
                    return Ok(Attempted::Finished(output));
                }
                Err(error) => error,
            };
            let again = error.retryable && attempt < self.config.attempts;
            tracing::warn!(
                run.id = %job.run, step = step.name(), attempt, again,
                error.code = %error.code, error = %error, "step failed"
            );
            self.store.fail(lease, step, &error, again).await?;
            if !again {
                return Ok(Attempted::Failed);
            }
            self.pause(pause).await;
            if *self.stopping.borrow() {
                return Ok(Attempted::Stopped);
            }
            pause = pause.saturating_mul(2);
            attempt += 1;
        }
    }

    async fn pause(&self, time: Duration) {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = sleep(time) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }

    /// One attempt, in a task of its own so that a panic ends the step and nothing else.
    async fn once(&self, job: &Arc<Job>, step: Step, done: &Outputs) -> Result<Value, StepError> {
        let (lane, job, done) = (Arc::clone(&self.lane), Arc::clone(job), done.clone());
        let mut task = Aborting(tokio::spawn(async move { lane.run(&job, step, &done).await }));
        let limit = (self.config.step_timeout)(step);
        let output = match timeout(limit, &mut task.0).await {
            Ok(Ok(outcome)) => outcome?,
            Ok(Err(ended)) => return Err(panicked(step, ended.try_into_panic().ok().as_deref())),
            Err(_) => {
                task.0.abort();
                let ended = timeout(ABORT_TIME, &mut task.0).await.is_ok();
                return Err(StepError {
                    code: "timeout".to_owned(),
                    message: format!("{} took longer than {} s", step.name(), limit.as_secs()),
                    hint: "see what it waited for in the service's log".to_owned(),
                    // A step that cannot be stopped may still be at work: no second one beside it.
                    retryable: ended,
                    refused: false,
                });
            }
        };
        let size = output.to_string().len();
        if size > MAX_OUTPUT {
            return Err(StepError {
                code: "output-too-large".to_owned(),
                message: format!(
                    "{} left {size} bytes, at most {MAX_OUTPUT} are kept",
                    step.name()
                ),
                hint: "keep files on disk or in the registry, and their digests here".to_owned(),
                retryable: false,
                refused: false,
            });
        }
        Ok(output)
    }
}

/// A task that ends when nobody waits for it any more.
struct Aborting(JoinHandle<Result<Value, StepError>>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn panicked(step: Step, payload: Option<&(dyn Any + Send)>) -> StepError {
    let text = payload.and_then(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| payload.downcast_ref::<&str>().copied())
    });
    let text: String = text.unwrap_or("no message").chars().take(500).collect();
    StepError {
        code: "panic".to_owned(),
        message: format!("{} panicked: {text}", step.name()),
        hint: "this is a fault of the program: report it with the service's log".to_owned(),
        retryable: false,
        refused: false,
    }
}
