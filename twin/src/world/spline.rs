//! Closed smooth curves, sampled at even distances.
//!
//! Uniform cubic B-splines: curvature is continuous, so a car never meets a sudden bend, and the
//! curve stays inside its control polygon.

use super::geometry::Vec2;

/// Steps per control point before the curve is resampled: about a centimetre apart on our tracks.
const STEPS: usize = 256;

/// The closed B-spline over `control`, as a dense polyline (not evenly spaced).
fn trace(control: &[Vec2]) -> Vec<Vec2> {
    let count = control.len();
    let mut curve = Vec::with_capacity(count * STEPS);
    for first in 0..count {
        let point = |offset: usize| control[(first + offset) % count];
        for step in 0..STEPS {
            let t = step as f64 / STEPS as f64;
            let (t2, t3) = (t * t, t * t * t);
            let weights = [
                (1.0 - t).powi(3) / 6.0,
                (3.0 * t3 - 6.0 * t2 + 4.0) / 6.0,
                (-3.0 * t3 + 3.0 * t2 + 3.0 * t + 1.0) / 6.0,
                t3 / 6.0,
            ];
            let sum = (0..4).fold(Vec2::default(), |sum, i| sum + point(i) * weights[i]);
            curve.push(sum);
        }
    }
    curve
}

/// Points of a closed polyline at even distances of about `spacing` metres.
///
/// Returns the points and the exact spacing; the last point is one spacing before the first.
pub fn resample(curve: &[Vec2], spacing: f64) -> (Vec<Vec2>, f64) {
    let next = |i: usize| curve[(i + 1) % curve.len()];
    let length: f64 = (0..curve.len()).map(|i| (next(i) - curve[i]).length()).sum();
    let count = (length / spacing).round().max(8.0) as usize;
    let even = length / count as f64;
    let mut points = Vec::with_capacity(count);
    let (mut segment, mut before) = (0, 0.0);
    for index in 0..count {
        let wanted = index as f64 * even;
        let mut step = (next(segment) - curve[segment]).length();
        while segment + 1 < curve.len() && before + step < wanted {
            before += step;
            segment += 1;
            step = (next(segment) - curve[segment]).length();
        }
        let part = if step > 0.0 { (wanted - before) / step } else { 0.0 };
        points.push(curve[segment] + (next(segment) - curve[segment]) * part);
    }
    (points, even)
}

/// A closed smooth curve over control points, at even distances of about `spacing` metres.
pub fn closed(control: &[Vec2], spacing: f64) -> (Vec<Vec2>, f64) {
    resample(&trace(control), spacing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_evenly_spaced_all_the_way_round() {
        let square =
            [Vec2::new(0.0, 0.0), Vec2::new(0.0, 6.0), Vec2::new(6.0, 6.0), Vec2::new(6.0, 0.0)];
        let (points, spacing) = closed(&square, 0.02);
        assert!((spacing - 0.02).abs() < 1e-3);
        for (i, point) in points.iter().enumerate() {
            let step = (points[(i + 1) % points.len()] - *point).length();
            assert!((step - spacing).abs() < spacing * 0.02, "step {i} is {step}");
        }
    }
}
