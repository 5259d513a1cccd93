//! `Scenario` and `Limits`: what a candidate has to drive, and what it may use while it does.
//! Both come from the operator's pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most runs of one scenario.
const MAX_RUNS: usize = 16;
/// Most laps of one run.
const MAX_LAPS: u32 = 100;
/// Longest run, in simulated seconds.
const MAX_SECONDS: f64 = 3600.0;

/// What a candidate has to drive before it becomes a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// The runs, in order; every one must pass, and the first that fails ends the proof.
    pub runs: Vec<Run>,
    /// Largest distance from the centre of the road, in metres; without it, the road's edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_abs_cte_m: Option<f64>,
    /// How far a car's own answers may be from the golden ones (`sign.attest: golden`). 0.0001
    /// by default, which other processors keep; half-precision inference needs more.
    #[serde(default = "golden_tolerance")]
    pub golden_tolerance: f64,
}

const fn golden_tolerance() -> f64 {
    1e-4
}

/// One run in the twin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// Name of the track.
    pub track: String,
    /// Seed of all that is random in the run.
    #[serde(default)]
    pub seed: u64,
    /// Name of the light, or `random`; without it, the twin's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub light: Option<String>,
    /// Where on the lap the car starts, 0 up to 1.
    #[serde(default)]
    pub start: f64,
    /// Laps to drive.
    #[serde(default = "one")]
    pub laps: u32,
    /// Simulated seconds until the run counts as failed.
    #[serde(default = "two_minutes")]
    pub max_seconds: f64,
}

const fn one() -> u32 {
    1
}

const fn two_minutes() -> f64 {
    120.0
}

/// What one run may use. Both programs, the runtime and the twin, are held to each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Seconds by the wall clock.
    pub wall_seconds: u64,
    /// Seconds of processor time.
    pub cpu_seconds: u64,
    /// Address space, in MiB.
    pub memory_mib: u64,
    /// Threads at one time; processes cannot be started. Where the service runs as root, what
    /// else runs as user 65532 on the machine counts too.
    pub processes: u64,
    /// Open files.
    pub open_files: u64,
    /// Largest file written, in MiB.
    pub file_size_mib: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_seconds: 300,
            cpu_seconds: 300,
            memory_mib: 2048,
            processes: 128,
            open_files: 256,
            file_size_mib: 64,
        }
    }
}

/// Why a scenario cannot be driven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` of the scenario: {why}")]
pub struct ScenarioError {
    field: String,
    why: String,
}

impl Scenario {
    /// Checks what the types do not say; call it when a pipeline file is read.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let refuse = |field: &str, why: String| Err(ScenarioError { field: field.into(), why });
        if !(1..=MAX_RUNS).contains(&self.runs.len()) {
            return refuse("runs", format!("{} runs, want 1 to {MAX_RUNS}", self.runs.len()));
        }
        if self.max_abs_cte_m.is_some_and(|limit| !limit.is_finite() || limit <= 0.0) {
            return refuse("maxAbsCteM", "want a distance above 0".into());
        }
        if !(self.golden_tolerance > 0.0 && self.golden_tolerance <= 1.0) {
            return refuse("goldenTolerance", "want a number above 0 and up to 1".into());
        }
        for (index, run) in self.runs.iter().enumerate() {
            let at = |field: &str| format!("runs[{index}].{field}");
            for (field, name) in [("track", Some(&run.track)), ("light", run.light.as_ref())] {
                if name.is_some_and(|name| !is_name(name)) {
                    return refuse(&at(field), "want 1 to 40 of a-z, 0-9, - and _".into());
                }
            }
            if !(0.0..1.0).contains(&run.start) {
                return refuse(&at("start"), format!("{} is not in 0 up to 1", run.start));
            }
            if !(1..=MAX_LAPS).contains(&run.laps) {
                return refuse(&at("laps"), format!("{} is not in 1 to {MAX_LAPS}", run.laps));
            }
            if !(run.max_seconds > 0.0 && run.max_seconds <= MAX_SECONDS) {
                let why = format!("{} is not above 0 and up to {MAX_SECONDS}", run.max_seconds);
                return refuse(&at("maxSeconds"), why);
            }
        }
        Ok(())
    }
}

/// A name that is an argument of the twin and may not look like an option.
fn is_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=40).contains(&name.len())
        && name.starts_with(word)
        && name.chars().all(|c| word(c) || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"runs": [{"track": "oval", "laps": 3, "light": "noon"}]}"#;

    #[test]
    fn gaps_are_filled() {
        let scenario: Scenario = serde_json::from_str(GOOD).unwrap();
        scenario.check().unwrap();
        let run = &scenario.runs[0];
        assert_eq!((run.seed, run.laps, run.start, run.max_seconds), (0, 3, 0.0, 120.0));
        assert_eq!(serde_json::from_str::<Limits>("{}").unwrap(), Limits::default());
    }

    #[test]
    fn broken_scenarios_are_refused_by_field() {
        for (from, to, want) in [
            (r#"{"track": "oval", "laps": 3, "light": "noon"}"#, "", "runs"),
            ("oval", "--report", "runs[0].track"),
            ("oval", "", "runs[0].track"),
            ("noon", "../x", "runs[0].light"),
            (r#""laps": 3"#, r#""laps": 0"#, "runs[0].laps"),
            (r#""laps": 3"#, r#""start": 1.0"#, "runs[0].start"),
            (r#""laps": 3"#, r#""maxSeconds": 0"#, "runs[0].maxSeconds"),
            (r#""laps": 3"#, r#""maxSeconds": 1e9"#, "runs[0].maxSeconds"),
            (r#"{"runs""#, r#"{"maxAbsCteM": -1, "runs""#, "maxAbsCteM"),
            (r#"{"runs""#, r#"{"goldenTolerance": 0, "runs""#, "goldenTolerance"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let scenario: Scenario = serde_json::from_str(&text).unwrap();
            let error = scenario.check().unwrap_err().to_string();
            assert!(error.contains(want), "{to}: {error}");
        }
        assert!(serde_json::from_str::<Scenario>(&GOOD.replace("laps", "lap")).is_err());
        assert!(serde_json::from_str::<Limits>(r#"{"wall_seconds": 1}"#).is_err());
    }
}
