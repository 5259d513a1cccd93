//! One car on one track: world, view, faults and the judge advanced together, frame by frame.
//!
//! There is no I/O and no clock in here. The same scenario and the same controls give the same
//! bytes, which is what makes a lap something that can be attested and repeated.

use crate::view::camera::{Camera, CameraRequest};
use crate::view::encode::{EncodeError, Picture, crc32};
use crate::view::render::Renderer;
use crate::wire::outbound::{self, Telemetry};
use crate::world::car::{Car, Control, RADIUS_M, STEP_S};
use crate::world::geometry::{Pose, Vec2};
use crate::world::laps::{LapCounter, Reason};
use crate::world::track::{Fix, SAMPLES_PER_NODE, Track};
use std::collections::VecDeque;

mod scenario;
#[cfg(test)]
mod tests;

pub use scenario::{Judge, Scenario, TracePoint};

/// Simulated time between two frames: 20 Hz, the simulator's own rate.
pub const FRAME_S: f64 = 0.05;
/// A car this much away from what it touched touches it no longer, in metres. Without it a car that
/// pushes against a wall would be told of a new hit each time it is stopped.
const CLEAR_M: f64 = 0.03;
/// Physics steps in a frame.
const STEPS_PER_FRAME: u64 = 5;

/// What one frame of driving gave.
#[derive(Debug, Default)]
pub struct Tick {
    /// Bytes for the client.
    pub bytes: Vec<u8>,
    /// Whether a telemetry frame is among them.
    pub framed: bool,
    /// A lap was finished: its number and its time in seconds.
    pub lap: Option<(usize, f64)>,
    /// The run is over: passed, or failed for a reason.
    pub over: Option<Option<Reason>>,
    /// The connection is to be closed now, by fault.
    pub close: bool,
}

/// The state of a run.
#[derive(Debug)]
pub struct Drive {
    track: Track,
    scenario: Scenario,
    renderer: Renderer,
    cameras: (Camera, Option<Camera>),
    home: Pose,
    car: Car,
    fix: Fix,
    steps: u64,
    frames: u64,
    control: Control,
    control_at: f64,
    counter: LapCounter,
    launched: bool,
    hit: Option<&'static str>,
    touching: bool,
    hits: u64,
    failed: Option<Reason>,
    losses: fastrand::Rng,
    late: VecDeque<Vec<u8>>,
    frozen: Option<Vec<u8>>,
    trace: Vec<TracePoint>,
}

impl Drive {
    /// Puts a car on a track. Paints the ground, which takes a fraction of a second.
    pub fn new(track: Track, scenario: Scenario) -> Self {
        let home = track.pose_at(scenario.start);
        let fix = track.find(home.at);
        Self {
            renderer: Renderer::new(&track, scenario.light.light(scenario.seed), scenario.seed),
            cameras: (Camera::default(), None),
            car: Car::at(home),
            counter: LapCounter::new(track.length(), fix, 0.0),
            losses: fastrand::Rng::with_seed(scenario.seed ^ 0xD20B),
            home,
            fix,
            steps: 0,
            frames: 0,
            control: Control::default(),
            control_at: 0.0,
            launched: false,
            hit: None,
            touching: false,
            hits: 0,
            failed: None,
            late: VecDeque::new(),
            frozen: None,
            trace: Vec::new(),
            track,
            scenario,
        }
    }

    /// Simulated seconds since the start.
    pub fn now(&self) -> f64 {
        // Whole steps divided once: summing 0.01 would drift.
        self.steps as f64 / 100.0
    }

    /// The track driven on.
    pub fn track(&self) -> &Track {
        &self.track
    }

    /// The scenario.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Times of the finished laps in seconds.
    pub fn lap_times(&self) -> &[f64] {
        self.counter.times()
    }

    /// Collisions so far.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Frames so far; kept only for judged runs, which are bounded.
    pub fn trace(&self) -> &[TracePoint] {
        &self.trace
    }

    /// Takes a control; it holds until the next one.
    pub fn control(&mut self, control: Control) {
        self.control = control.clamped();
        self.control_at = self.now();
    }

    /// Changes a camera.
    pub fn camera(&mut self, second: bool, request: &CameraRequest) {
        let camera = Camera::with(request);
        if second {
            self.cameras.1 = Some(camera);
        } else {
            self.cameras.0 = camera;
        }
    }

    /// Puts the car back to where it started; the lap under way counts for nothing.
    pub fn reset(&mut self) {
        self.place(self.home);
    }

    /// Puts the car anywhere, heading along the road unless told otherwise.
    ///
    /// Refused in a judged run, where it would be a short cut.
    pub fn set_position(&mut self, at: Vec2, yaw: Option<f64>) -> bool {
        if self.scenario.judge.is_some() {
            return false;
        }
        let yaw = yaw.unwrap_or_else(|| self.track.find(at).yaw);
        self.place(Pose { at, yaw });
        true
    }

    fn place(&mut self, pose: Pose) {
        self.car = Car::at(pose);
        self.control = Control::default();
        self.fix = self.track.find(pose.at);
        self.counter.restart(self.fix, self.now());
        self.launched = false;
        self.hit = None;
        self.touching = false;
    }

    /// The frame of the moment the run begins; nothing has moved yet.
    pub fn first(&mut self) -> Result<Tick, EncodeError> {
        let mut tick = Tick::default();
        self.frame(&mut tick)?;
        Ok(tick)
    }

