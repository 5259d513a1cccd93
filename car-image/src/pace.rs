//! The pace of answers: the rate that is expected, with patience for jitter.

use std::time::{Duration, Instant};

/// Answers are saved up at this multiple of the expected rate.
const FASTER: f64 = 1.1;
/// So many of them at most: a frame that was held up somewhere is answered although it comes
/// close to the next.
const SAVED: f64 = 2.0;

/// Saves up permissions to answer, so that a flood of frames costs no more than the usual rate.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: f64,
    saved: f64,
    at: Option<Instant>,
}

impl Pace {
    /// For so many frames a second.
    pub(crate) fn new(hz: f64) -> Self {
        Self { per_second: hz * FASTER, saved: SAVED, at: None }
    }

    /// Whether a frame that came `now` is answered.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let passed = self.at.map_or(Duration::ZERO, |at| now.duration_since(at));
        self.at = Some(now);
        self.saved = (self.saved + passed.as_secs_f64() * self.per_second).min(SAVED);
        let allowed = self.saved >= 1.0;
        if allowed {
            self.saved -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these moments (ms) are answered at 20 Hz.
    fn allowed(moments: impl IntoIterator<Item = u64>) -> usize {
        let start = Instant::now();
        let mut pace = Pace::new(20.0);
        let moments = moments.into_iter().map(|ms| start + Duration::from_millis(ms));
        moments.filter(|at| pace.allows(*at)).count()
    }

    #[test]
    fn the_pace_forgives_jitter_and_stops_floods() {
        assert_eq!(allowed((0..100).map(|n| n * 50)), 100);
        assert_eq!(allowed((0..100).map(|n| n * 50 + if n % 2 == 0 { 45 } else { 0 })), 100);
        let flood = allowed(0..10_000);
        assert!((200..=230).contains(&flood), "{flood} answers in ten seconds");
    }
}
