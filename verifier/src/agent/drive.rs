//! What runs on the car: starting it, watching it, confirming it, stopping it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use pitlane_release::{ImageRef, Policy, Question, Refusal, Verified, admit};

use super::{Agent, Decision, diary::Driving, evidence_file};
use crate::device::{
    health::Health,
    launch::{LaunchError, Start},
    running::{Exit, Running},
    slots::{Slot, SlotState},
};

/// How long a container gets to stop by itself: the runtime brakes and says goodbye.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Shortest and longest pause before the next start, doubled each time one fails.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_mins(1)];
/// Exit code of the runtime after its safety gate has latched: it must not drive on by itself.
const LATCHED: i32 = 10;

/// What runs, and how far it got.
#[derive(Debug)]
pub(super) struct Active {
    slot: Slot,
    running: Running,
    driving_since: Option<Instant>,
    idle_since: Instant,
}

impl Active {
    pub(super) fn describe(&mut self) -> Driving {
        Driving {
            image: self.slot.image.to_string(),
            counter: self.slot.counter.get(),
            container: self.running.id().to_owned(),
            confirmed: self.slot.state == SlotState::Confirmed,
            status: match self.running.health() {
                Ok(Health::Reporting(status)) => serde_json::to_value(status).unwrap_or_default(),
                _ => serde_json::Value::Null,
            },
        }
    }
}

/// When the next start may be tried.
#[derive(Debug, Default)]
pub(super) struct Rest {
    until: Option<Instant>,
    pause: Duration,
    parked: bool,
}

impl Rest {
    pub(super) fn over(&self) -> bool {
        !self.parked && self.until.is_none_or(|until| Instant::now() >= until)
    }

    fn longer(&mut self) {
        self.pause = (self.pause * 2).clamp(PAUSES[0], PAUSES[1]);
        self.until = Some(Instant::now() + self.pause);
    }
}

/// Why a release did not start.
enum NotStarted {
    /// The release is at fault: it will not start tomorrow either.
    Refused(String, String),
    /// This machine is, or the network: the release keeps its tries.
    Fault(anyhow::Error),
}

impl Agent {
    /// Looks at what runs: confirms it, or lets it go.
    pub(super) fn watch(&mut self) -> anyhow::Result<()> {
        let Some(active) = &mut self.running else { return Ok(()) };
        let health = active.running.health()?;
        if health.drives() {
            active.driving_since.get_or_insert_with(Instant::now);
            active.idle_since = Instant::now();
        } else {
            active.driving_since = None;
        }
        let candidate = matches!(active.slot.state, SlotState::Candidate { .. });
        let long_enough =
            active.driving_since.is_some_and(|since| since.elapsed() >= self.config.healthy());
        if candidate && long_enough {
            return self.confirm();
        }
        let Health::Exited(exit) = health else {
            if active.idle_since.elapsed() >= self.config.patience() {
                self.let_go(&format!("it does not drive: {health:?}"), false);
            }
            return Ok(());
        };
        let said = active.running.log_tail();
        let last = said.lines().last().unwrap_or("").to_owned();
        self.let_go(&format!("it ended ({exit:?}): {last}"), exit == Exit::Code(LATCHED));
        Ok(())
    }

    /// Stops what does not drive. A candidate loses a try; after a safety stop it is refused, and
    /// a confirmed release waits for a person or a new release.
    fn let_go(&mut self, why: &str, latched: bool) {
        let Some(active) = &self.running else { return };
        let slot = active.slot.clone();
        let candidate = matches!(slot.state, SlotState::Candidate { .. });
        let outcome = match (latched, candidate) {
            (true, _) => "safety-stop",
            (false, true) => "unhealthy",
            (false, false) => "stopped",
        };
        self.diary.note(Decision::new("", &slot.image.to_string(), outcome, why.to_owned()));
        self.halt(false);
        self.rest.longer();
        if latched && candidate {
            let refused = self.change(|state| Ok(state.refuse(&slot.statement, outcome)?));
            if let Err(error) = refused {
                self.note_error("", "", &error);
            }
        } else if latched {
            self.rest.parked = true;
        }
    }

    fn confirm(&mut self) -> anyhow::Result<()> {
        let Some(active) = &self.running else { return Ok(()) };
        let statement = active.slot.statement;
        self.change(|state| Ok(state.confirm(&statement)?))?;
        let Some(active) = &mut self.running else { return Ok(()) };
        active.slot.state = SlotState::Confirmed;
        let image = active.slot.image.to_string();
        let why = format!("it drives; the floor is {}", self.state.floor.0);
        self.diary.note(Decision::new("", &image, "confirmed", why));
        self.rest = Rest::default();
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
        if let Err(error) = self.scout.store.gc(&keep) {
            tracing::warn!(%error, "old blobs could not be dropped");
        }
    }

