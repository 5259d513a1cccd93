//! The tracks themselves: all drawn here, under the scene names that clients ask for.
//!
//! The first four keep the order old clients rely on (they choose by index). Outlines are our own;
//! only the names are shared with the simulator the protocol comes from.

use super::geometry::Vec2;
use super::spline;
use super::track::{HALF_WIDTH_M, Obstacle, Paint, SPACING_M, Track};
use std::f64::consts::TAU;

/// Scene names in the order they are listed on the wire.
pub const NAMES: [&str; 5] =
    ["generated_road", "warehouse", "sparkfun_avc", "generated_track", "mountain_track"];

/// The seed of `generated_road` until a client asks for another (`regen_road`).
pub const ROAD_SEED: u64 = 7;

/// Tightest bend of a generated road, in metres: the car turns on 0.74 m.
const TIGHTEST_M: f64 = 1.25;

const GRASS: Paint = Paint {
    ground: [86, 124, 62],
    grain: 26,
    road: [74, 74, 78],
    centre: [226, 190, 48],
    edge: [232, 232, 228],
    wall: [108, 92, 70],
};

/// The track of that name; none when there is no such scene.
pub fn track(name: &str) -> Option<Track> {
    match name {
        "generated_road" => Some(generated_road(ROAD_SEED)),
        "warehouse" => Some(warehouse()),
        "sparkfun_avc" => Some(sparkfun_avc()),
        "generated_track" => Some(generated_track()),
        "mountain_track" => Some(mountain_track()),
        _ => None,
    }
}

fn build(
    (name, about): (&'static str, &'static str),
    control: &[(f64, f64)],
    paint: Paint,
    wall: &'static str,
) -> Track {
    let control: Vec<Vec2> = control.iter().map(|&(x, z)| Vec2::new(x, z)).collect();
    let (points, spacing) = spline::closed(&control, SPACING_M);
    let half_width = HALF_WIDTH_M;
    Track { name, about, points, spacing, half_width, obstacles: Vec::new(), paint, wall }
}

/// Puts an obstacle beside the road at a fraction of the lap; `side` is +1 for right, -1 for left.
fn beside(track: &mut Track, fraction: f64, side: f64, gap: f64, kind: Obstacle) {
    let pose = track.pose_at(fraction);
    let away = side * (track.half_width + gap + kind.radius);
    track.obstacles.push(Obstacle { at: pose.at + Vec2::right_of(pose.yaw) * away, ..kind });
}

const CONE: Obstacle =
    Obstacle { name: "cone", at: Vec2::new(0.0, 0.0), radius: 0.05, height: 0.16 };
const PILLAR: Obstacle =
    Obstacle { name: "pillar", at: Vec2::new(0.0, 0.0), radius: 0.12, height: 0.9 };

/// A road made from a seed: a ring whose radius swings by a few waves.
///
/// The swing is reduced until no bend is tighter than the car can take with room to spare, so every
/// seed gives a drivable road.
pub fn generated_road(seed: u64) -> Track {
    let mut rng = fastrand::Rng::with_seed(seed);
    let waves: Vec<(f64, f64, f64)> = (2..6)
        .map(|wave| (f64::from(wave), (0.4 + 0.6 * rng.f64()) / f64::from(wave), TAU * rng.f64()))
        .collect();
    let stretch = 1.15 + 0.35 * rng.f64();
    let mut swing = 0.75;
    loop {
        let outline: Vec<(f64, f64)> = (0..48)
            .map(|i| {
                let angle = TAU * f64::from(i) / 48.0;
                let sum: f64 = waves.iter().map(|(k, a, p)| a * (k * angle + p).cos()).sum();
                let radius = 3.6 * (1.0 + swing * sum).max(0.35);
                (stretch * radius * angle.sin(), radius * angle.cos())
            })
            .collect();
        let about = "a ring with random swings; a client can ask for another one by seed";
        let track = build(("generated_road", about), &outline, GRASS, "fence");
        if tightest(&track) >= TIGHTEST_M || swing < 0.01 {
            return track;
        }
        swing *= 0.9;
    }
}

