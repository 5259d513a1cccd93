//! When to try again, decided without a clock.

use std::time::Duration;

/// How often and how patiently something is tried.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tries in all.
    pub tries: u32,
    /// Pause after the first try; the next ones double.
    pub first: Duration,
    /// No pause is longer, whatever the registry asks for.
    pub longest: Duration,
}

impl Default for Retry {
    /// Five tries within some ten seconds, longer where the registry asks for it.
    fn default() -> Self {
        Self { tries: 5, first: Duration::from_millis(300), longest: Duration::from_secs(30) }
    }
}

impl Retry {
    /// The pause after the `tried`th try (from 1); `None` when that was the last. `asked`: the
    /// registry's `Retry-After`. `chance`, 0 to 1, spreads clients that failed together.
    pub fn pause(&self, tried: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
        if tried >= self.tries {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << tried.saturating_sub(1).min(16));
        let spread = doubled.min(self.longest).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        Some(spread.max(asked.unwrap_or_default()).min(self.longest))
    }
}

/// Whether an answer with this status may be another one later.
pub(crate) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After` in seconds; the form with a date is left out, as clocks differ.
pub(crate) fn asked(header: Option<&str>) -> Option<Duration> {
    header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        let retry =
            Retry { tries: 4, first: Duration::from_secs(1), longest: Duration::from_secs(10) };
        let pause = |tried, asked: Option<u64>, chance| {
            retry.pause(tried, asked.map(Duration::from_secs), chance).map(|p| p.as_millis())
        };
        assert_eq!(pause(1, None, 1.0), Some(1000));
        assert_eq!(pause(1, None, 0.0), Some(500));
        assert_eq!(pause(3, None, 1.0), Some(4000));
        assert_eq!(pause(1, Some(7), 0.5), Some(7000));
        assert_eq!(pause(1, Some(1_000_000), 0.5), Some(10_000), "nobody makes us wait for days");
        assert_eq!(pause(4, Some(1), 1.0), None);
        let patient = Retry { tries: u32::MAX, ..retry };
        assert_eq!(patient.pause(4_000_000_000, None, 9.9), Some(Duration::from_secs(10)));
    }

    #[test]
    fn what_may_pass() {
        for status in [408, 429, 500, 503] {
            assert!(may_pass(status), "{status}");
        }
        for status in [200, 307, 400, 401, 403, 404, 413, 416, 501, 507] {
            assert!(!may_pass(status), "{status}");
        }
        assert_eq!(asked(Some(" 3 ")), Some(Duration::from_secs(3)));
        for none in [None, Some("-1"), Some("soon"), Some("Wed, 21 Oct 2026 07:28:00 GMT")] {
            assert_eq!(asked(none), None, "{none:?}");
        }
    }
}
