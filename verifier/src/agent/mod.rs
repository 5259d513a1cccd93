//! The agent on the car: sees what is wished for, admits or refuses it, starts it from exactly
//! the verified bytes, confirms it once it drives, and keeps what drives driving meanwhile.
//!
//! - [`config`]: the car's configuration; [`gitops`]: what is wished for
//! - `scout`: one wish, from evidence to blobs in the store; it runs beside the watch, so that no
//!   slow server can hold it up
//! - `drive`: starts, watches, confirms and stops containers
//! - [`evidence_file`]: what a release was admitted by, for judging it again at every start
//! - [`diary`]: what happened, for people; [`report`]: the same for the pipeline's service

pub mod config;
pub mod diary;
mod drive;
pub mod evidence_file;
pub mod gitops;
pub mod report;
mod scout;

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pitlane_fetch::{Registry, RegistryOptions, Source};
use pitlane_release::{Evidence, Platform, Policy, Verified, policy::Mode};
use tokio::task::JoinHandle;

use self::{
    config::CarFile,
    diary::{Decision, Diary},
    drive::Active,
    report::Reporter,
    scout::{Looked, Scout},
};
use crate::device::{
    fs::Dir,
    launch::{Launcher, LauncherConfig},
    slots::State,
    state_file::StateFile,
    store::{Store, StoreLimits},
};

/// How often the running car is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How often the diary is written while nothing happens (flash wears out).
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The agent.
#[derive(Debug)]
pub struct Agent {
    config: CarFile,
    scout: Arc<Scout>,
    launcher: Launcher,
    file: StateFile<Dir>,
    state: State,
    diary: Diary,
    running: Option<Active>,
    looking: Option<JoinHandle<Looked>>,
    /// The GitOps commit that needs no further look.
    settled: Option<String>,
    rest: drive::Rest,
    told: (Instant, usize),
    reporter: Option<Reporter>,
    /// Held as long as this agent lives: two agents would stop each other's containers.
    _lock: File,
}

impl Agent {
    /// Opens everything; clears what an agent that was killed left running.
    pub fn open(config: CarFile) -> anyhow::Result<Self> {
        let (policy, _) = config.names().policy(&config.policy)?;
        if policy.mode == Mode::Warn {
            let file = config.policy.display();
            anyhow::bail!(
                "{file}: field `spec.mode`: a car takes no policy that only warns; write enforce"
            );
        }
        one_order(&policy).with_context(|| config.policy.display().to_string())?;
        let platform = Platform::host().context("releases are made for amd64 and arm64 only")?;
        let options = RegistryOptions { plain_http: config.plain_http.clone(), credentials: None };
        let store = Store::open(&config.state, StoreLimits::default())?;
        let lock = File::create(config.state.join("agent.lock"))?;
        if lock.try_lock().is_err() {
            anyhow::bail!("{}: another agent runs on this state", config.state.display());
        }
        let launcher = LauncherConfig {
            unpack_dir: config.run.join("unpacked"),
            state_dir: config.run.join("containers"),
            log_dir: config.state.join("log"),
            runtime: config.runtime.clone(),
            ..LauncherConfig::default()
        };
        let launcher = Launcher::new(launcher, store.clone())?;
        let (file, state, damage) = StateFile::load(Dir::open(&config.state)?)?;
        if let Some(damage) = damage {
            tracing::warn!(damage, "one copy of the slot state was damaged; the other is good");
        }
        let reporter = config.report.as_ref().map(Reporter::start).transpose()?;
        let scout = Scout {
            gitops: config.gitops.clone(),
            dir: config.state.clone(),
            source: Source::Registry(Registry::new(options)?),
            policy,
            store,
            platform,
        };
        Ok(Self {
            scout: Arc::new(scout),
            launcher,
            file,
            state,
            diary: Diary::read(&config.state),
            running: None,
            looking: None,
            settled: None,
            rest: drive::Rest::default(),
            told: (Instant::now(), usize::MAX),
            reporter,
            _lock: lock,
            config,
        })
    }

    fn evidence_dir(&self) -> PathBuf {
        self.config.state.join("evidence")
    }

