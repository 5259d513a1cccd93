//! The loop: connect, talk, and answer each picture.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::camera::Camera;
use crate::cli::DriveArgs;
use crate::cpu;
use crate::drive::{Outcome, talk};
use crate::gate::StopReason;
use crate::handshake::{Handshake, HandshakeError};
use crate::lines::Lines;
use crate::link::Link;
use crate::model::Model;
use crate::pace::Pace;
use crate::protocol::{self, Incoming};
use crate::watch::Shared;

/// Between two configuration messages: Unity reads them apart only when they come apart.
const PAUSE: Duration = Duration::from_millis(100);
/// A silence after which the conversation is taken up again.
const NUDGE: Duration = Duration::from_secs(1);
/// A silence after which a connection counts as lost.
const SILENCE: Duration = Duration::from_secs(30);
/// Waits between tries to connect grow from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Telemetry in a row without a usable picture, from the first on, until the drive is given up:
/// ten seconds at 20 Hz.
const MAX_BLIND: u64 = 200;
/// How one connection ended.
enum End {
    Frames,
    Signal,
    /// The simulator closed it.
    Closed,
    /// It broke.
    Broken(io::Error),
}

impl End {
    /// A simulator that closes with our last answer unread looks like a reset.
    fn of(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Self::Closed
            }
            _ => Self::Broken(error),
        }
    }
}

/// What the newest telemetry said, beside the picture.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    time: Option<f64>,
    speed: Option<f32>,
    /// The gate's time: the simulator's in lock step, else the wall clock's.
    at: Duration,
}

/// The loop and its buffers.
pub(crate) struct Driver<'a> {
    args: &'a DriveArgs,
    shared: &'a Shared,
    model: Model,
    camera: Camera,
    /// The newest picture, as text.
    image: String,
    seen: Seen,
    /// Of the process, when the first picture came.
    process_cpu: Duration,
    /// Telemetry without a usable picture since the last usable one.
    blind: u64,
    pace: Pace,
    /// When the picture came that is to be answered.
    pending: Option<Instant>,
}

impl<'a> Driver<'a> {
    /// Ready to connect.
    pub(crate) fn new(args: &'a DriveArgs, shared: &'a Shared, model: Model) -> Self {
        let (width, height) = (model.card.input.width(), model.card.input.height());
        Self {
            camera: Camera::new(width, height),
            pace: Pace::new(args.hz),
            image: String::new(),
            seen: Seen::default(),
            pending: None,
            blind: 0,
            process_cpu: Duration::ZERO,
            model,
            args,
            shared,
        }
    }

    /// Processor time of the process since the first picture.
    pub(crate) fn process_cpu(&self) -> Duration {
        cpu::of_process().saturating_sub(self.process_cpu)
    }

    /// Connects, and drives until the end.
    pub(crate) fn run(&mut self) -> anyhow::Result<Outcome> {
        let mut patience = Duration::from_secs(self.args.connect_timeout);
        loop {
            let Some(link) = self.connect(patience)? else { return Ok(Outcome::Signal) };
            self.shared.wheels.connect(link.try_clone()?);
            let end = self.converse(link)?;
            let frames = self.shared.tally().frames;
            let why = match end {
                End::Frames => return Ok(Outcome::Frames),
                _ if self.shared.has_ended() => return Ok(Outcome::Signal),
                End::Signal => return Ok(Outcome::Signal),
                End::Closed if self.args.reconnect_seconds == 0 && frames > 0 => {
                    return Ok(Outcome::Closed);
                }
                End::Closed => "closed by the simulator".into(),
                End::Broken(error) => error.to_string(),
            };
            // Nobody may be listening any more.
            let _ = self.shared.wheels.stop(StopReason::Lost);
            self.shared.wheels.disconnect();
            if self.args.reconnect_seconds == 0 {
                bail!("{}: connection lost after {frames} frames: {why}", self.args.sim);
            }
            talk(&format!("connection lost: {why}; trying again"));
            patience = Duration::from_secs(self.args.reconnect_seconds);
            self.shared.tally().reconnects += 1;
        }
    }

