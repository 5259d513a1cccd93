//! The agent on the car: sees what is wished for, admits or refuses it, starts it from exactly
//! the verified bytes, confirms it once it drives, and keeps what drives driving meanwhile.
//!
//! - [`config`]: the car's configuration; [`gitops`]: what is wished for
//! - [`evidence_file`]: what a release was admitted by, for judging it again at every start
//! - [`diary`]: what happened, for people
//! - [`judge`](mod@judge): one wish, from evidence to blobs in the store

pub mod config;
pub mod diary;
pub mod evidence_file;
pub mod gitops;
mod judge;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pitlane_fetch::{Registry, RegistryOptions, Source};
use pitlane_release::{ImageRef, Platform, Policy, Question, Verified, admit};

use self::{
    config::CarFile,
    diary::{Decision, Diary, Driving},
};
use crate::device::{
    fs::Dir,
    health::Health,
    launch::{Launcher, LauncherConfig, Start},
    running::Running,
    slots::{Slot, SlotState, State},
    state_file::StateFile,
    store::{Store, StoreLimits},
};

/// How often the running car is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long a container gets to stop by itself: the runtime brakes and says goodbye.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Shortest time between two starts, so that a release that dies at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_secs(2);

/// The agent.
#[derive(Debug)]
pub struct Agent {
    config: CarFile,
    policy: Policy,
    platform: Platform,
    source: Source,
    store: Store,
    launcher: Launcher,
    file: StateFile<Dir>,
    state: State,
    diary: Diary,
    running: Option<Active>,
    /// The GitOps commit that needs no further look.
    settled: Option<String>,
    rest_until: Instant,
}

/// What runs, and how far it got.
#[derive(Debug)]
struct Active {
    slot: Slot,
    running: Running,
    started: Instant,
    driving_since: Option<Instant>,
}

impl Agent {
    /// Opens everything; clears what an agent that was killed left running.
    pub fn open(config: CarFile) -> anyhow::Result<Self> {
        let policy = config.keys().policy(&config.policy)?;
        let platform = Platform::host().context("releases are made for amd64 and arm64 only")?;
        let options = RegistryOptions { plain_http: config.plain_http.clone(), credentials: None };
        let store = Store::open(&config.state, StoreLimits::default())?;
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
        Ok(Self {
            source: Source::Registry(Registry::new(options)?),
            policy,
            platform,
            store,
            launcher,
            file,
            state,
            diary: Diary::default(),
            running: None,
            settled: None,
            rest_until: Instant::now(),
            config,
        })
    }

    fn evidence_dir(&self) -> PathBuf {
        self.config.state.join("evidence")
    }

    /// Runs until `stop` is set.
    pub async fn run(&mut self, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
        let mut next_look = Instant::now();
        let interval = Duration::from_secs(self.config.gitops.interval_seconds.max(1));
        while !stop.load(Ordering::Relaxed) {
            self.watch()?;
            if self.running.is_none() && Instant::now() >= self.rest_until {
                self.start_next().await?;
            }
            if Instant::now() >= next_look {
                self.look().await;
                next_look = Instant::now() + interval;
            }
            self.tell();
            tokio::time::sleep(TICK).await;
        }
        self.halt(true);
        self.tell();
        Ok(())
    }

    /// Looks at what runs: confirms it, or lets it go.
    fn watch(&mut self) -> anyhow::Result<()> {
        let Some(active) = &mut self.running else { return Ok(()) };
        let health = active.running.health()?;
        if health.drives() {
            active.driving_since.get_or_insert_with(Instant::now);
        } else if !matches!(health, Health::Quiet(_)) {
            active.driving_since = None;
        }
        let candidate = matches!(active.slot.state, SlotState::Candidate { .. });
        let long_enough =
            active.driving_since.is_some_and(|since| since.elapsed() >= self.config.healthy());
        if candidate && long_enough {
            return self.confirm();
        }
        let ended = matches!(health, Health::Exited(_));
        let never =
            active.driving_since.is_none() && active.started.elapsed() >= self.config.patience();
        if ended || never {
            let why = match health {
                Health::Exited(exit) => {
                    let said = active.running.log_tail();
                    let last = said.lines().last().unwrap_or("").to_owned();
                    format!("it ended ({exit:?}): {last}")
                }
                other => format!("it does not drive: {other:?}"),
            };
            let slot = active.slot.clone();
            let outcome = if candidate { "unhealthy" } else { "stopped" };
            let image = slot.image.to_string();
            self.diary.note(Decision::new("", &image, outcome, why));
            self.halt(false);
            self.rest_until = Instant::now() + RESTART_PAUSE;
        }
        Ok(())
    }

    fn confirm(&mut self) -> anyhow::Result<()> {
        let Some(active) = &mut self.running else { return Ok(()) };
        self.state.confirm(&active.slot.statement)?;
        self.state.observe(jiff::Timestamp::now());
        self.file.save(&self.state)?;
        active.slot.state = SlotState::Confirmed;
        let image = active.slot.image.to_string();
        let why = format!("it drives; the floor is {}", self.state.floor.0);
        self.diary.note(Decision::new("", &image, "confirmed", why));
        self.collect_garbage();
        Ok(())
    }

