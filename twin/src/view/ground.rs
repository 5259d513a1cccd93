//! The ground, painted once from above, with smaller copies for what is far away.

use super::{each, noise};
use crate::world::geometry::Vec2;
use crate::world::track::{Paint, Track};

/// Side of a texel in metres.
const TEXEL_M: f32 = 0.00625;
/// Halved copies after the full one; the smallest has texels of 20 cm.
const LEVELS: usize = 6;
/// Width of the painted lines in metres.
const LINE_M: f32 = 0.03;
/// Length of a dash and of the gap after it, in metres.
const DASH_M: f32 = 0.25;
/// Softness of painted edges in metres: about a texel, so that lines do not stair-step.
const SOFT_M: f32 = 0.006;

/// One scale of the painted ground.
#[derive(Debug)]
struct Level {
    width: usize,
    height: usize,
    per_metre: f32,
    rgb: Vec<[u8; 3]>,
}

/// The painted ground.
#[derive(Debug)]
pub struct Ground {
    origin: [f32; 2],
    size: [f32; 2],
    levels: Vec<Level>,
}

impl Ground {
    /// Paints a track. `shadow` (0 to 1) darkens soft patches; `seed` places grain and patches.
    pub fn paint(track: &Track, shadow: f32, seed: u64) -> Self {
        let (low, high) = track.bounds();
        let size = [(high.x - low.x) as f32, (high.z - low.z) as f32];
        let width = (size[0] / TEXEL_M).ceil() as usize;
        let height = (size[1] / TEXEL_M).ceil() as usize;
        let road = Distances::of(track, low, width, height);
        let mut rgb = Vec::with_capacity(width * height);
        let fields = Fields::new(seed, width, height);
        for row in 0..height {
            for column in 0..width {
                let (away, along) = road.cells[row * width + column];
                let grain = noise::hash(seed, column as i64, row as i64) & 255;
                let [shade, wide, worn] = fields.at(column, row);
                let dark = 1.0 - shadow * shade;
                let base =
                    texel(&track.paint, track.half_width as f32, (away, along), (wide, worn));
                let coarse = (grain as f32 / 255.0 - 0.5) * 2.0;
                let strength = if away.abs() < track.half_width as f32 {
                    5.0
                } else {
                    f32::from(track.paint.grain)
                };
                rgb.push(each(|i| ((base[i] + coarse * strength) * dark).clamp(0.0, 255.0) as u8));
            }
        }
        let mut levels = vec![Level { width, height, per_metre: 1.0 / TEXEL_M, rgb }];
        for _ in 1..LEVELS {
            let half = levels[levels.len() - 1].halved();
            levels.push(half);
        }
        Self { origin: [low.x as f32, low.z as f32], size, levels }
    }

    /// Puts the ground under a light: each value of each colour becomes another.
    #[must_use]
    pub fn lit(mut self, curves: &[[u8; 256]; 3]) -> Self {
        for texel in self.levels.iter_mut().flat_map(|level| &mut level.rgb) {
            *texel = each(|i| curves[i][usize::from(texel[i])]);
        }
        self
    }

    /// The copy whose texels are nearest to `footprint` metres, as an index for [`Self::at`].
    pub fn level_for(&self, footprint: f32) -> usize {
        let wanted = (footprint / TEXEL_M).max(1.0).log2().round() as usize;
        wanted.min(self.levels.len() - 1)
    }

    /// The colour at a place in metres; places outside take the nearest edge's colour.
    #[inline]
    pub fn at(&self, level: usize, x: f32, z: f32) -> [u8; 3] {
        let level = &self.levels[level];
        // By way of 32 bits, which is one instruction where 64 are several.
        let column = ((x - self.origin[0]) * level.per_metre).max(0.0) as u32 as usize;
        let row = ((z - self.origin[1]) * level.per_metre).max(0.0) as u32 as usize;
        level.rgb[row.min(level.height - 1) * level.width + column.min(level.width - 1)]
    }

    /// Lower corner and size of the world in metres.
    pub fn extent(&self) -> ([f32; 2], [f32; 2]) {
        (self.origin, self.size)
    }
}

impl Level {
    /// Each texel the mean of four.
    fn halved(&self) -> Self {
        let (width, height) = ((self.width / 2).max(1), (self.height / 2).max(1));
        let mut rgb = Vec::with_capacity(width * height);
        for row in 0..height {
            for column in 0..width {
                let mut sum = [0_u16; 3];
                for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let y = (2 * row + down).min(self.height - 1);
                    let x = (2 * column + right).min(self.width - 1);
                    let texel = self.rgb[y * self.width + x];
                    for (sum, value) in sum.iter_mut().zip(texel) {
                        *sum += u16::from(value);
                    }
                }
                rgb.push(each(|i| (sum[i] / 4) as u8));
            }
        }
        Self { width, height, per_metre: self.per_metre / 2.0, rgb }
    }
}

/// Gentle variation over the ground: shadow (0 to 1), and brightness beside and on the road (around
/// 0). Evaluated on a coarse grid, between which a straight line is good enough.
struct Fields {
    across: usize,
    grid: Vec<[f32; 3]>,
}

impl Fields {
    /// Texels between two places of the grid: 10 cm.
    const STEP: usize = 16;