fn warehouse() -> Track {
    let control = [
        (-4.8, -2.4),
        (-5.2, 0.0),
        (-4.8, 2.4),
        (-2.8, 3.3),
        (-1.3, 2.4),
        (0.0, 1.7),
        (1.3, 2.4),
        (2.8, 3.3),
        (4.8, 2.4),
        (5.2, 0.0),
        (4.8, -2.4),
        (2.4, -2.9),
        (0.0, -2.9),
        (-2.4, -2.9),
    ];
    let paint = Paint {
        ground: [142, 140, 134],
        grain: 10,
        road: [92, 90, 90],
        centre: [232, 200, 60],
        edge: [240, 240, 240],
        wall: [176, 168, 152],
    };
    let about = "indoors: concrete, pillars, a notch in one long side";
    let mut track = build(("warehouse", about), &control, paint, "wall");
    for (fraction, side) in [(0.08, 1.0), (0.3, -1.0), (0.5, 1.0), (0.72, 1.0), (0.9, -1.0)] {
        beside(&mut track, fraction, side, 0.35, PILLAR);
    }
    track
}

fn sparkfun_avc() -> Track {
    let control = [
        (-5.0, -3.2),
        (-5.2, 0.0),
        (-5.0, 3.0),
        (-2.6, 3.6),
        (-0.4, 3.0),
        (0.0, 0.9),
        (1.0, -0.4),
        (3.2, -0.2),
        (5.2, 0.2),
        (6.4, -1.4),
        (5.2, -3.4),
        (2.6, -3.6),
        (0.0, -3.5),
        (-2.6, -3.6),
    ];
    let paint = Paint {
        ground: [120, 112, 104],
        grain: 18,
        road: [58, 58, 64],
        centre: [230, 196, 40],
        edge: [228, 228, 232],
        wall: [130, 70, 60],
    };
    let about = "a car park with a corner cut out, cones outside the bends";
    let mut track = build(("sparkfun_avc", about), &control, paint, "fence");
    for fraction in [0.16, 0.18, 0.2, 0.27, 0.29, 0.62, 0.64, 0.66, 0.98] {
        beside(&mut track, fraction, -1.0, 0.04, CONE);
    }
    track
}

fn generated_track() -> Track {
    let control = [
        (-3.6, -3.0),
        (-5.6, -1.4),
        (-5.4, 1.2),
        (-4.0, 3.2),
        (-1.8, 3.2),
        (-0.5, 1.9),
        (1.0, 1.0),
        (2.4, 1.9),
        (3.4, 3.3),
        (5.2, 3.6),
        (6.6, 2.2),
        (6.4, -0.4),
        (4.6, -2.4),
        (2.0, -2.6),
        (-0.8, -3.4),
    ];
    let about = "tarmac on grass: two lobes, bends both ways";
    build(("generated_track", about), &control, GRASS, "fence")
}

fn mountain_track() -> Track {
    let control = [
        (-7.2, -3.0),
        (-7.8, -0.6),
        (-7.2, 2.2),
        (-5.2, 3.3),
        (-3.5, 2.1),
        (-2.9, -0.1),
        (-1.2, -1.0),
        (0.5, -0.1),
        (1.0, 1.8),
        (2.7, 2.9),
        (4.4, 1.9),
        (5.2, 0.5),
        (6.6, 0.0),
        (8.0, -1.0),
        (7.6, -3.2),
        (5.2, -4.2),
        (2.0, -3.9),
        (-1.2, -4.3),
        (-4.6, -4.2),
    ];
    let paint = Paint {
        ground: [168, 142, 104],
        grain: 30,
        road: [88, 80, 76],
        centre: [236, 206, 72],
        edge: [240, 234, 220],
        wall: [120, 96, 84],
    };
    build(("mountain_track", "sand and rock: a long serpentine"), &control, paint, "rock")
}