    /// Runs until `stop` is set. Errors go into the diary: what drives keeps driving.
    pub async fn run(&mut self, stop: &Arc<AtomicBool>) {
        let mut next_look = Instant::now();
        let interval = Duration::from_secs(self.config.gitops.interval_seconds.max(1));
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = self.watch() {
                self.note_error("", "", &error);
            }
            if self.running.is_none() && self.rest.over() {
                self.start_next().await;
            }
            self.hear().await;
            if self.looking.is_none() && Instant::now() >= next_look {
                let scout = Arc::clone(&self.scout);
                let (state, settled) = (self.state.clone(), self.settled.clone());
                self.looking = Some(tokio::spawn(async move { scout.look(state, settled).await }));
                next_look = Instant::now() + interval;
            }
            self.tell();
            tokio::time::sleep(TICK).await;
        }
        if let Some(looking) = self.looking.take() {
            looking.abort();
        }
        self.halt(true);
        self.told.1 = usize::MAX;
        self.tell();
    }

    /// Acts on what the scout found, if it is back.
    async fn hear(&mut self) {
        if !self.looking.as_ref().is_some_and(JoinHandle::is_finished) {
            return;
        }
        let Some(looking) = self.looking.take() else { return };
        match looking.await {
            Ok(Looked::Nothing) => {}
            Ok(Looked::Settled(commit)) => self.settled = Some(commit),
            Ok(Looked::Noted(decision)) => self.diary.note(decision),
            Ok(Looked::Admitted { commit, verified, evidence, decision }) => {
                let image = decision.image.clone();
                self.diary.note(decision);
                match self.take(&verified, &evidence) {
                    Ok(()) => self.settled = Some(commit),
                    Err(error) => self.note_error(&commit, &image, &error),
                }
            }
            Err(error) => self.note_error("", "", &error.into()),
        }
    }

    fn note_error(&mut self, commit: &str, image: &str, error: &anyhow::Error) {
        self.diary.note(Decision::new(commit, image, "error", format!("{error:#}")));
    }

    /// Makes it the candidate and lets it drive in place of what drives now.
    fn take(&mut self, verified: &Verified, evidence: &Evidence) -> anyhow::Result<()> {
        let (Some(release), Some(statement)) = (verified.release(), verified.statement()) else {
            anyhow::bail!("it was admitted without a release statement");
        };
        evidence_file::save(&self.evidence_dir(), statement, evidence)?;
        self.change(|state| {
            state.offer(verified.image().clone(), release.counter, *statement)?;
            // Signed, so it is proven that it is at least this late.
            state.observe(release.issued_at);
            Ok(())
        })?;
        self.halt(true);
        self.rest = drive::Rest::default();
        Ok(())
    }

    /// Changes the state on disk and then in memory, or neither.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut State) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut next = self.state.clone();
        let result = change(&mut next)?;
        self.file.save(&next)?;
        self.state = next;
        Ok(result)
    }

    /// Writes the diary when something happened, and now and then.
    fn tell(&mut self) {
        self.diary.floor = self.state.floor.0;
        self.diary.driving = self.running.as_mut().map(Active::describe);
        let mark = self.diary.mark();
        if mark != self.told.1 || self.told.0.elapsed() >= TELL_EVERY {
            self.diary.write(&self.config.state);
            if let Some(reporter) = &self.reporter {
                reporter.tell(report::word(&self.diary));
            }
            self.told = (Instant::now(), mark);
        }
    }
}

/// Counters order the releases of one kind of one source, and a car has one floor, so its policy
/// must name exactly one of each.
fn one_order(policy: &Policy) -> anyhow::Result<()> {
    let drive = policy.drive.as_ref();
    let drive = drive.context("a car's policy needs a `drive:` section (docs/policy.md)")?;
    let orders: usize = drive.sources.iter().map(|source| source.car_kinds.len()).sum();
    anyhow::ensure!(
        orders == 1,
        "a car's policy must name one source with one car kind, it names {orders}: releases of \
         different ones have no common order"
    );
    Ok(())
}
