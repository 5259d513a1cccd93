//! Points and headings on the ground plane.

use std::f64::consts::{PI, TAU};
use std::ops::{Add, Mul, Sub};

/// A point or a direction on the ground, in metres: x to the right, z ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vec2 {
    /// To the right.
    pub x: f64,
    /// Ahead.
    pub z: f64,
}

/// Where a car stands and where it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pose {
    /// Position of the car's centre, in metres.
    pub at: Vec2,
    /// Heading in radians, clockwise from +z.
    pub yaw: f64,
}

impl Vec2 {
    /// A point from its two coordinates in metres.
    pub const fn new(x: f64, z: f64) -> Self {
        Self { x, z }
    }

    /// The unit vector that a heading points along.
    pub fn heading(yaw: f64) -> Self {
        Self::new(yaw.sin(), yaw.cos())
    }

    /// The unit vector to the right of a heading.
    pub fn right_of(yaw: f64) -> Self {
        Self::new(yaw.cos(), -yaw.sin())
    }

    /// Scalar product.
    pub fn dot(self, other: Self) -> f64 {
        self.x * other.x + self.z * other.z
    }

    /// Length in metres.
    pub fn length(self) -> f64 {
        self.dot(self).sqrt()
    }

    /// The heading of this direction in radians, clockwise from +z.
    pub fn yaw(self) -> f64 {
        self.x.atan2(self.z)
    }
}

impl Add for Vec2 {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::new(self.x + other.x, self.z + other.z)
    }
}

impl Sub for Vec2 {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::new(self.x - other.x, self.z - other.z)
    }
}

impl Mul<f64> for Vec2 {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self::new(self.x * factor, self.z * factor)
    }
}

/// The same angle in (-pi, pi].
pub fn wrap_angle(angle: f64) -> f64 {
    let turned = angle.rem_euclid(TAU);
    if turned > PI { turned - TAU } else { turned }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaw_turns_clockwise_from_z() {
        let right = Vec2::heading(PI / 2.0);
        assert!((right.x - 1.0).abs() < 1e-12 && right.z.abs() < 1e-12);
        assert!((Vec2::right_of(0.0).x - 1.0).abs() < 1e-12);
        assert!((Vec2::heading(0.7).yaw() - 0.7).abs() < 1e-12);
    }

    #[test]
    fn angles_wrap_to_half_a_turn() {
        assert!((wrap_angle(3.0 * PI / 2.0) + PI / 2.0).abs() < 1e-12);
        assert!((wrap_angle(-3.0 * PI / 2.0) - PI / 2.0).abs() < 1e-12);
    }
}