    /// Starts what the slots say, after judging it again by the evidence on disk.
    pub(super) async fn start_next(&mut self) {
        let slot = match self.change(|state| Ok(state.begin())) {
            Ok(Some(slot)) => slot,
            // Nothing to drive yet; looked at again when something is admitted.
            Ok(None) => return self.rest.longer(),
            Err(error) => {
                self.rest.longer();
                return self.note_error("", "", &error);
            }
        };
        let image = slot.image.to_string();
        let candidate = matches!(slot.state, SlotState::Candidate { .. });
        let (outcome, message) = match self.start(&slot).await {
            Ok(active) => return self.running = Some(active),
            Err(NotStarted::Refused(code, message)) => {
                let refuse = |state: &mut crate::device::slots::State| {
                    Ok(state.refuse(&slot.statement, &code)?)
                };
                // What this car has confirmed stays its own: it is judged again at each start.
                if candidate && let Err(error) = self.change(refuse) {
                    self.note_error("", &image, &error);
                }
                (code, message)
            }
            Err(NotStarted::Fault(error)) => {
                if candidate
                    && let Err(error) = self.change(|state| Ok(state.give_back(&slot.statement)?))
                {
                    self.note_error("", &image, &error);
                }
                ("not-started".to_owned(), format!("{error:#}"))
            }
        };
        self.diary.note(Decision::new("", &image, &outcome, message));
        self.rest.longer();
    }

    async fn start(&self, slot: &Slot) -> Result<Active, NotStarted> {
        let verified = self.judge_again(slot)?;
        let start = Start::of(&verified);
        let running = match self.launcher.start(&start, &self.config.profile) {
            // The disk lost or changed something: the registry may still have it.
            Err(error) if error.refetch() => {
                tracing::warn!(%error, "fetching it again");
                let again = self.scout.fetch(&verified).await.map_err(NotStarted::Fault)?;
                if let Some(refusal) = again {
                    let code = refusal.code().to_owned();
                    return Err(NotStarted::Refused(code, refusal.to_string()));
                }
                self.launcher.start(&start, &self.config.profile)
            }
            other => other,
        };
        let running = running.map_err(|error: LaunchError| match error.is_refusal() {
            true => NotStarted::Refused("unusable-image".into(), error.to_string()),
            false => NotStarted::Fault(error.into()),
        })?;
        let cost = running.cost();
        tracing::info!(
            container = running.id(),
            image.digest = %verified.image().digest,
            unpack_ms = u64::try_from(cost.unpack.as_millis()).unwrap_or(u64::MAX),
            "started"
        );
        let now = Instant::now();
        Ok(Active { slot: slot.clone(), running, driving_since: None, idle_since: now })
    }

    /// A release that was admitted once is judged again at every start: policies tighten, disks
    /// change. Expiry is not held against what this car has confirmed, or a car in a drawer
    /// would never drive again.
    fn judge_again(&self, slot: &Slot) -> Result<Verified, NotStarted> {
        let evidence = evidence_file::load(&self.evidence_dir(), &slot.statement)
            .map_err(NotStarted::Fault)?;
        let image = ImageRef {
            repository: slot.image.repository.clone(),
            tag: None,
            digest: Some(evidence.requested.digest),
        };
        let clock = jiff::Timestamp::now();
        let seen = self.state.now(clock);
        let mut now = seen;
        if slot.state == SlotState::Confirmed
            && let Some(known) = issued(&self.scout.policy, &evidence)
        {
            now = known;
        }
        let (platform, floor) = (self.scout.platform, self.state.floor);
        let question = Question { image: &image, platform, floor, now };
        let verdict = admit(&self.scout.policy, &question, &evidence);
        let verified = verdict.answer.map_err(|refusal| match refusal {
            // Logs and stamps are held against the machine's clock. One that stands before a time
            // already seen will be set right, so nothing is refused for good by it.
            Refusal::NotProven(why) if seen > clock => NotStarted::Fault(anyhow::anyhow!(
                "the clock ({clock}) stands before a time already seen ({seen}): {}",
                why.why
            )),
            refusal => {
                NotStarted::Refused(refusal.code().to_owned(), format!("at the start: {refusal}"))
            }
        })?;
        if verified.image() != &slot.image || verified.statement() != Some(&slot.statement) {
            let why = "the evidence on disk is about another release".to_owned();
            return Err(NotStarted::Refused("other-image".into(), why));
        }
        Ok(verified)
    }

    /// Stops what runs.
    pub(super) fn halt(&mut self, asked_for: bool) {
        let Some(mut active) = self.running.take() else { return };
        if let Err(error) = active.running.stop(STOP_GRACE) {
            tracing::warn!(%error, "the container did not stop cleanly");
        }
        let statement = active.slot.statement;
        let candidate = self.state.candidate().is_some_and(|slot| slot.statement == statement);
        if asked_for
            && candidate
            && let Err(error) = self.change(|state| Ok(state.give_back(&statement)?))
        {
            self.note_error("", "", &error);
        }
    }
}

/// When the release in this evidence was issued, by its own word.
fn issued(policy: &Policy, evidence: &pitlane_release::Evidence) -> Option<jiff::Timestamp> {
    let signed = pitlane_release::admit::signed_releases(policy, &evidence.statements);
    signed.first().map(|signed| signed.statement.predicate.issued_at)
}