    /// Drops blobs and evidence of releases that can never start again.
    fn collect_garbage(&self) {
        let statements: Vec<_> = self.state.kept().map(|slot| slot.statement).collect();
        let mut keep = BTreeSet::new();
        for statement in &statements {
            let Ok(evidence) = evidence_file::load(&self.evidence_dir(), statement) else { return };
            let manifest = evidence.manifest.unwrap_or_default();
            let Ok(manifest) = pitlane_release::oci::parse_manifest(&manifest) else { return };
            keep.insert(manifest.config.digest);
            keep.extend(manifest.layers.iter().map(|layer| layer.digest));
        }
        evidence_file::prune(&self.evidence_dir(), &statements);
        if let Err(error) = self.store.gc(&keep) {
            tracing::warn!(%error, "old blobs could not be dropped");
        }
    }

    /// Starts what the slots say, after judging it again by the evidence on disk.
    pub(super) async fn start_next(&mut self) -> anyhow::Result<()> {
        let Some(slot) = self.state.begin() else { return Ok(()) };
        self.file.save(&self.state)?;
        match self.start(&slot).await {
            Ok(active) => self.running = Some(active),
            Err(why) => {
                let image = slot.image.to_string();
                let message = format!("{why:#}");
                self.diary.note(Decision::new("", &image, "not-started", message));
                self.rest_until = Instant::now() + RESTART_PAUSE;
            }
        }
        Ok(())
    }

    async fn start(&mut self, slot: &Slot) -> anyhow::Result<Active> {
        let verified = self.judge_again(slot)?;
        let start = Start::of(&verified);
        let running = match self.launcher.start(&start, &self.config.profile) {
            // The disk lost or changed something: the registry may still have it.
            Err(error) if error.refetch() => {
                tracing::warn!(%error, "fetching it again");
                if let Some(refusal) = self.fetch(&verified).await? {
                    anyhow::bail!("fetched again, and refused ({}): {refusal}", refusal.code());
                }
                self.launcher.start(&start, &self.config.profile)?
            }
            other => other?,
        };
        let cost = running.cost();
        tracing::info!(
            container = running.id(),
            image.digest = %verified.image().digest,
            unpack_ms = u64::try_from(cost.unpack.as_millis()).unwrap_or(u64::MAX),
            "started"
        );
        let slot = slot.clone();
        Ok(Active { slot, running, started: Instant::now(), driving_since: None })
    }

    /// A release that was admitted once is judged again at every start: policies tighten, disks
    /// change. Expiry is not held against what this car has confirmed, or a car in a drawer
    /// would never drive again.
    fn judge_again(&self, slot: &Slot) -> anyhow::Result<Verified> {
        let evidence = evidence_file::load(&self.evidence_dir(), &slot.statement)?;
        let image = ImageRef {
            repository: slot.image.repository.clone(),
            tag: None,
            digest: Some(evidence.requested.digest),
        };
        let mut now = self.state.now(jiff::Timestamp::now());
        if slot.state == SlotState::Confirmed
            && let Some(known) = issued(&self.policy, &evidence)
        {
            now = known;
        }
        let question =
            Question { image: &image, platform: self.platform, floor: self.state.floor, now };
        let verdict = admit(&self.policy, &question, &evidence);
        let verified = verdict.answer.map_err(|refusal| {
            anyhow::anyhow!("refused at start ({}): {refusal}", refusal.code())
        })?;
        anyhow::ensure!(
            verified.image() == &slot.image && verified.statement() == Some(&slot.statement),
            "the evidence on disk is about another release"
        );
        Ok(verified)
    }

    /// Stops what runs.
    fn halt(&mut self, asked_for: bool) {
        let Some(mut active) = self.running.take() else { return };
        if let Err(error) = active.running.stop(STOP_GRACE) {
            tracing::warn!(%error, "the container did not stop cleanly");
        }
        if asked_for && matches!(active.slot.state, SlotState::Candidate { .. }) {
            let given = self.state.give_back(&active.slot.statement);
            if given.is_ok()
                && let Err(error) = self.file.save(&self.state)
            {
                tracing::warn!(%error, "the slot state could not be saved");
            }
        }
    }

    fn tell(&mut self) {
        self.diary.floor = self.state.floor.0;
        self.diary.driving = self.running.as_mut().map(|active| Driving {
            image: active.slot.image.to_string(),
            counter: active.slot.counter.get(),
            container: active.running.id().to_owned(),
            confirmed: active.slot.state == SlotState::Confirmed,
            status: match active.running.health() {
                Ok(Health::Reporting(status)) => serde_json::to_value(status).unwrap_or_default(),
                _ => serde_json::Value::Null,
            },
        });
        self.diary.write(&self.config.state);
    }
}

/// When the release in this evidence was issued, by its own word.
fn issued(policy: &Policy, evidence: &pitlane_release::Evidence) -> Option<jiff::Timestamp> {
    let signed = pitlane_release::admit::signed_releases(policy, &evidence.statements);
    signed.first().map(|signed| signed.statement.predicate.issued_at)
}
