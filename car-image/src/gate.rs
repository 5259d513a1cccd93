//! The safety gate: the one place between what the model says and what the wheels do.
//!
//! Pure: times and values go in, a command comes out. Times are durations since any fixed
//! moment; in lock step they are the simulator's, so that nothing depends on the wall clock.
//!
//! Fresh pictures are a permission that runs out. Without one the throttle goes at once and the
//! steering stays; after a while, or when an answer is no number, the stop is latched: neutral
//! and brake until a new connection, or for good when the model itself is at fault.

use std::time::Duration;

use serde::Serialize;

/// Age of the newest picture beyond which the throttle is taken away: four frames at 20 Hz.
const EASE_AFTER: Duration = Duration::from_millis(200);
/// Age beyond which the car stops and stays stopped: ten frames at 20 Hz.
const STOP_AFTER: Duration = Duration::from_millis(500);
/// A picture that never changes is only suspicious while the car should move: throttle passed
/// on (share of full), or speed reported (m/s).
const MOVING_THROTTLE: f32 = 0.05;
const MOVING_SPEED: f32 = 0.1;

/// What the operator allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most throttle passed on, 0..=1.
    pub max_throttle: f32,
    /// Whether throttle below zero is passed on (down to `-max_throttle`).
    pub reverse: bool,
    /// Most change of throttle a second.
    pub throttle_rate: Option<f32>,
    /// Most change of steering a second.
    pub steering_rate: Option<f32>,
}

/// What the model wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// -1 full left … 1 full right; anything may come out of a network.
    pub steering: f32,
    /// -1 … 1, the same.
    pub throttle: f32,
}

/// What the wheels get; every value is finite and in range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Command {
    /// -1 full left … 1 full right.
    pub steering: f32,
    /// -1 … 1.
    pub throttle: f32,
    /// 0 … 1.
    pub brake: f32,
}

impl Command {
    /// Wheels straight, no throttle, full brake.
    pub const STOP: Self = Self { steering: 0.0, throttle: 0.0, brake: 1.0 };
}

/// Why the gate does not do what the model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// No new picture for too long.
    Stale,
    /// New pictures, all the same, while the car should move.
    Frozen,
    /// The model took too long over a picture.
    Slow,
    /// The model's answer is NaN or infinite.
    NotFinite,
    /// The model could not be run on a picture.
    Inference,
    /// The connection is gone.
    Lost,
}

impl StopReason {
    /// Whether a new connection clears the stop. A model that answered nonsense once is not
    /// trusted again by this process.
    const fn clears(self) -> bool {
        match self {
            Self::Stale | Self::Frozen | Self::Slow | Self::Lost => true,
            Self::NotFinite | Self::Inference => false,
        }
    }
}

/// How often the gate stepped in, by reason; one episode counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stops {
    stale: u64,
    frozen: u64,
    slow: u64,
    not_finite: u64,
    inference: u64,
    lost: u64,
}

impl Stops {
    const fn count(&mut self, reason: StopReason) {
        let n = match reason {
            StopReason::Stale => &mut self.stale,
            StopReason::Frozen => &mut self.frozen,
            StopReason::Slow => &mut self.slow,
            StopReason::NotFinite => &mut self.not_finite,
            StopReason::Inference => &mut self.inference,
            StopReason::Lost => &mut self.lost,
        };
        *n += 1;
    }
}

/// What the gate currently does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Passes commands on, within the limits.
    Open,
    /// Passes steering on, but no throttle.
    Eased(StopReason),
    /// Passes nothing on.
    Latched(StopReason),
}

/// The gate's memory.
#[derive(Clone, Debug)]
pub struct SafetyGate {
    limits: Limits,
    mode: Mode,
    /// When the newest good picture came; none before the first.
    picture_at: Option<Duration>,
    /// A picture was shown and not answered yet.
    thinking: bool,
    content: u64,
    content_since: Duration,
    last: Command,
    last_at: Duration,
    stops: Stops,
    limited: u64,
}