    /// Tries until it works, the time is over (an error) or a signal comes (none).
    fn connect(&self, patience: Duration) -> anyhow::Result<Option<Link>> {
        let until = Instant::now() + patience;
        let mut wait = BACKOFF.0;
        loop {
            if self.shared.has_ended() {
                return Ok(None);
            }
            match Link::open(&self.args.sim) {
                Ok(link) => return Ok(Some(link)),
                Err(error) if Instant::now() + wait > until => {
                    return Err(error).with_context(|| {
                        format!("{}: no connection within {patience:?}", self.args.sim)
                    });
                }
                Err(_) => std::thread::sleep(wait),
            }
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    /// One connection, from the first word to the last.
    fn converse(&mut self, mut link: Link) -> anyhow::Result<End> {
        let size = (self.model.card.input.width(), self.model.card.input.height());
        let mut handshake = Handshake::new(self.args.scene.clone(), size);
        let mut lines = Lines::default();
        self.pending = None;
        let (mut heard, mut nudged) = (Instant::now(), Instant::now());
        loop {
            if self.shared.has_ended() {
                return Ok(End::Signal);
            }
            let done = match lines.fill(&mut link) {
                Ok(0) => return Ok(End::Closed),
                Ok(_) => {
                    heard = Instant::now();
                    self.hear(&mut lines, &mut handshake, heard)
                }
                Err(error) if !is_timeout(&error) => return Ok(End::of(error)),
                Err(error) if heard.elapsed() > SILENCE => return Ok(End::Broken(error)),
                Err(_) if nudged.elapsed() > NUDGE && heard.elapsed() > NUDGE => {
                    nudged = Instant::now();
                    self.say(&handshake.nudge()).map(|()| None).map_err(Trouble::Io)
                }
                Err(_) => self.catch_up(),
            };
            match done {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {}
                Err(Trouble::Io(error)) => return Ok(End::of(error)),
                Err(Trouble::Talk(error)) => return Err(error.into()),
                Err(Trouble::Blind(why)) => {
                    bail!("{MAX_BLIND} frames in a row, none usable: {why}")
                }
            }
        }
    }

    /// All whole lines that are there. Of several pictures the newest is answered; in lock step
    /// there is only one, and each is.
    fn hear(
        &mut self,
        lines: &mut Lines,
        handshake: &mut Handshake,
        received: Instant,
    ) -> Result<Option<End>, Trouble> {
        let crammed = lines.is_crammed();
        while let Some(line) = lines.line() {
            let repaired;
            let message = if let Ok(message) = protocol::parse(line) {
                message
            } else {
                repaired = protocol::repair(line);
                match protocol::parse(&repaired) {
                    Ok(message) => message,
                    // A line that is no message says nothing; if it was a picture, its age tells.
                    Err(_) => continue,
                }
            };
            let answers = handshake.hear(&message)?;
            self.say(&answers)?;
            if message.msg_type != "telemetry" {
                continue;
            }
            self.take(&message, received);
            if self.pending.replace(received).is_some() {
                self.shared.tally().skipped += 1;
            }
            if self.args.lock_step
                && let Some(end) = self.catch_up()?
            {
                return Ok(Some(end));
            }
        }
        // More is in the socket, and newer.
        if crammed {
            return Ok(None);
        }
        self.catch_up()
    }

    /// Answers the picture that waits, if there is one and the pace allows it.
    fn catch_up(&mut self) -> Result<Option<End>, Trouble> {
        let Some(received) = self.pending.take() else { return Ok(None) };
        if !self.args.lock_step && !self.pace.allows(received) {
            self.shared.tally().skipped += 1;
            return Ok(None);
        }
        Ok(self.answer(received)?.then_some(End::Frames))
    }

    /// Keeps what a telemetry message says.
    fn take(&mut self, message: &Incoming, received: Instant) {
        self.image.clear();
        self.image.push_str(message.picture());
        let before = self.seen;
        let at = if self.args.lock_step {
            let step = match (before.time, message.time) {
                (Some(before), Some(now)) => Duration::try_from_secs_f64(now - before).ok(),
                _ => None,
            };
            // A clock that was reset, or that there is none of, still moves.
            let usual = Duration::from_secs_f64(1.0 / self.args.hz);
            before.at.saturating_add(step.filter(|s| !s.is_zero()).unwrap_or(usual))
        } else {
            self.shared.wheels.time_of(received)
        };
        self.seen = Seen { time: message.time, speed: message.speed, at };
    }

    /// Answers the picture that was taken last; true when that was the last one wanted.
    fn answer(&mut self, received: Instant) -> Result<bool, Trouble> {
        let wheels = &self.shared.wheels;
        let at = self.seen.at;
        if self.shared.tally().first.is_none() {
            self.process_cpu = cpu::of_process();
        }
        match self.camera.decode(&self.image) {
            Ok(rgb) => self.model.show(rgb),
            Err(error) => {
                self.blind += 1;
                self.shared.tally().bad_frames += 1;
                if self.blind >= MAX_BLIND {
                    return Err(Trouble::Blind(error.to_string()));
                }
                wheels.decide_without(at)?;
                return Ok(false);
            }
        }
        self.blind = 0;
        wheels.picture(at, content(&self.image), self.seen.speed);
        let (asked, asked_cpu) = (Instant::now(), cpu::of_thread());
        self.shared.tally().asked = Some(asked);
        let answer = self.model.ask();
        let (inference, inference_cpu) =
            (asked.elapsed(), cpu::of_thread().saturating_sub(asked_cpu));
        let now = if self.args.lock_step { at } else { wheels.time_of(Instant::now()) };
        match answer {
            Ok(answer) => wheels.decide(now, answer)?,
            Err(error) => {
                if wheels.gate().0.is_none() {
                    talk(&format!("the model failed: {error}"));
                }
                wheels.stop(StopReason::Inference)?
            }
        };
        let mut tally = self.shared.tally();
        tally.asked = None;
        tally.driving = true;
        tally.frames += 1;
        tally.first.get_or_insert(received);
        tally.last = Some(Instant::now());
        tally.inference.add(inference);
        tally.inference_cpu += inference_cpu;
        tally.latency.add(received.elapsed());
        Ok(self.args.frames.is_some_and(|wanted| tally.frames >= wanted))
    }

    fn say(&self, texts: &[String]) -> io::Result<()> {
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                std::thread::sleep(PAUSE);
            }
            self.shared.wheels.say(text)?;
        }
        Ok(())
    }
}

/// Why a message could not be dealt with.
enum Trouble {
    Io(io::Error),
    Talk(HandshakeError),
    Blind(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HandshakeError> for Trouble {
    fn from(error: HandshakeError) -> Self {
        Self::Talk(error)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn content(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
