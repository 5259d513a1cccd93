//! A closed track: centreline, width, what stands beside it, and where a car is on it.

use super::geometry::{Pose, Vec2};
use sha2::{Digest as _, Sha256};

/// Half the width of every road, in metres: a lane of 75 cm, as on the tracks of real Donkey races.
pub const HALF_WIDTH_M: f64 = 0.375;
/// Distance between centreline samples, in metres.
pub const SPACING_M: f64 = 0.02;
/// Free ground between the centreline's bounding box and the wall around the world, in metres.
pub const MARGIN_M: f64 = 1.6;
/// Centreline samples per node that the wire speaks of (`activeNode`, `node_position`).
pub const SAMPLES_PER_NODE: usize = 10;
/// How far along the centreline a car can get between two looks, in samples (both ways).
const WINDOW: usize = 60;
/// Beyond this distance from the hinted stretch the whole track is searched, in metres.
const LOST_M: f64 = 1.2;

/// Something round that stands on the ground.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Obstacle {
    /// The name reported as `hit`.
    pub name: &'static str,
    /// Its middle.
    pub at: Vec2,
    /// Its radius in metres.
    pub radius: f64,
    /// Its height in metres.
    pub height: f64,
}

/// How a track's ground is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    /// Beside the road.
    pub ground: [u8; 3],
    /// How much the ground's brightness varies, in grey levels.
    pub grain: u8,
    /// The road's surface.
    pub road: [u8; 3],
    /// The dashed line in the middle.
    pub centre: [u8; 3],
    /// The lines at both edges.
    pub edge: [u8; 3],
    /// The wall around the world.
    pub wall: [u8; 3],
}

/// A closed track.
#[derive(Clone, Debug)]
pub struct Track {
    /// The scene's name on the wire.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Centreline samples in driving order, evenly spaced, in metres.
    pub points: Vec<Vec2>,
    /// Distance between two samples in metres.
    pub spacing: f64,
    /// Half the road's width in metres.
    pub half_width: f64,
    /// What stands beside the road.
    pub obstacles: Vec<Obstacle>,
    /// Colours.
    pub paint: Paint,
    /// The name of the wall around the world, as reported in `hit`.
    pub wall: &'static str,
}

/// Where a point is relative to the centreline.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fix {
    /// The nearest centreline sample; the hint for the next look.
    pub index: usize,
    /// Distance along the centreline from its first sample, in metres.
    pub along: f64,
    /// Cross-track error in metres, positive to the right of the driving direction.
    pub cte: f64,
    /// The centreline's heading there, in radians.
    pub yaw: f64,
}

impl Track {
    /// Length of a lap in metres.
    pub fn length(&self) -> f64 {
        self.spacing * self.points.len() as f64
    }

    /// The sample `offset` steps after `index`, around the end.
    fn wrapped(&self, index: usize, offset: usize) -> usize {
        (index + offset) % self.points.len()
    }

    /// The pose on the centreline at a fraction of the lap (taken modulo one).
    pub fn pose_at(&self, fraction: f64) -> Pose {
        let index = (fraction.rem_euclid(1.0) * self.points.len() as f64) as usize;
        let index = index % self.points.len();
        Pose { at: self.points[index], yaw: self.heading(index) }
    }

    /// The centreline's heading at a sample, in radians.
    pub fn heading(&self, index: usize) -> f64 {
        let before = self.points[self.wrapped(index, self.points.len() - 1)];
        (self.points[self.wrapped(index, 1)] - before).yaw()
    }

    /// How many nodes the wire speaks of.
    pub fn nodes(&self) -> usize {
        self.points.len().div_ceil(SAMPLES_PER_NODE)
    }

    /// A node's pose; none beyond the last.
    pub fn node(&self, node: usize) -> Option<Pose> {
        let index = node.checked_mul(SAMPLES_PER_NODE)?;
        let at = *self.points.get(index)?;
        Some(Pose { at, yaw: self.heading(index) })
    }

    /// The ground inside the wall: lower and upper corner, in metres.
    pub fn bounds(&self) -> (Vec2, Vec2) {
        let (mut low, mut high) = (self.points[0], self.points[0]);
        for point in &self.points {
            low = Vec2::new(low.x.min(point.x), low.z.min(point.z));
            high = Vec2::new(high.x.max(point.x), high.z.max(point.z));
        }
        (low - Vec2::new(MARGIN_M, MARGIN_M), high + Vec2::new(MARGIN_M, MARGIN_M))
    }

    /// Where `at` is on the track, looked for around the sample `hint`.
    ///
    /// Looking nearby first keeps the answer continuous where two stretches come close.
    pub fn locate(&self, at: Vec2, hint: usize) -> Fix {
        let count = self.points.len();
        let start = (hint % count + count - WINDOW.min(count)) % count;
        let near = self.nearest(at, start, (2 * WINDOW).min(count));
        let fix = self.fix(at, near);
        if fix.cte.abs() > LOST_M { self.find(at) } else { fix }
    }

    /// Where `at` is on the track, looked for everywhere.
    pub fn find(&self, at: Vec2) -> Fix {
        self.fix(at, self.nearest(at, 0, self.points.len()))
    }

    fn nearest(&self, at: Vec2, start: usize, count: usize) -> usize {
        let mut best = (f64::INFINITY, start);
        for offset in 0..count {
            let index = self.wrapped(start, offset);
            let away = self.points[index] - at;
            let squared = away.dot(away);
            if squared < best.0 {
                best = (squared, index);
            }
        }
        best.1
    }

    fn fix(&self, at: Vec2, index: usize) -> Fix {
        let yaw = self.heading(index);
        let away = at - self.points[index];
        let along = index as f64 * self.spacing + away.dot(Vec2::heading(yaw));
        let cte = away.dot(Vec2::right_of(yaw));
        Fix { index, along: along.rem_euclid(self.length()), cte, yaw }
    }

    /// `sha256:` and the digest of centreline and width.
    ///
    /// Coordinates enter as whole tenths of a millimetre, so that the last bit of a sine on another
    /// processor does not make it another track.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |metres: f64| hash.update(((metres * 1e4).round() as i64).to_le_bytes());
        add(self.half_width);
        for point in &self.points {
            add(point.x);
            add(point.z);
        }
        use std::fmt::Write as _;
        hash.finalize().iter().fold(String::from("sha256:"), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
