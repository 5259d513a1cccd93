//! The world a release drives in: a headless simulator that speaks the Donkey simulator's protocol.
//!
//! Reading order:
//! - [`world`]: where the car is. Tracks, the car's motion, obstacles, laps. No I/O, no clock, no
//!   floating point that depends on wall time.
//! - [`view`]: what the car sees. A baked ground texture, a ray per pixel, a light, a JPEG.
//! - [`wire`]: what is said. Framing and typed messages of the Donkey protocol.
//! - [`fault`]: what goes wrong on purpose.
//! - [`drive`]: one car on one track: world, view and faults advanced together, still without I/O.
//! - [`run`]: sockets, pacing, and the files a run leaves behind.
//! - [`cli`]: the command line.
//!
//! Inside, everything is in metres, seconds and radians. The wire speaks the simulator's mixture
//! (positions in metres, cross-track error in units of an eighth of a metre); [`wire::outbound`] is
//! the one place that converts.
//!
//! Axes are those of the simulator: x to the right, z ahead, y up; yaw turns clockwise seen from
//! above, starting at +z. Steering to the right is positive, and a car to the right of the
//! centreline has a positive cross-track error.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a simulator turns metres into pixels and back all day; `as` saturates, and what comes \
              from outside is clamped before it is cast"
)]

pub mod cli;
pub mod drive;
pub mod fault;
pub mod run;
pub mod view;
pub mod wire;
pub mod world;
