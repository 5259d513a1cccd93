//! Counts laps and says when a run has failed. Knows nothing of frames, sockets or clocks.

use super::track::Fix;
use serde::Serialize;

/// Why a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The car's centre left the road.
    OffRoad,
    /// The car ran into something.
    Hit,
    /// The laps were not done in the time given, or the client fell silent.
    Time,
    /// The client went away.
    Disconnected,
}

impl Reason {
    /// The word used in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::OffRoad => "off-road",
            Self::Hit => "hit",
            Self::Time => "time",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Progress over the line a car started from.
///
/// The distance is signed and summed, so driving back and forth over the line makes no laps.
#[derive(Clone, Debug)]
pub struct LapCounter {
    lap_length: f64,
    along: f64,
    progress: f64,
    started: f64,
    times: Vec<f64>,
}

impl LapCounter {
    /// A counter for a car that starts at `fix` at the simulated time `now` (seconds).
    pub fn new(lap_length: f64, fix: Fix, now: f64) -> Self {
        Self { lap_length, along: fix.along, progress: 0.0, started: now, times: Vec::new() }
    }

    /// The car was put back: the lap under way counts for nothing, finished ones stay.
    pub fn restart(&mut self, fix: Fix, now: f64) {
        self.along = fix.along;
        self.progress = 0.0;
        self.started = now;
    }

    /// Takes the car's place at the simulated time `now`; gives the lap's time when one is done.
    pub fn update(&mut self, fix: Fix, now: f64) -> Option<f64> {
        let step = fix.along - self.along;
        let half = self.lap_length / 2.0;
        self.along = fix.along;
        self.progress += if step > half {
            step - self.lap_length
        } else if step < -half {
            step + self.lap_length
        } else {
            step
        };
        if self.progress < self.lap_length {
            return None;
        }
        self.progress -= self.lap_length;
        let time = now - self.started;
        self.started = now;
        self.times.push(time);
        Some(time)
    }

    /// Times of the finished laps in seconds.
    pub fn times(&self) -> &[f64] {
        &self.times
    }
}

/// Mean, 95th percentile and largest of cross-track errors, in metres.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Mean of the absolute values.
    pub mean: f64,
    /// The value that 95 % of the frames stay below.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

impl Deviation {
    /// Summary of signed cross-track errors; zero for none.
    pub fn of(errors: impl Iterator<Item = f64>) -> Self {
        let mut sizes: Vec<f64> = errors.map(f64::abs).collect();
        sizes.sort_by(f64::total_cmp);
        let Some(&max) = sizes.last() else { return Self::default() };
        let rank = (sizes.len() * 95).div_ceil(100).saturating_sub(1);
        Self { mean: sizes.iter().sum::<f64>() / sizes.len() as f64, p95: sizes[rank], max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(along: f64) -> Fix {
        Fix { along, ..Fix::default() }
    }

    #[test]
    fn a_lap_is_one_whole_way_round_from_the_start() {
        let mut counter = LapCounter::new(10.0, at(7.0), 1.0);
        for (along, now) in [(9.5, 2.0), (0.5, 3.0), (3.0, 4.0), (6.9, 5.0)] {
            assert_eq!(counter.update(at(along), now), None);
        }
        assert_eq!(counter.update(at(7.1), 6.0), Some(5.0));
        assert_eq!(counter.times(), [5.0]);
    }

    #[test]
    fn rocking_over_the_line_makes_no_lap() {
        let mut counter = LapCounter::new(10.0, at(0.0), 0.0);
        for turn in 0..50 {
            assert_eq!(counter.update(at(9.5), f64::from(turn)), None);
            assert_eq!(counter.update(at(0.5), f64::from(turn)), None);
        }
    }

    #[test]
    fn a_restart_forgets_the_lap_under_way() {
        let mut counter = LapCounter::new(10.0, at(0.0), 0.0);
        counter.update(at(4.0), 1.0);
        counter.update(at(8.0), 2.0);
        counter.restart(at(0.0), 3.0);
        assert_eq!(counter.update(at(4.0), 4.0), None);
    }

    #[test]
    fn deviations_are_summed_up() {
        let errors = (1..=100).map(|n| if n % 2 == 0 { f64::from(n) } else { -f64::from(n) });
        let deviation = Deviation::of(errors);
        assert_eq!(deviation, Deviation { mean: 50.5, p95: 95.0, max: 100.0 });
        assert_eq!(Deviation::of(std::iter::empty()), Deviation::default());
    }
}
