//! The only way to the wheels: a gate and a connection behind one lock.
//!
//! Loop, watchdog and signals all act through here, so commands leave one at a time and none
//! can follow the last one. The last one is always [`Command::STOP`]: a simulator, like a servo
//! board, keeps the command it got last for ever.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::gate::{Answer, Command, Limits, SafetyGate, StopReason, Stops};
use crate::link::Link;
use crate::protocol;

/// Gate and connection.
#[derive(Debug)]
pub(crate) struct Wheels {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    gate: SafetyGate,
    link: Option<Link>,
    text: Vec<u8>,
    ended: bool,
}

impl Wheels {
    /// Without a connection; every command goes nowhere.
    pub(crate) fn new(limits: Limits) -> Self {
        let inner = Inner {
            gate: SafetyGate::new(limits),
            link: None,
            text: Vec::with_capacity(128),
            ended: false,
        };
        Self { started: Instant::now(), inner: Mutex::new(inner) }
    }

    /// The gate's time of a moment of the wall clock.
    pub(crate) fn time_of(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.started)
    }

    /// Takes a new connection into use.
    pub(crate) fn connect(&self, link: Link) {
        let mut inner = self.lock();
        inner.gate.renew();
        inner.link = Some(link);
    }

    /// Sends a text that is no command.
    pub(crate) fn say(&self, text: &str) -> io::Result<()> {
        let mut inner = self.lock();
        match &mut inner.link {
            Some(link) => link.write_all(text.as_bytes()),
            None => Ok(()),
        }
    }

    /// See [`SafetyGate::picture`].
    pub(crate) fn picture(&self, at: Duration, content: u64, speed: Option<f32>) {
        self.lock().gate.picture(at, content, speed);
    }

    /// See [`SafetyGate::decide`]; sends the command.
    pub(crate) fn decide(&self, now: Duration, answer: Answer) -> io::Result<Command> {
        let mut inner = self.lock();
        let command = inner.gate.decide(now, answer);
        inner.send(command)
    }

    /// See [`SafetyGate::decide_without`]; sends the command.
    pub(crate) fn decide_without(&self, now: Duration) -> io::Result<Command> {
        let mut inner = self.lock();
        let command = inner.gate.decide_without(now);
        inner.send(command)
    }

    /// See [`SafetyGate::watch`]; sends the command if one is due.
    pub(crate) fn watch(&self, now: Duration) {
        let mut inner = self.lock();
        if let Some(command) = inner.gate.watch(now) {
            // The loop reads from the same connection and sees that it is broken.
            let _ = inner.send(command);
        }
    }

    /// See [`SafetyGate::stop`]; sends the stop.
    pub(crate) fn stop(&self, reason: StopReason) -> io::Result<Command> {
        let mut inner = self.lock();
        let command = inner.gate.stop(reason);
        inner.send(command)
    }

    /// Gives up the connection; whoever still listens hears the stop first.
    pub(crate) fn disconnect(&self) {
        self.lock().hang_up();
    }

    /// The last command. Nothing leaves after it.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        if !inner.ended {
            inner.hang_up();
            inner.ended = true;
        }
    }

    /// What the gate has seen: why it is shut, stops by reason, answers cut to the limits.
    pub(crate) fn gate(&self) -> (Option<StopReason>, Stops, u64) {
        let inner = self.lock();
        (inner.gate.latched(), inner.gate.stops(), inner.gate.limited())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // After a panic the gate still holds, and the stop must still get out.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn send(&mut self, command: Command) -> io::Result<Command> {
        if let (Some(link), false) = (&mut self.link, self.ended) {
            protocol::control(&mut self.text, command);
            link.write_all(&self.text)?;
        }
        Ok(command)
    }

    fn hang_up(&mut self) {
        // The other side may be gone: then there is nobody to stop.
        let _ = self.send(Command::STOP);
        if let Some(link) = self.link.take() {
            link.close();
        }
    }
}

/// Ends the wheels when it goes out of scope, by whatever way: return, error or panic.
#[derive(Debug)]
pub(crate) struct Brake<'a>(pub(crate) &'a Wheels);

impl Drop for Brake<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const LIMITS: Limits =
        Limits { max_throttle: 0.5, reverse: false, throttle_rate: None, steering_rate: None };
    const STOP: &str =
        r#"{"msg_type":"control","steering":"0.000000","throttle":"0.000000","brake":"1.0"}"#;

    fn wheels() -> (Wheels, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let wheels = Wheels::new(LIMITS);
        wheels.connect(Link::Unix(ours));
        wheels.picture(Duration::ZERO, 1, None);
        (wheels, theirs)
    }

    fn heard(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    const GO: Answer = Answer { steering: 0.5, throttle: 0.25 };

    #[test]
    fn a_panic_brakes() {
        let (wheels, theirs) = wheels();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _brake = Brake(&wheels);
            wheels.decide(Duration::ZERO, GO).unwrap();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        let text = heard(theirs);
        assert!(text.contains(r#""throttle":"0.250000""#) && text.ends_with(STOP), "{text}");
    }

    #[test]
    fn a_panic_under_the_lock_brakes() {
        let (wheels, theirs) = wheels();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _brake = Brake(&wheels);
            let _held = wheels.lock();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(heard(theirs), STOP);
    }

    #[test]
    fn nothing_follows_the_last_command() {
        let (wheels, theirs) = wheels();
        wheels.end();
        wheels.decide(Duration::ZERO, GO).unwrap();
        wheels.end();
        let (ours, second) = UnixStream::pair().unwrap();
        wheels.connect(Link::Unix(ours));
        wheels.picture(Duration::ZERO, 2, None);
        wheels.decide(Duration::ZERO, GO).unwrap();
        drop(wheels);
        assert_eq!((heard(theirs), heard(second)), (STOP.into(), String::new()));
    }

    #[test]
    fn a_listener_that_hangs_does_not_hold_the_lock_for_ever() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let wheels = Wheels::new(LIMITS);
        wheels.connect(Link::Unix(ours));
        wheels.picture(Duration::ZERO, 1, None);
        let failed = (0..1_000_000).find(|_| wheels.decide(Duration::ZERO, GO).is_err());
        assert!(failed.is_some(), "a full socket is an error");
        drop(theirs);
    }
}