    fn new(seed: u64, width: usize, height: usize) -> Self {
        let (across, up) = (width / Self::STEP + 2, height / Self::STEP + 2);
        let metres = |index: usize| (index * Self::STEP) as f32 * TEXEL_M;
        let grid = (0..across * up)
            .map(|cell| {
                let (x, z) = (metres(cell % across), metres(cell / across));
                let noise = |salt: u64, per_metre: f32| {
                    noise::smooth(seed ^ salt, x * per_metre, z * per_metre)
                };
                let shade = ((noise(0x5AD0, 0.9) - 0.52) * 6.0).clamp(0.0, 1.0);
                [shade, noise(0x6A55, 2.2) - 0.5, noise(0x70AD, 1.3) - 0.5]
            })
            .collect();
        Self { across, grid }
    }

    #[inline]
    fn at(&self, column: usize, row: usize) -> [f32; 3] {
        let first = row / Self::STEP * self.across + column / Self::STEP;
        let part = |index: usize| (index % Self::STEP) as f32 / Self::STEP as f32;
        let (right, up) = (part(column), part(row));
        let (low, high) = (&self.grid[first..first + 2], &self.grid[first + self.across..][..2]);
        each(|i| {
            let below = low[0][i] + (low[1][i] - low[0][i]) * right;
            let above = high[0][i] + (high[1][i] - high[0][i]) * right;
            below + (above - below) * up
        })
    }
}

/// The colour of one place, before grain and shadow: `away` from the centreline and `along` it in
/// metres; `wide` and `worn` vary the brightness beside and on the road.
fn texel(
    paint: &Paint,
    half: f32,
    (away, along): (f32, f32),
    (wide, worn): (f32, f32),
) -> [f32; 3] {
    let distance = away.abs();
    if distance > half + SOFT_M {
        return each(|i| f32::from(paint.ground[i]) + wide * f32::from(paint.grain) * 1.6);
    }
    let cover = |outside: f32| ((outside / SOFT_M) + 0.5).clamp(0.0, 1.0);
    let mix = |base: [f32; 3], over: [u8; 3], part: f32| {
        each(|i| base[i] + (f32::from(over[i]) - base[i]) * part)
    };
    let mut colour = each(|i| f32::from(paint.road[i]) + worn * 12.0);
    let edge = cover(distance - (half - LINE_M)) * cover(half - distance);
    colour = mix(colour, paint.edge, edge);
    if along.rem_euclid(2.0 * DASH_M) < DASH_M {
        colour = mix(colour, paint.centre, cover(LINE_M / 2.0 - distance));
    }
    mix(colour, paint.ground, cover(distance - half))
}

/// For each texel near the road: signed distance from the centreline, and distance along it.
struct Distances {
    cells: Vec<(f32, f32)>,
}

impl Distances {
    fn of(track: &Track, low: Vec2, width: usize, height: usize) -> Self {
        let mut cells = vec![(f32::INFINITY, 0.0_f32); width * height];
        let texel = f64::from(TEXEL_M);
        // Samples are 2 cm apart, so a disc of this reach around each covers the whole road.
        let reach = track.half_width + 0.03;
        for (index, point) in track.points.iter().enumerate() {
            let ahead = Vec2::heading(track.heading(index));
            let right = Vec2::new(ahead.z, -ahead.x);
            let centre = *point - low;
            let span = |middle: f64, limit: usize| {
                let first = ((middle - reach) / texel).max(0.0) as usize;
                first..(((middle + reach) / texel) as usize + 1).min(limit)
            };
            for row in span(centre.z, height) {
                for column in span(centre.x, width) {
                    let place =
                        Vec2::new((column as f64 + 0.5) * texel, (row as f64 + 0.5) * texel);
                    let away = place - centre;
                    let forward = away.dot(ahead);
                    // Only the slice that belongs to this sample; slices overlap a little in bends.
                    if forward.abs() > track.spacing {
                        continue;
                    }
                    let across = away.dot(right) as f32;
                    let cell = &mut cells[row * width + column];
                    if across.abs() < cell.0.abs() {
                        *cell = (across, (index as f64 * track.spacing + forward) as f32);
                    }
                }
            }
        }
        Self { cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::catalogue;

    #[test]
    fn road_line_and_ground_have_their_colours() {
        let track = catalogue::track("generated_track").unwrap();
        let ground = Ground::paint(&track, 0.0, 1);
        for fraction in [0.1, 0.35, 0.6, 0.85] {
            let pose = track.pose_at(fraction);
            let look = |right: f64| {
                let at = pose.at + Vec2::right_of(pose.yaw) * right;
                ground.at(0, at.x as f32, at.z as f32)
            };
            let grey = |rgb: [u8; 3]| rgb[0].abs_diff(rgb[1]) < 12;
            assert!(grey(look(0.18)) && look(0.18)[0] < 110, "road {:?}", look(0.18));
            assert!(look(0.36)[0] > 190, "edge {:?}", look(0.36));
            assert!(look(-0.36)[0] > 190, "edge {:?}", look(-0.36));
            let grass = look(0.7);
            assert!(grass[1] > grass[0] && grass[1] > grass[2], "ground {grass:?}");
        }
    }

    #[test]
    fn far_copies_exist_and_places_outside_are_safe() {
        let track = catalogue::track("warehouse").unwrap();
        let ground = Ground::paint(&track, 0.3, 1);
        assert_eq!(ground.level_for(0.0), 0);
        assert_eq!(ground.level_for(1e9), LEVELS - 1);
        for level in 0..LEVELS {
            let _ = ground.at(level, -1e6, 1e6);
        }
    }
}
