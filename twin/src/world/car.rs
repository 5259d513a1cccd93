//! The car's motion: a kinematic bicycle with a motor, drag and a brake.
//!
//! At the speeds of a Donkey car (about a metre a second) tyres do not slip, so geometry is enough.

use super::geometry::{Pose, Vec2, wrap_angle};

/// Steering lock in radians: 16 degrees, the simulator's own.
pub const MAX_STEER: f64 = 16.0 * std::f64::consts::PI / 180.0;
/// Distance between the axles in metres.
pub const WHEELBASE_M: f64 = 0.2125;
/// The car as a circle for collisions, in metres.
pub const RADIUS_M: f64 = 0.11;
/// How fast the front wheels turn, in radians a second: a hobby servo.
const STEER_RATE: f64 = 4.0;
/// Acceleration at full throttle from rest, in m/s^2.
const THRUST: f64 = 5.0;
/// Deceleration per metre a second: with the thrust above, throttle 0.3 gives 0.97 m/s.
const DRAG: f64 = 1.5;
/// Rolling resistance in m/s^2.
const ROLLING: f64 = 0.04;
/// Deceleration at full brake in m/s^2.
const BRAKE: f64 = 6.0;
/// Length of one physics step in seconds.
pub const STEP_S: f64 = 0.01;

/// What a client asks the car to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Control {
    /// -1 is full left, 1 full right.
    pub steering: f64,
    /// -1 is full reverse, 1 full ahead.
    pub throttle: f64,
    /// 0 is off, 1 full.
    pub brake: f64,
}

impl Control {
    /// The same request within its limits.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            steering: self.steering.clamp(-1.0, 1.0),
            throttle: self.throttle.clamp(-1.0, 1.0),
            brake: self.brake.clamp(0.0, 1.0),
        }
    }
}

/// The car's state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Car {
    /// Centre and heading.
    pub pose: Pose,
    /// Speed along the direction of travel in m/s; negative in reverse.
    pub speed: f64,
    /// Angle of the front wheels in radians, positive to the right.
    pub wheel: f64,
    /// Turning rate in rad/s, clockwise.
    pub yaw_rate: f64,
    /// Longitudinal acceleration in m/s^2.
    pub accel: f64,
}

impl Car {
    /// A car at rest.
    pub fn at(pose: Pose) -> Self {
        Self { pose, ..Self::default() }
    }

    /// Velocity over the ground in m/s.
    pub fn velocity(&self) -> Vec2 {
        Vec2::heading(self.pose.yaw + self.slip()) * self.speed
    }

    /// Angle between heading and travel at the car's centre, half way between the axles.
    fn slip(&self) -> f64 {
        (0.5 * self.wheel.tan()).atan()
    }

    /// Moves the car on by [`STEP_S`].
    pub fn step(&mut self, control: Control) {
        let control = control.clamped();
        let wanted = control.steering * MAX_STEER;
        let reach = STEER_RATE * STEP_S;
        self.wheel += (wanted - self.wheel).clamp(-reach, reach);

        let pushed = self.speed + (THRUST * control.throttle - DRAG * self.speed) * STEP_S;
        // Resistance stops a car, it never drives it backwards.
        let resist = (ROLLING + BRAKE * control.brake) * STEP_S;
        let speed = pushed.signum() * (pushed.abs() - resist).max(0.0);
        self.accel = (speed - self.speed) / STEP_S;
        self.speed = speed;

        let slip = self.slip();
        self.yaw_rate = speed * slip.cos() * self.wheel.tan() / WHEELBASE_M;
        self.pose.at = self.pose.at + Vec2::heading(self.pose.yaw + slip) * (speed * STEP_S);
        self.pose.yaw = wrap_angle(self.pose.yaw + self.yaw_rate * STEP_S);
    }

    /// Stops the car where it stood before it ran into something.
    pub fn stop_at(&mut self, pose: Pose) {
        *self = Self { wheel: self.wheel, ..Self::at(pose) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(control: Control, seconds: f64) -> Car {
        let mut car = Car::default();
        for _ in 0..(seconds / STEP_S).round() as usize {
            car.step(control);
        }
        car
    }

    #[test]
    fn throttle_settles_at_a_speed() {
        let car = drive(Control { throttle: 0.3, ..Control::default() }, 6.0);
        assert!((car.speed - 0.973).abs() < 0.01, "{}", car.speed);
        assert!(car.pose.at.x.abs() < 1e-9 && car.pose.at.z > 4.0);
    }

    #[test]
    fn right_is_clockwise_and_the_circle_closes() {
        let mut car = Car { speed: 1.0, ..Car::default() };
        let control = Control { steering: 1.0, throttle: 0.3, brake: 0.0 };
        car.step(control);
        let mut turned = 0.0;
        let (mut far, mut steps) = (0.0_f64, 0);
        while turned < std::f64::consts::TAU && steps < 10_000 {
            car.step(control);
            turned += car.yaw_rate * STEP_S;
            far = far.max(car.pose.at.x);
            steps += 1;
        }
        // Twice the turning radius at the car's centre, to the right of where it started.
        assert!((far / 2.0 - 0.75).abs() < 0.03, "radius {}", far / 2.0);
    }

    #[test]
    fn a_brake_stops_and_does_not_reverse() {
        let mut car = Car { speed: 1.0, ..Car::default() };
        for _ in 0..100 {
            car.step(Control { brake: 1.0, ..Control::default() });
            assert!(car.speed >= 0.0);
        }
        assert!(car.speed.abs() < 1e-12);
    }

    #[test]
    fn requests_are_clamped() {
        let wild = Control { steering: 9.0, throttle: -9.0, brake: 9.0 };
        assert_eq!(wild.clamped(), Control { steering: 1.0, throttle: -1.0, brake: 1.0 });
    }
}