impl SafetyGate {
    /// A gate that has seen nothing and lets nothing pass.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            mode: Mode::Open,
            picture_at: None,
            thinking: false,
            content: 0,
            content_since: Duration::ZERO,
            last: Command::STOP,
            last_at: Duration::ZERO,
            stops: Stops { stale: 0, frozen: 0, slow: 0, not_finite: 0, inference: 0, lost: 0 },
            limited: 0,
        }
    }

    /// A good picture came `at` this time; `content` is a hash of its bytes, `speed` what the
    /// car reports (m/s).
    pub fn picture(&mut self, at: Duration, content: u64, speed: Option<f32>) {
        // The watchdog sees a gap while it lasts; this sees it where no watchdog runs.
        if let Some(before) = self.picture_at {
            self.weigh(at.saturating_sub(before.max(self.last_at)), StopReason::Stale);
        }
        let rolling = speed.is_some_and(|v| v.abs() > MOVING_SPEED);
        let driven = self.last.throttle.abs() >= MOVING_THROTTLE;
        let eased = self.mode == Mode::Eased(StopReason::Frozen);
        if content != self.content || self.picture_at.is_none() || !(rolling || driven || eased) {
            self.content = content;
            self.content_since = at;
        }
        self.picture_at = Some(at);
        self.thinking = true;
    }

    /// The model's answer to the newest picture is ready `now`.
    pub fn decide(&mut self, now: Duration, answer: Answer) -> Command {
        let Some(picture_at) = self.picture_at else { return Command::STOP };
        let thought = now.saturating_sub(picture_at);
        let frozen = now.saturating_sub(self.content_since);
        self.thinking = false;
        if !answer.steering.is_finite() || !answer.throttle.is_finite() {
            return self.stop(StopReason::NotFinite);
        }
        if thought <= EASE_AFTER && frozen <= EASE_AFTER && matches!(self.mode, Mode::Eased(_)) {
            self.mode = Mode::Open;
        }
        self.weigh(thought, StopReason::Slow);
        self.weigh(frozen, StopReason::Frozen);
        let wanted = match self.mode {
            Mode::Latched(_) => return self.pass(now, Command::STOP),
            Mode::Eased(_) => Answer { throttle: 0.0, ..answer },
            Mode::Open => answer,
        };
        let limited = self.limit(now, wanted);
        self.pass(now, limited)
    }

    /// A message came without a usable picture: the last command, as long as it may hold.
    pub fn decide_without(&mut self, now: Duration) -> Command {
        let Some(picture_at) = self.picture_at else { return Command::STOP };
        self.thinking = false;
        self.weigh(now.saturating_sub(picture_at), StopReason::Stale);
        let command = match self.mode {
            Mode::Latched(_) => Command::STOP,
            Mode::Eased(_) => Command { throttle: 0.0, ..self.last },
            Mode::Open => self.last,
        };
        // `last_at` stays: a held command is no sign of life.
        self.last = command;
        command
    }

    /// The watchdog's question while nothing comes: a command if one is due now.
    pub fn watch(&mut self, now: Duration) -> Option<Command> {
        let picture_at = self.picture_at?;
        let before = self.mode;
        let reason = if self.thinking { StopReason::Slow } else { StopReason::Stale };
        self.weigh(now.saturating_sub(picture_at), reason);
        if self.mode == before {
            return None;
        }
        self.last = match self.mode {
            Mode::Latched(_) => Command::STOP,
            Mode::Eased(_) | Mode::Open => Command { throttle: 0.0, ..self.last },
        };
        Some(self.last)
    }

    /// Stops for good (see [`StopReason::clears`]).
    pub fn stop(&mut self, reason: StopReason) -> Command {
        if !matches!(self.mode, Mode::Latched(_)) {
            if self.mode != Mode::Eased(reason) {
                self.stops.count(reason);
            }
            self.mode = Mode::Latched(reason);
        }
        self.last = Command::STOP;
        Command::STOP
    }

    /// A new connection: forgets pictures, and stops that were the old connection's fault.
    pub fn renew(&mut self) {
        let keep = match self.mode {
            Mode::Latched(reason) if !reason.clears() => self.mode,
            Mode::Latched(_) | Mode::Eased(_) | Mode::Open => Mode::Open,
        };
        *self =
            Self { mode: keep, stops: self.stops, limited: self.limited, ..Self::new(self.limits) };
    }

    /// Why the gate is shut, if it is.
    pub const fn latched(&self) -> Option<StopReason> {
        match self.mode {
            Mode::Latched(reason) => Some(reason),
            Mode::Open | Mode::Eased(_) => None,
        }
    }

    /// Episodes so far.
    pub const fn stops(&self) -> Stops {
        self.stops
    }

    /// Answers that were cut to the limits so far.
    pub const fn limited(&self) -> u64 {
        self.limited
    }

    /// Draws the consequence of something being this old.
    fn weigh(&mut self, age: Duration, reason: StopReason) {
        if age > STOP_AFTER {
            self.stop(reason);
        } else if age > EASE_AFTER && self.mode == Mode::Open {
            self.stops.count(reason);
            self.mode = Mode::Eased(reason);
        }
    }

    /// Range, cap, direction, slew.
    fn limit(&mut self, now: Duration, wanted: Answer) -> Command {
        let most = self.limits.max_throttle;
        let least = if self.limits.reverse { -most } else { 0.0 };
        let seconds = now.saturating_sub(self.last_at).as_secs_f32();
        let steering = slew(
            wanted.steering.clamp(-1.0, 1.0),
            self.last.steering,
            self.limits.steering_rate,
            seconds,
        );
        let mut throttle = wanted.throttle.clamp(least, most);
        // Giving more is slow, giving less is at once.
        if throttle.abs() > self.last.throttle.abs() {
            throttle = slew(throttle, self.last.throttle, self.limits.throttle_rate, seconds);
        }
        #[expect(clippy::float_cmp, reason = "the question is whether anything was changed")]
        if steering != wanted.steering || throttle != wanted.throttle {
            self.limited += 1;
        }
        Command { steering, throttle, brake: 0.0 }
    }

    const fn pass(&mut self, now: Duration, command: Command) -> Command {
        self.last = command;
        self.last_at = now;
        command
    }
}

fn slew(wanted: f32, last: f32, rate: Option<f32>, seconds: f32) -> f32 {
    let Some(rate) = rate else { return wanted };
    let most = rate * seconds;
    wanted.clamp(last - most, last + most)
}

#[cfg(test)]
mod tests;
