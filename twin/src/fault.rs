//! What goes wrong on purpose, so that a car's reactions can be tested.
//!
//! Faults act on what a client is told, never on the car itself, and by simulated time, so that a
//! run with faults can be repeated to the byte.

use std::str::FromStr;

/// Longest delay that can be asked for, in milliseconds: each frame under way is kept in memory.
pub const MAX_DELAY_MS: u32 = 5_000;

/// One fault, as written on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// From this second on the picture is always the same.
    FreezeAt(f64),
    /// This part of the frames never arrives (0 to 1).
    Drop(f64),
    /// Frames arrive this late.
    DelayMs(u32),
    /// At this second the connection is closed.
    CloseAt(f64),
    /// From this second on pictures are black.
    BlackoutAt(f64),
    /// From this second on nothing is sent; the connection stays open.
    StallAt(f64),
}

/// A fault that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a fault; write freeze-at=S, blackout-at=S, stall-at=S, close-at=S (seconds), \
     drop=P (0 to 1) or delay-ms=N (at most {MAX_DELAY_MS})"
)]
pub struct UnknownFault(String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let unknown = || UnknownFault(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(unknown)?;
        let number: f64 = value.parse().map_err(|_| unknown())?;
        if !number.is_finite() || number < 0.0 {
            return Err(unknown());
        }
        match name {
            "freeze-at" => Ok(Self::FreezeAt(number)),
            "blackout-at" => Ok(Self::BlackoutAt(number)),
            "stall-at" => Ok(Self::StallAt(number)),
            "close-at" => Ok(Self::CloseAt(number)),
            "drop" if number <= 1.0 => Ok(Self::Drop(number)),
            "delay-ms" if number <= f64::from(MAX_DELAY_MS) => Ok(Self::DelayMs(number as u32)),
            _ => Err(unknown()),
        }
    }
}

/// Every fault of a run together. Of two of a kind the earlier or larger counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    freeze_at: Option<f64>,
    blackout_at: Option<f64>,
    stall_at: Option<f64>,
    close_at: Option<f64>,
    drop: f64,
    delay_ms: u32,
}

impl Faults {
    /// The faults of a list.
    pub fn of(list: &[Fault]) -> Self {
        let earlier = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| old.min(new)));
        list.iter().fold(Self::default(), |mut all, fault| {
            match *fault {
                Fault::FreezeAt(at) => all.freeze_at = earlier(all.freeze_at, at),
                Fault::BlackoutAt(at) => all.blackout_at = earlier(all.blackout_at, at),
                Fault::StallAt(at) => all.stall_at = earlier(all.stall_at, at),
                Fault::CloseAt(at) => all.close_at = earlier(all.close_at, at),
                Fault::Drop(part) => all.drop = all.drop.max(part),
                Fault::DelayMs(ms) => all.delay_ms = all.delay_ms.max(ms),
            }
            all
        })
    }

    /// Is the picture frozen at this second?
    pub fn frozen(&self, now: f64) -> bool {
        self.freeze_at.is_some_and(|at| now >= at)
    }

    /// Is the picture black at this second?
    pub fn black(&self, now: f64) -> bool {
        self.blackout_at.is_some_and(|at| now >= at)
    }

    /// Is the connection to be closed at this second?
    pub fn closes(&self, now: f64) -> bool {
        self.close_at.is_some_and(|at| now >= at)
    }

    /// Is this frame lost? Draws from `rng` only where frames can be dropped.
    pub fn loses(&self, now: f64, rng: &mut fastrand::Rng) -> bool {
        self.stall_at.is_some_and(|at| now >= at) || (self.drop > 0.0 && rng.f64() < self.drop)
    }

    /// How many frames of `frame_s` seconds each frame is late: the delay, rounded up.
    pub fn frames_late(&self, frame_s: f64) -> usize {
        (f64::from(self.delay_ms) / 1000.0 / frame_s).ceil() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_nonsense_is_refused() {
        assert_eq!("freeze-at=2.5".parse(), Ok(Fault::FreezeAt(2.5)));
        assert_eq!("drop=0.1".parse(), Ok(Fault::Drop(0.1)));
        assert_eq!("delay-ms=120".parse(), Ok(Fault::DelayMs(120)));
        for text in ["", "drop", "drop=1.1", "drop=-1", "drop=nan", "delay-ms=99999", "melt-at=3"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn faults_combine() {
        let faults = Faults::of(&[Fault::FreezeAt(3.0), Fault::FreezeAt(2.0), Fault::DelayMs(120)]);
        assert!(faults.frozen(2.0) && !faults.frozen(1.99) && !faults.black(9.0));
        assert_eq!(faults.frames_late(0.05), 3);
        let mut rng = fastrand::Rng::with_seed(1);
        assert!(!faults.loses(5.0, &mut rng));
        let half = Faults::of(&[Fault::Drop(0.5)]);
        let lost = (0..1000).filter(|_| half.loses(0.0, &mut rng)).count();
        assert!((400..600).contains(&lost), "{lost}");
    }
}
