//! What decides how a run goes, and what is kept of it.

use crate::fault::Faults;
use crate::view::light::LightName;
use serde::Serialize;

/// When a run is over and what it takes to pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judge {
    /// Laps to be driven.
    pub laps: u32,
    /// Simulated seconds they may take together.
    pub max_seconds: f64,
}

/// Everything that decides how a run goes, apart from the client.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The light.
    pub light: LightName,
    /// Seed of grain, noise, the random light and dropped frames.
    pub seed: u64,
    /// Where on the lap the car starts (0 to 1).
    pub start: f64,
    /// What goes wrong.
    pub faults: Faults,
    /// Simulated seconds without a control after which the car is stopped; none: never.
    pub watchdog: Option<f64>,
    /// None: a free drive that nobody judges.
    pub judge: Option<Judge>,
}

/// One frame as written to a trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TracePoint {
    /// Number of the frame, from 0.
    pub frame: u64,
    /// Simulated seconds.
    pub t: f64,
    /// Position in metres.
    pub x: f64,
    /// Position in metres.
    pub z: f64,
    /// Heading in radians, clockwise from +z.
    pub yaw: f64,
    /// Speed in m/s.
    pub speed: f64,
    /// The control in force, -1 to 1.
    pub steering: f64,
    /// The control in force, -1 to 1.
    pub throttle: f64,
    /// The control in force, 0 to 1.
    pub brake: f64,
    /// Cross-track error in metres, positive to the right.
    pub cte: f64,
    /// Distance along the centreline in metres.
    pub along: f64,
    /// Finished laps.
    pub lap: usize,
    /// What was hit since the last frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit: Option<&'static str>,
    /// CRC-32 of the picture's bytes as the client gets them.
    pub image_crc32: u32,
}