    /// Moves the world on by [`FRAME_S`] and gives the next frame.
    pub fn advance(&mut self) -> Result<Tick, EncodeError> {
        let mut tick = Tick::default();
        if self.scenario.watchdog.is_some_and(|limit| self.now() - self.control_at > limit) {
            self.control = Control { brake: 1.0, throttle: 0.0, ..self.control };
        }
        for _ in 0..STEPS_PER_FRAME {
            self.step(&mut tick);
            if tick.over.is_some() {
                break;
            }
        }
        let out_of_time =
            self.scenario.judge.is_some_and(|judge| self.now() >= judge.max_seconds - STEP_S / 2.0);
        if tick.over.is_none() && out_of_time {
            self.fail(&mut tick, Reason::Time);
        }
        if !self.launched {
            // Clients arm their stop watch by a first crossing.
            self.launched = true;
            tick.bytes.extend(outbound::crossed_line(self.now()));
        }
        self.frame(&mut tick)?;
        Ok(tick)
    }

    fn step(&mut self, tick: &mut Tick) {
        let before = self.car.pose;
        self.car.step(self.control);
        self.steps += 1;
        let touched = self.touched(RADIUS_M);
        if let Some(name) = touched {
            self.car.stop_at(before);
            if !self.touching {
                self.hit = Some(name);
                self.hits += 1;
                self.fail(tick, Reason::Hit);
            }
        }
        self.touching =
            touched.is_some() || self.touching && self.touched(RADIUS_M + CLEAR_M).is_some();
        self.fix = self.track.locate(self.car.pose.at, self.fix.index);
        let now = self.now();
        if let Some(time) = self.counter.update(self.fix, now) {
            let laps = self.counter.times().len();
            tick.lap = Some((laps, time));
            tick.bytes.extend(outbound::crossed_line(now));
            if self.scenario.judge.is_some_and(|judge| laps >= judge.laps as usize) {
                tick.over.get_or_insert(None);
            }
        }
        if self.fix.cte.abs() > self.track.half_width {
            self.fail(tick, Reason::OffRoad);
        }
    }

    fn fail(&mut self, tick: &mut Tick, reason: Reason) {
        if self.scenario.judge.is_some() && tick.over.is_none() {
            tick.over = Some(Some(reason));
            self.failed = Some(reason);
        }
    }

    /// What is within `reach` metres of the car's centre, if anything.
    fn touched(&self, reach: f64) -> Option<&'static str> {
        let at = self.car.pose.at;
        let obstacle = self
            .track
            .obstacles
            .iter()
            .find(|obstacle| (obstacle.at - at).length() < obstacle.radius + reach);
        let (low, high) = self.track.bounds();
        let inside = at.x > low.x + reach
            && at.x < high.x - reach
            && at.z > low.z + reach
            && at.z < high.z - reach;
        obstacle.map(|obstacle| obstacle.name).or((!inside).then_some(self.track.wall))
    }

    /// The picture a camera gives now, encoded; faults of the picture included.
    fn picture(&mut self, second: bool) -> Result<Vec<u8>, EncodeError> {
        let camera = if second { self.cameras.1.unwrap_or_default() } else { self.cameras.0 };
        if self.scenario.faults.black(self.now()) {
            let size = usize::from(camera.width) * usize::from(camera.height) * 3;
            let black = Picture { width: camera.width, height: camera.height, rgb: vec![0; size] };
            return black.encode(camera.encoding);
        }
        let frozen = !second && self.scenario.faults.frozen(self.now());
        if frozen && let Some(image) = &self.frozen {
            return Ok(image.clone());
        }
        let image =
            self.renderer.draw(&camera, self.car.pose, self.frames).encode(camera.encoding)?;
        if frozen {
            self.frozen = Some(image.clone());
        }
        Ok(image)
    }

    fn frame(&mut self, tick: &mut Tick) -> Result<(), EncodeError> {
        let image = self.picture(false)?;
        let second = if self.cameras.1.is_some() { Some(self.picture(true)?) } else { None };
        let velocity = self.car.velocity();
        let hit = self.hit.take();
        let telemetry = Telemetry {
            steering: self.control.steering,
            throttle: self.control.throttle,
            image: &image,
            second: second.as_deref(),
            hit: hit.unwrap_or("none"),
            time: self.now(),
            pose: self.car.pose,
            speed: self.car.speed,
            velocity: [velocity.x, velocity.z],
            accel: self.car.accel,
            yaw_rate: self.car.yaw_rate,
            cte: self.fix.cte,
            node: (self.fix.index / SAMPLES_PER_NODE, self.track.nodes()),
        };
        let line = telemetry.line();
        if self.scenario.judge.is_some() {
            self.trace.push(self.point(hit, crc32(&image)));
        }
        self.frames += 1;
        tick.close = self.scenario.faults.closes(self.now());
        self.late.push_back(line);
        if self.late.len() <= self.scenario.faults.frames_late(FRAME_S) {
            return Ok(());
        }
        let due = self.late.pop_front().unwrap_or_default();
        if !self.scenario.faults.loses(self.now(), &mut self.losses) {
            tick.bytes.extend(due);
            tick.framed = true;
        }
        Ok(())
    }

    fn point(&self, hit: Option<&'static str>, image_crc32: u32) -> TracePoint {
        TracePoint {
            frame: self.frames,
            t: self.now(),
            x: self.car.pose.at.x,
            z: self.car.pose.at.z,
            yaw: self.car.pose.yaw,
            speed: self.car.speed,
            steering: self.control.steering,
            throttle: self.control.throttle,
            brake: self.control.brake,
            cte: self.fix.cte,
            along: self.fix.along,
            lap: self.counter.times().len(),
            hit,
            image_crc32,
        }
    }
}
