//! Counting without allocating: times fall into buckets about 1.6 % wide.

use std::time::Duration;

/// Buckets for each doubling.
const FINE: usize = 64;
/// Doublings above the first `FINE` microseconds: up to 2^32 µs, over an hour.
const OCTAVES: usize = 26;

/// A histogram of times with microsecond resolution.
#[derive(Clone)]
pub(crate) struct Times {
    buckets: Box<[u64]>,
    count: u64,
}

impl std::fmt::Debug for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Times({} values, median {} ms)", self.count, self.quantile_ms(0.5))
    }
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: vec![0; FINE * (OCTAVES + 1)].into(), count: 0 }
    }
}

impl Times {
    /// Adds one time.
    pub(crate) fn add(&mut self, time: Duration) {
        let micros = usize::try_from(time.as_micros()).unwrap_or(usize::MAX);
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
    }

    /// How many were added.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The time in milliseconds that the share `q` (0..=1) of the values does not exceed;
    /// zero when there are none.
    pub(crate) fn quantile_ms(&self, q: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among fewer than 2^53 values, q in 0..=1"
        )]
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return middle(index) / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(micros: usize) -> usize {
    if micros < FINE {
        return micros;
    }
    // The position of the highest bit chooses the octave, the six bits below it the bucket.
    let octave = (micros.ilog2() - FINE.ilog2()) as usize;
    if octave >= OCTAVES {
        return FINE * (OCTAVES + 1) - 1;
    }
    FINE * (octave + 1) + (micros >> octave) - FINE
}

/// The middle of a bucket in microseconds.
fn middle(index: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "below 2^33")]
    let number = |n: usize| n as f64;
    if index < FINE {
        return number(index);
    }
    let octave = index / FINE - 1;
    let low = (index % FINE + FINE) << octave;
    number(low) + number((1 << octave) - 1) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut times = Times::default();
        assert!(times.quantile_ms(0.5).abs() < f64::EPSILON);
        for micros in 1..=100_000 {
            times.add(Duration::from_micros(micros));
        }
        for (q, want) in [(0.01, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let got = times.quantile_ms(q);
            assert!((got - want).abs() / want < 0.02, "{q}: {got} for {want}");
        }
    }

    #[test]
    fn every_time_has_a_bucket() {
        let mut times = Times::default();
        for time in [Duration::ZERO, Duration::from_secs(1 << 40), Duration::MAX] {
            times.add(time);
        }
        assert_eq!(times.count(), 3);
        for micros in (0..40).map(|bit| 1_usize << bit) {
            for near in [micros - 1, micros, micros + 1] {
                assert!(bucket(near) < FINE * (OCTAVES + 1), "{near}");
            }
        }
    }
}
