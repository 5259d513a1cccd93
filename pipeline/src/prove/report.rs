//! The twin's lap report, and what it says about a run: a pure decision.

use pitlane_release::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scenario::{Run, Scenario};

/// Largest report read (bytes); one takes about 600, with 100 lap times 3 000.
pub(super) const MAX_REPORT: u64 = 256 * 1024;
/// The version of the report that is understood.
const VERSION: u32 = 1;
/// How far a number may differ that went through text (the start of a run).
const ROUNDING: f64 = 1e-4;

/// What the twin reports of a run. Distances are metres, times seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names and units are the twin's own, see its documentation")]
pub struct LapReport {
    pub version: u32,
    pub track: String,
    pub track_digest: Digest,
    pub seed: u64,
    pub light: String,
    pub start: f64,
    pub lock_step: bool,
    pub laps_wanted: u32,
    pub laps: u32,
    pub lap_times_s: Vec<f64>,
    pub frames: u64,
    pub sim_seconds: f64,
    pub wall_seconds: f64,
    pub off_road: bool,
    pub hits: u64,
    pub mean_abs_cte_m: f64,
    pub p95_abs_cte_m: f64,
    pub max_abs_cte_m: f64,
    pub road_half_width_m: f64,
    pub passed: bool,
    pub reason: Option<String>,
    pub twin: TwinVersion,
}

/// Which twin it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TwinVersion {
    /// Its version.
    pub version: String,
}

/// Why a run does not count.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Shortfall {
    #[error("lap {lap} of {of}: off the road at t={t:.2} s")]
    OffRoad { lap: u32, of: u32, t: f64 },
    #[error("lap {lap} of {of}: hit something at t={t:.2} s")]
    Hit { lap: u32, of: u32, t: f64 },
    #[error("lap {lap} of {of}: not finished after {t:.2} simulated seconds; a car that stands?")]
    Slow { lap: u32, of: u32, t: f64 },
    #[error("lap {lap} of {of}: the car hung up at t={t:.2} s")]
    Disconnected { lap: u32, of: u32, t: f64 },
    #[error("up to {found:.3} m from the centre of the road, the scenario allows {max:.3} m")]
    Wide { found: f64, max: f64 },
    #[error("the report is not about this run: {field} is {found}, asked was {asked}")]
    Other { field: &'static str, found: String, asked: String },
    #[error("the report contradicts itself: {why}")]
    Contradiction { why: String },
    #[error("the runtime ended by itself ({status}) before the laps were driven: {said}")]
    CarEnded { status: String, said: String },
    #[error("not finished after {seconds} s by the wall clock; was stopped")]
    Deadline { seconds: u64 },
}

impl Shortfall {
    /// The code that scripts and reports rely on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OffRoad { .. } => "prove-off-road",
            Self::Hit { .. } => "prove-hit",
            Self::Slow { .. } => "prove-time",
            Self::Disconnected { .. } => "prove-disconnected",
            Self::Wide { .. } => "prove-cte",
            Self::Other { .. } => "prove-other-run",
            Self::Contradiction { .. } => "prove-report",
            Self::CarEnded { .. } => "prove-car-ended",
            Self::Deadline { .. } => "prove-deadline",
        }
    }
}

/// Judges one run. The report's own `passed` is never enough: the numbers must agree with it, with
/// what was asked, and with the scenario.
pub fn judge(run: &Run, scenario: &Scenario, report: &LapReport) -> Result<(), Shortfall> {
    about_this_run(run, report)?;
    let (lap, of, t) = (report.laps.saturating_add(1).min(run.laps), run.laps, report.sim_seconds);
    match report.reason.as_deref() {
        None => {}
        Some("off-road") => return Err(Shortfall::OffRoad { lap, of, t }),
        Some("hit") => return Err(Shortfall::Hit { lap, of, t }),
        Some("time") => return Err(Shortfall::Slow { lap, of, t }),
        Some("disconnected") => return Err(Shortfall::Disconnected { lap, of, t }),
        Some(other) => {
            let other: String = other.chars().take(40).flat_map(char::escape_debug).collect();
            return Err(Shortfall::Contradiction { why: format!("unknown reason `{other}`") });
        }
    }
    let contradiction = |why: String| Err(Shortfall::Contradiction { why });
    if !report.passed {
        return contradiction("not passed, for no reason".into());
    }
    if report.laps < run.laps || report.lap_times_s.len() != report.laps as usize {
        let times = report.lap_times_s.len();
        return contradiction(format!("{} laps with {times} times, want {of}", report.laps));
    }
    if report.off_road || report.hits > 0 {
        return contradiction(format!("passed, and off the road or {} hits", report.hits));
    }
    let numbers = [
        report.sim_seconds,
        report.mean_abs_cte_m,
        report.p95_abs_cte_m,
        report.max_abs_cte_m,
        report.road_half_width_m,
    ];
    let times = report.lap_times_s.iter().all(|t| t.is_finite() && *t > 0.0);
    if !times || numbers.iter().any(|n| !n.is_finite() || *n < 0.0) || report.frames == 0 {
        return contradiction("times and distances must be numbers, not below 0".into());
    }
    if report.max_abs_cte_m > report.road_half_width_m {
        return contradiction("passed, and further from the centre than the road is wide".into());
    }
    match scenario.max_abs_cte_m {
        Some(max) if report.max_abs_cte_m > max => {
            Err(Shortfall::Wide { found: report.max_abs_cte_m, max })
        }
        _ => Ok(()),
    }
}

