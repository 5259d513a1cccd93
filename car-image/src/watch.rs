//! The watchdog: a thread that needs nobody. It takes the throttle away when frames stay out,
//! ends inferences that do not, and tells the agent how the car is.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::files::write_whole;
use crate::gate::{Limits, StopReason, Stops};
use crate::model::Abort;
use crate::stats::Times;
use crate::wheels::Wheels;

/// How often it looks: a tenth of the age at which the throttle goes.
const TICK: Duration = Duration::from_millis(20);
/// Between two writes of the status.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Longest inference in lock step, where no frame grows old meanwhile.
const LOCK_STEP_INFERENCE: Duration = Duration::from_secs(10);

/// What loop, watchdog and signals share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The way to the wheels.
    pub(crate) wheels: Wheels,
    tally: Mutex<Tally>,
    ended: AtomicBool,
    abort: OnceLock<Abort>,
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Whether a command of the model has reached the wheels.
    pub(crate) driving: bool,
    /// Pictures answered.
    pub(crate) frames: u64,
    /// Pictures left out because a newer one was there, or too soon.
    pub(crate) skipped: u64,
    /// Telemetry without a usable picture.
    pub(crate) bad_frames: u64,
    /// Connections after the first.
    pub(crate) reconnects: u64,
    /// From the arrival of a frame to the departure of its command.
    pub(crate) latency: Times,
    /// The model alone.
    pub(crate) inference: Times,
    /// Processor time of the model alone.
    pub(crate) inference_cpu: Duration,
    /// When the first picture was answered.
    pub(crate) first: Option<Instant>,
    /// When the last picture was answered.
    pub(crate) last: Option<Instant>,
    /// Since when the model has been at work on a picture.
    pub(crate) asked: Option<Instant>,
}

impl Tally {
    /// From the first answered picture to the last.
    pub(crate) fn time(&self) -> Duration {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last.duration_since(first),
            _ => Duration::ZERO,
        }
    }
}

/// The status file.
#[derive(Debug, Serialize)]
struct Status {
    state: &'static str,
    frames: u64,
    loop_hz: f64,
    latency_p99_ms: f64,
    gate: GateStatus,
}

/// What the gate did.
#[derive(Debug, Serialize)]
pub(crate) struct GateStatus {
    /// Episodes by reason.
    pub(crate) stops: Stops,
    /// Answers cut to the limits.
    pub(crate) limited: u64,
    /// Why the car stands for good, if it does.
    pub(crate) latched: Option<StopReason>,
}

impl Shared {
    /// Nothing happened yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            wheels: Wheels::new(limits),
            tally: Mutex::default(),
            ended: AtomicBool::new(false),
            abort: OnceLock::new(),
        }
    }

    /// Lets [`Self::end`] and the watchdog stop inferences of this model.
    pub(crate) fn watch_model(&self, abort: Abort) {
        // There is one model in a process; a second one would not be watched.
        let _ = self.abort.set(abort);
    }

    /// The tally, locked: hold it shortly.
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brakes, and asks everybody to finish.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wheels.end();
        self.abort_inference();
    }

    /// Whether [`Self::end`] was called.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The gate's part of status and report.
    pub(crate) fn gate_status(&self) -> GateStatus {
        let (latched, stops, limited) = self.wheels.gate();
        GateStatus { stops, limited, latched }
    }

    fn abort_inference(&self) {
        if let Some(abort) = self.abort.get() {
            abort.now();
        }
    }
}

/// Runs until [`Shared::end`].
pub(crate) fn run(shared: &Shared, lock_step: bool, status: Option<&Path>) {
    let mut told = Instant::now();
    let mut told_frames = 0;
    while !shared.has_ended() {
        std::thread::sleep(TICK);
        let now = Instant::now();
        if !lock_step {
            shared.wheels.watch(shared.wheels.time_of(now));
        }
        let asked = shared.tally().asked;
        let slow = shared.wheels.gate().0 == Some(StopReason::Slow);
        let endless = |since: Instant| now.duration_since(since) > LOCK_STEP_INFERENCE;
        if asked.is_some_and(|since| slow || endless(since)) {
            shared.abort_inference();
        }
        let passed = now.duration_since(told);
        if let (Some(path), true) = (status, passed >= STATUS_EVERY) {
            let frames = shared.tally().frames;
            tell(shared, path, None, Some(rate(frames - told_frames, passed)));
            (told, told_frames) = (now, frames);
        }
    }
}

/// Writes the status file. `state` and `loop_hz` are worked out where none are given, the latter
/// for the whole drive.
pub(crate) fn tell(
    shared: &Shared,
    path: &Path,
    state: Option<&'static str>,
    loop_hz: Option<f64>,
) {
    let gate = shared.gate_status();
    let status = {
        let tally = shared.tally();
        let worked_out = match (gate.latched, tally.driving) {
            (Some(_), _) => "stopped",
            (None, true) => "driving",
            (None, false) => "starting",
        };
        Status {
            state: state.unwrap_or(worked_out),
            frames: tally.frames,
            loop_hz: loop_hz.unwrap_or_else(|| rate(tally.frames, tally.time())),
            latency_p99_ms: tally.latency.quantile_ms(0.99),
            gate,
        }
    };
    let written = serde_json::to_vec(&status).map(|text| write_whole(path, &text));
    if let Ok(Err(error)) = written {
        // The car must not stop because a disk is full; the agent sees an old file.
        crate::drive::talk(&format!("status: {error}"));
    }
}

/// Per second, rounded to tenths.
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of frames, far below 2^53")]
    let rate = if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() };
    (rate * 10.0).round() / 10.0
}
