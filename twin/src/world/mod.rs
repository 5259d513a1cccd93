//! Where the car is: tracks, motion, obstacles and laps. Pure values, no I/O and no clock.

pub mod car;
pub mod catalogue;
pub mod geometry;
pub mod laps;
pub mod spline;
pub mod track;