/// A report of another run, or of a twin that took an option for another, proves nothing.
fn about_this_run(run: &Run, report: &LapReport) -> Result<(), Shortfall> {
    let light = run.light.as_deref().filter(|light| *light != "random").unwrap_or(&report.light);
    let pairs = [
        ("version", report.version.to_string(), VERSION.to_string()),
        ("track", report.track.clone(), run.track.clone()),
        ("seed", report.seed.to_string(), run.seed.to_string()),
        ("light", report.light.clone(), light.to_owned()),
        ("lapsWanted", report.laps_wanted.to_string(), run.laps.to_string()),
        ("lockStep", report.lock_step.to_string(), true.to_string()),
    ];
    for (field, found, asked) in pairs {
        if found != asked {
            let found = found.chars().take(40).flat_map(char::escape_debug).collect();
            return Err(Shortfall::Other { field, found, asked });
        }
    }
    // Written so that a number that is none fails as well.
    if (report.start - run.start).abs() < ROUNDING {
        return Ok(());
    }
    let (found, asked) = (report.start.to_string(), run.start.to_string());
    Err(Shortfall::Other { field: "start", found, asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut LapReport);

    fn passed() -> (Run, Scenario, LapReport) {
        let run: Run =
            serde_json::from_str(r#"{"track":"oval","seed":7,"light":"noon","laps":2}"#).unwrap();
        let scenario =
            Scenario { runs: vec![run.clone()], max_abs_cte_m: Some(0.5), golden_tolerance: 1e-4 };
        let report = serde_json::json!({
            "version": 1, "track": "oval", "trackDigest": Digest::of("x"), "seed": 7,
            "light": "noon", "start": 0.0, "lockStep": true, "lapsWanted": 2, "laps": 2,
            "lapTimesS": [20.5, 20.1], "frames": 812, "simSeconds": 40.6, "wallSeconds": 3.0,
            "offRoad": false, "hits": 0, "meanAbsCteM": 0.1, "p95AbsCteM": 0.2, "maxAbsCteM": 0.3,
            "roadHalfWidthM": 1.0, "passed": true, "reason": null, "twin": {"version": "0.1.0"},
            "aKeyOfTheFuture": 1
        });
        (run, scenario, serde_json::from_value(report).unwrap())
    }

    #[test]
    fn only_a_report_that_agrees_with_everything_counts() {
        let (run, scenario, report) = passed();
        assert_eq!(judge(&run, &scenario, &report), Ok(()));
        let cases: &[(Change, &str)] = &[
            (|r| r.reason = Some("off-road".into()), "prove-off-road"),
            (|r| r.reason = Some("hit".into()), "prove-hit"),
            (|r| r.reason = Some("time".into()), "prove-time"),
            (|r| r.reason = Some("disconnected".into()), "prove-disconnected"),
            (|r| r.reason = Some("magic".into()), "prove-report"),
            (|r| r.passed = false, "prove-report"),
            (|r| r.laps = 1, "prove-report"),
            (|r| r.lap_times_s.truncate(1), "prove-report"),
            (|r| r.lap_times_s[0] = 0.0, "prove-report"),
            (|r| r.off_road = true, "prove-report"),
            (|r| r.hits = 1, "prove-report"),
            (|r| r.frames = 0, "prove-report"),
            (|r| r.max_abs_cte_m = 1.1, "prove-report"),
            (|r| r.max_abs_cte_m = f64::NAN, "prove-report"),
            (|r| r.max_abs_cte_m = 0.51, "prove-cte"),
            (|r| r.version = 2, "prove-other-run"),
            (|r| r.track = "easy".into(), "prove-other-run"),
            (|r| r.seed = 8, "prove-other-run"),
            (|r| r.light = "dusk".into(), "prove-other-run"),
            (|r| r.start = 0.5, "prove-other-run"),
            (|r| r.start = f64::NAN, "prove-other-run"),
            (|r| r.laps_wanted = 1, "prove-other-run"),
            (|r| r.lock_step = false, "prove-other-run"),
        ];
        for (index, (change, want)) in cases.iter().enumerate() {
            let mut spoilt = report.clone();
            change(&mut spoilt);
            let got = judge(&run, &scenario, &spoilt).expect_err(want);
            assert_eq!(got.code(), *want, "case {index}: {got}");
        }
    }

    #[test]
    fn a_failure_names_lap_and_time() {
        let (run, scenario, mut report) = passed();
        (report.passed, report.laps, report.sim_seconds) = (false, 1, 31.25);
        (report.off_road, report.reason) = (true, Some("off-road".into()));
        let text = judge(&run, &scenario, &report).unwrap_err().to_string();
        assert_eq!(text, "lap 2 of 2: off the road at t=31.25 s");
    }

    #[test]
    fn random_light_takes_any_name() {
        let (mut run, scenario, mut report) = passed();
        run.light = Some("random".into());
        report.light = "dusk".into();
        assert_eq!(judge(&run, &scenario, &report), Ok(()));
    }
}