/// Radius of the tightest bend in metres.
pub fn tightest(track: &Track) -> f64 {
    // Headings a quarter of a metre apart: closer together rounding would dominate.
    let (count, reach) = (track.points.len(), 6);
    (0..count)
        .map(|i| {
            let turn =
                track.heading((i + reach) % count) - track.heading((i + count - reach) % count);
            let turn = super::geometry::wrap_angle(turn).abs().max(1e-9);
            2.0 * reach as f64 * track.spacing / turn
        })
        .fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Track> {
        NAMES.iter().map(|name| track(name).unwrap()).collect()
    }

    /// Two stretches that are far apart along the road must not touch on the ground.
    fn closest_approach(track: &Track) -> f64 {
        let (count, apart) = (track.points.len(), (2.0 / track.spacing) as usize);
        let mut closest = f64::INFINITY;
        for i in (0..count).step_by(5) {
            for j in (i + apart..count.min(i + count - apart)).step_by(5) {
                closest = closest.min((track.points[i] - track.points[j]).length());
            }
        }
        closest
    }

    #[test]
    fn every_track_can_be_driven() {
        for track in all() {
            let (tight, gap) = (tightest(&track), closest_approach(&track));
            assert!(tight > 1.1, "{}: tightest bend {tight:.2} m", track.name);
            assert!(gap > 2.0 * HALF_WIDTH_M + 0.2, "{}: stretches {gap:.2} m apart", track.name);
            let length = track.length();
            assert!((15.0..60.0).contains(&length), "{}: {length:.1} m", track.name);
        }
    }

    #[test]
    fn every_seed_gives_a_drivable_road() {
        for seed in 0..60 {
            let track = generated_road(seed);
            let (tight, gap) = (tightest(&track), closest_approach(&track));
            assert!(tight >= TIGHTEST_M && gap > 0.95, "seed {seed}: {tight:.2} m, {gap:.2} m");
        }
    }

    #[test]
    fn tracks_differ_and_digests_tell() {
        let digests: std::collections::BTreeSet<String> = all().iter().map(Track::digest).collect();
        assert_eq!(digests.len(), NAMES.len());
        assert_eq!(generated_road(7).digest(), track("generated_road").unwrap().digest());
        assert_ne!(generated_road(8).digest(), generated_road(7).digest());
        let mut wider = generated_track();
        wider.half_width += 0.01;
        assert_ne!(wider.digest(), generated_track().digest());
    }

    /// Lap reports name tracks by these digests: a change here makes old laps laps of other tracks.
    #[test]
    fn digests_are_what_they_were() {
        let lines: Vec<String> =
            all().iter().map(|track| format!("{} {}", track.name, &track.digest()[..23])).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        generated_road sha256:587dd86fe3c538e9
        warehouse sha256:3fde14666d08fdc6
        sparkfun_avc sha256:3ef8492d1f142cf4
        generated_track sha256:846e03cc20e231e2
        mountain_track sha256:5df5551d0e90011a
        ");
    }

    #[test]
    fn nothing_stands_on_the_road() {
        for track in all() {
            for obstacle in &track.obstacles {
                let fix = track.find(obstacle.at);
                let gap = fix.cte.abs() - obstacle.radius - track.half_width;
                assert!(gap > 0.0, "{}", track.name);
                // A car on the road's very edge does touch a cone.
                let reach = super::super::car::RADIUS_M;
                assert!(obstacle.name != "cone" || gap < reach, "{}: {gap}", track.name);
            }
        }
    }

    #[test]
    fn right_of_the_road_is_positive() {
        for track in all() {
            let pose = track.pose_at(0.3);
            let right = track.find(pose.at + Vec2::right_of(pose.yaw) * 0.2);
            assert!((right.cte - 0.2).abs() < 0.01, "{}: {}", track.name, right.cte);
            let hinted = track.locate(pose.at + Vec2::right_of(pose.yaw) * -0.2, right.index);
            assert!((hinted.cte + 0.2).abs() < 0.01);
        }
    }
}
