//! The lap report: what was to be driven, what was driven, and whether that is enough.

use crate::drive::Drive;
use crate::world::laps::{Deviation, Reason};
use serde::Serialize;

/// The report's format.
const VERSION: u32 = 1;

/// A judged run in figures. Distances are in metres, times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LapReport {
    version: u32,
    track: &'static str,
    track_digest: String,
    seed: u64,
    light: &'static str,
    start: f64,
    lock_step: bool,
    laps_wanted: u32,
    laps: usize,
    lap_times_s: Vec<f64>,
    frames: usize,
    sim_seconds: f64,
    wall_seconds: f64,
    off_road: bool,
    hits: u64,
    mean_abs_cte_m: f64,
    p95_abs_cte_m: f64,
    max_abs_cte_m: f64,
    road_half_width_m: f64,
    passed: bool,
    reason: Option<Reason>,
    twin: TwinVersion,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct TwinVersion {
    version: &'static str,
}

/// A length or a time to a tenth of a millimetre or millisecond: what is beyond is noise to read.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

impl LapReport {
    /// Sums up a run that is over.
    pub fn of(drive: &Drive, reason: Option<Reason>, lock_step: bool, wall_seconds: f64) -> Self {
        let (track, scenario, times) = (drive.track(), drive.scenario(), drive.lap_times());
        let deviation = Deviation::of(drive.trace().iter().map(|point| point.cte));
        let laps_wanted = scenario.judge.map_or(0, |judge| judge.laps);
        Self {
            version: VERSION,
            track: track.name,
            track_digest: track.digest(),
            seed: scenario.seed,
            light: scenario.light.word(),
            start: scenario.start,
            lock_step,
            laps_wanted,
            laps: times.len(),
            lap_times_s: times.iter().copied().map(rounded).collect(),
            frames: drive.trace().len(),
            sim_seconds: rounded(drive.now()),
            wall_seconds: rounded(wall_seconds),
            off_road: reason == Some(Reason::OffRoad),
            hits: drive.hits(),
            mean_abs_cte_m: rounded(deviation.mean),
            p95_abs_cte_m: rounded(deviation.p95),
            max_abs_cte_m: rounded(deviation.max),
            road_half_width_m: track.half_width,
            passed: reason.is_none() && times.len() >= laps_wanted as usize,
            reason,
            twin: TwinVersion { version: env!("CARGO_PKG_VERSION") },
        }
    }

    /// Whether every lap was driven on the road.
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// The report in one line for people.
    pub fn line(&self) -> String {
        let verdict = match self.reason {
            None => "passed".to_owned(),
            Some(reason) => format!("failed ({})", reason.word()),
        };
        format!(
            "{verdict}: {} of {} laps on {}, {:.1} s driven in {:.1} s, |cte| mean {:.3} m, max {:.3} m of {:.3} m",
            self.laps,
            self.laps_wanted,
            self.track,
            self.sim_seconds,
            self.wall_seconds,
            self.mean_abs_cte_m,
            self.max_abs_cte_m,
            self.road_half_width_m,
        )
    }
}
