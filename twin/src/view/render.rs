//! A picture from the car's pose: ground by one ray per quarter pixel, wall, sky, obstacles.

use super::camera::Camera;
use super::each;
use super::encode::Picture;
use super::ground::Ground;
use super::light::Light;
use crate::world::geometry::Pose;
use crate::world::track::{Obstacle, Paint, Track};

/// Height of the wall around the world in metres.
const WALL_M: f32 = 0.45;
/// This far inside the wall a place is surely on the ground, in metres.
const INSIDE_M: f32 = 0.01;
/// Nearer things are not drawn, in metres.
const NEAR_M: f32 = 0.05;

/// Draws pictures of one track under one light.
#[derive(Debug)]
pub struct Renderer {
    ground: Ground,
    obstacles: Vec<Obstacle>,
    paint: Paint,
    light: Light,
    curves: [[u8; 256]; 3],
    seed: u64,
}

/// A camera pose resolved for one picture.
struct Eye {
    at: [f32; 3],
    /// Heading as (sine, cosine).
    yaw: [f32; 2],
    /// Downward tilt as (sine, cosine).
    tilt: [f32; 2],
    /// Half picture sizes at distance one.
    half: [f32; 2],
    /// Fine width and height: two rays a pixel each way.
    fine: [usize; 2],
}

impl Renderer {
    /// Paints the ground; the slow part, a fraction of a second.
    pub fn new(track: &Track, light: Light, seed: u64) -> Self {
        let curves = std::array::from_fn(|colour| light.curve(colour));
        Self {
            ground: Ground::paint(track, light.shadow, seed).lit(&curves),
            obstacles: track.obstacles.clone(),
            paint: track.paint,
            curves,
            light,
            seed,
        }
    }

    /// The picture from a car's pose; `frame` gives the sensor noise of this frame.
    pub fn draw(&self, camera: &Camera, pose: Pose, frame: u64) -> Picture {
        let eye = Eye::new(camera, pose);
        let mut fine = vec![[0_u8; 3]; eye.fine[0] * eye.fine[1]];
        for (row, line) in fine.chunks_exact_mut(eye.fine[0]).enumerate() {
            self.draw_row(&eye, row, line);
        }
        self.draw_obstacles(&eye, &mut fine);
        self.develop(camera, &eye, &fine, frame)
    }

    fn draw_row(&self, eye: &Eye, row: usize, line: &mut [[u8; 3]]) {
        let up = eye.up(row);
        let forward = eye.tilt[1] + up * eye.tilt[0];
        let rise = up * eye.tilt[1] - eye.tilt[0];
        let to_ground = if rise < -1e-4 { eye.at[1] / -rise } else { f32::INFINITY };
        // Size of a pixel on the ground: sideways by distance, ahead also by how flat the ray is.
        let pixel = 2.0 * eye.half[0] / eye.fine[0] as f32;
        let level = if to_ground.is_finite() {
            let flat = (pixel * to_ground / -rise.max(-1.0)).max(0.0);
            self.ground.level_for((pixel * to_ground * flat).sqrt() * 1.2)
        } else {
            0
        };
        let (origin, size) = self.ground.extent();
        let inside = [
            origin.map(|low| low + INSIDE_M),
            [origin[0] + size[0] - INSIDE_M, origin[1] + size[1] - INSIDE_M],
        ];
        let sky = self.sky(rise / forward.max(0.05));
        for (column, out) in line.iter_mut().enumerate() {
            let right = eye.across(column);
            let x = forward * eye.yaw[0] + right * eye.yaw[1];
            let z = forward * eye.yaw[1] - right * eye.yaw[0];
            // Most rays meet the ground well inside the wall, which is cheap to see.
            let ground = [eye.at[0] + x * to_ground, eye.at[2] + z * to_ground];
            if ground[0] > inside[0][0]
                && ground[0] < inside[1][0]
                && ground[1] > inside[0][1]
                && ground[1] < inside[1][1]
            {
                *out = self.ground.at(level, ground[0], ground[1]);
                continue;
            }
            let reach = |at: f32, step: f32, low: f32, size: f32| {
                if step > 0.0 {
                    (low + size - at) / step
                } else if step < 0.0 {
                    (low - at) / step
                } else {
                    f32::INFINITY
                }
            };
            let to_wall = reach(eye.at[0], x, origin[0], size[0])
                .min(reach(eye.at[2], z, origin[1], size[1]));
            *out = if to_ground < to_wall {
                self.ground.at(level, ground[0], ground[1])
            } else if eye.at[1] + rise * to_wall < WALL_M {
                let height = (eye.at[1] + rise * to_wall) / WALL_M;
                let shade = 0.7 + 0.3 * height.clamp(0.0, 1.0);
                self.lit(each(|i| (f32::from(self.paint.wall[i]) * shade) as u8))
            } else {
                sky
            };
        }
    }

    fn lit(&self, rgb: [u8; 3]) -> [u8; 3] {
        each(|i| self.curves[i][usize::from(rgb[i])])
    }

    /// The sky at a slope above the horizon.
    fn sky(&self, slope: f32) -> [u8; 3] {
        let part = (slope * 1.4).clamp(0.0, 1.0);
        std::array::from_fn(|i| {
            let (haze, sky) = (f32::from(self.light.haze[i]), f32::from(self.light.sky[i]));
            (haze + (sky - haze) * part) as u8
        })
    }

    /// Obstacles as upright shapes facing the camera, the farthest first.
    fn draw_obstacles(&self, eye: &Eye, fine: &mut [[u8; 3]]) {
        let mut seen: Vec<(f32, f32, &Obstacle)> = self
            .obstacles
            .iter()
            .map(|obstacle| {
                let (x, z) = (obstacle.at.x as f32 - eye.at[0], obstacle.at.z as f32 - eye.at[2]);
                let ahead = x * eye.yaw[0] + z * eye.yaw[1];
                (ahead, x * eye.yaw[1] - z * eye.yaw[0], obstacle)
            })
            .filter(|(ahead, _, _)| *ahead > NEAR_M)
            .collect();
        seen.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (ahead, right, obstacle) in seen {
            self.draw_obstacle(eye, fine, ahead, right, obstacle);
        }
    }

    fn draw_obstacle(
        &self,
        eye: &Eye,
        fine: &mut [[u8; 3]],
        ahead: f32,
        right: f32,
        obstacle: &Obstacle,
    ) {
        let (radius, height) = (obstacle.radius as f32, obstacle.height as f32);
        let (_, top) = eye.project(right, height - eye.at[1], ahead);
        let (_, bottom) = eye.project(right, -eye.at[1], ahead);
        let rows = clip(top.min(bottom), top.max(bottom), eye.fine[1]);
        for row in rows {
            // Back from the row to the height on the obstacle's plane.
            let up = eye.up(row);
            let slope = (up * eye.tilt[1] - eye.tilt[0]) / (eye.tilt[1] + up * eye.tilt[0]);
            let part = ((eye.at[1] + slope * ahead) / height).clamp(0.0, 1.0);
            let (wide, colour) = shape(obstacle.name, part);
            let level = slope * ahead;
            let (left, _) = eye.project(right - radius * wide, level, ahead);
            let (end, _) = eye.project(right + radius * wide, level, ahead);
            for column in clip(left, end, eye.fine[0]) {
                let side = (column as f32 - left) / (end - left).max(1.0);
                let shade = 1.0 - 0.35 * side;
                let colour = colour.map(|value| (f32::from(value) * shade) as u8);
                fine[row * eye.fine[0] + column] = self.lit(colour);
            }
        }
    }

    /// Four rays to a pixel, then what lens and sensor do.
    fn develop(&self, camera: &Camera, eye: &Eye, fine: &[[u8; 3]], frame: u64) -> Picture {
        let (width, height) = (usize::from(camera.width), usize::from(camera.height));
        let mut rng = fastrand::Rng::with_seed(self.seed ^ frame.wrapping_mul(0x9E37_79B9));
        let spot = self.light.glare.and_then(|glare| {
            let (up, strength) = (glare.height.tan(), glare.strength);
            let turn = glare.yaw - eye.yaw[0].atan2(eye.yaw[1]);
            (turn.cos() > 0.1).then(|| (eye.project(turn.tan(), up, 1.0), strength))
        });
        let mut rgb = vec![0; width * height * 3];
        for (row, line) in rgb.chunks_exact_mut(width * 3).enumerate() {
            let v = (row as f32 + 0.5) / height as f32 - 0.5;
            for (column, out) in line.chunks_exact_mut(3).enumerate() {
                let u = (column as f32 + 0.5) / width as f32 - 0.5;
                let first = 2 * row * eye.fine[0] + 2 * column;
                let below = first + eye.fine[0];
                let four = [fine[first], fine[first + 1], fine[below], fine[below + 1]];
                let factor = 1.0 - self.light.vignette * 2.0 * (u * u + v * v);
                let glow = spot.map_or(0.0, |((x, y), strength)| {
                    let (x, y) = (x / eye.fine[0] as f32 - 0.5, y / eye.fine[1] as f32 - 0.5);
                    strength / (1.0 + 22.0 * ((u - x).powi(2) + (v - y).powi(2)))
                });
                let bytes = rng.u64(..).to_le_bytes();
                let random = |i: usize| f32::from(bytes[i]);
                // The sum of two bytes has a triangular spread around 255.
                let grain = (random(0) + random(1) - 255.0) / 104.0 * self.light.noise;
                let mut pixel = each(|i| {
                    let two = |a: usize, b: usize| u16::from(four[a][i]) + u16::from(four[b][i]);
                    let sum = two(0, 1) + two(2, 3);
                    let tone = (random(2 + i) - 127.5) / 147.0 * self.light.noise;
                    f32::from(sum) / 4.0 * factor + glow + grain + tone
                });
                if camera.grey {
                    pixel = [0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]; 3];
                }
                out.copy_from_slice(&each(|i| nearest(pixel[i])));
            }
        }
        Picture { width: camera.width, height: camera.height, rgb }
    }
}

/// The nearest grey level. The standard `round` is a call into the C library on older processors,
/// and there are 57,600 values to a picture.
fn nearest(value: f32) -> u8 {
    let value = value.clamp(0.0, 255.0);
    let below = value as u8;
    below + u8::from(value - f32::from(below) >= 0.5)
}

/// Width (as part of the radius) and colour of an obstacle at a part of its height.
fn shape(name: &str, part: f32) -> (f32, [u8; 3]) {
    if name == "cone" {
        let striped = (0.45..0.65).contains(&part);
        (1.0 - 0.85 * part, if striped { [236, 232, 226] } else { [226, 92, 34] })
    } else {
        (1.0, if part < 0.35 { [222, 188, 52] } else { [168, 166, 160] })
    }
}

/// Whole numbers between two bounds that lie inside a picture.
fn clip(from: f32, to: f32, limit: usize) -> std::ops::Range<usize> {
    let first = from.max(0.0).min(limit as f32) as usize;
    first..(to.max(0.0).min(limit as f32).ceil() as usize)
}

impl Eye {
    fn new(camera: &Camera, pose: Pose) -> Self {
        let (sin, cos) = (pose.yaw.sin(), pose.yaw.cos());
        let x = pose.at.x + sin * camera.ahead + cos * camera.right;
        let z = pose.at.z + cos * camera.ahead - sin * camera.right;
        let tilt = camera.tilt.to_radians();
        let tall = (camera.fov.to_radians() / 2.0).tan();
        let wide = tall * f64::from(camera.width) / f64::from(camera.height);
        Self {
            at: [x as f32, camera.up as f32, z as f32],
            yaw: [sin as f32, cos as f32],
            tilt: [tilt.sin() as f32, tilt.cos() as f32],
            half: [wide as f32, tall as f32],
            fine: [usize::from(camera.width) * 2, usize::from(camera.height) * 2],
        }
    }

    /// Slope of a fine row, positive upwards, before the tilt.
    fn up(&self, row: usize) -> f32 {
        (1.0 - 2.0 * (row as f32 + 0.5) / self.fine[1] as f32) * self.half[1]
    }

    /// Slope of a fine column, positive to the right.
    fn across(&self, column: usize) -> f32 {
        (2.0 * (column as f32 + 0.5) / self.fine[0] as f32 - 1.0) * self.half[0]
    }

    /// Fine column and row of a place given relative to the camera (right, up, ahead on the level).
    fn project(&self, right: f32, up: f32, ahead: f32) -> (f32, f32) {
        let depth = (ahead * self.tilt[1] - up * self.tilt[0]).max(1e-3);
        let rise = up * self.tilt[1] + ahead * self.tilt[0];
        let column = (0.5 + 0.5 * right / depth / self.half[0]) * self.fine[0] as f32;
        let row = (0.5 - 0.5 * rise / depth / self.half[1]) * self.fine[1] as f32;
        (column, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::light::LightName;
    use crate::world::catalogue;

    fn renderer(name: &str, light: LightName) -> (Track, Renderer) {
        let track = catalogue::track(name).unwrap();
        let renderer = Renderer::new(&track, light.light(1), 1);
        (track, renderer)
    }

    fn brightness(picture: &Picture) -> f64 {
        picture.rgb.iter().map(|v| f64::from(*v)).sum::<f64>() / picture.rgb.len() as f64
    }

    #[test]
    fn rounding_is_the_standards() {
        for step in -400..=103_000 {
            let value = f32::from(i16::try_from(step / 4).unwrap_or(i16::MAX)) / 100.0 + 1e-3;
            for value in [value, value.floor() + 0.5, -value] {
                assert_eq!(nearest(value), value.round().clamp(0.0, 255.0) as u8, "{value}");
            }
        }
    }

    #[test]
    fn the_road_is_ahead_and_the_sky_above() {
        let (track, renderer) = renderer("generated_track", LightName::Overcast);
        let picture = renderer.draw(&Camera::default(), track.pose_at(0.0), 0);
        let at = |column: usize, row: usize| &picture.rgb[(row * 160 + column) * 3..][..3];
        assert!(at(80, 2)[2] > 120, "sky {:?}", at(80, 2));
        let road = at(60, 112);
        assert!(road[0].abs_diff(road[1]) < 25 && road[0] < 110, "road {road:?}");
    }

    #[test]
    fn the_same_frame_is_the_same_bytes_and_noise_changes_by_frame() {
        let (track, renderer) = renderer("mountain_track", LightName::Lamps);
        let draw = |frame| renderer.draw(&Camera::default(), track.pose_at(0.4), frame);
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn lights_differ() {
        let mean = |light| {
            let (track, renderer) = renderer("generated_road", light);
            brightness(&renderer.draw(&Camera::default(), track.pose_at(0.2), 0))
        };
        let (day, dusk) = (mean(LightName::Day), mean(LightName::Dusk));
        assert!(dusk < day * 0.75, "day {day:.1}, dusk {dusk:.1}");
    }

    #[test]
    fn a_cone_ahead_is_seen_where_it_stands() {
        let (mut track, _) = renderer("sparkfun_avc", LightName::Day);
        let pose = track.pose_at(0.05);
        let cone = track.obstacles.iter().find(|o| o.name == "cone").copied().unwrap();
        let ahead = crate::world::geometry::Vec2::heading(pose.yaw) * 0.6;
        track.obstacles = vec![Obstacle { at: pose.at + ahead, ..cone }];
        let renderer = Renderer::new(&track, LightName::Overcast.light(1), 1);
        let picture = renderer.draw(&Camera::default(), pose, 0);
        let orange = (0..160 * 120)
            .filter(|i| {
                let p = &picture.rgb[i * 3..][..3];
                p[0] > 150 && p[1] < 120 && p[2] < 90
            })
            .map(|i| i % 160)
            .collect::<Vec<_>>();
        assert!(orange.len() > 60, "{} orange pixels", orange.len());
        let mean = orange.iter().sum::<usize>() / orange.len();
        assert!((70..90).contains(&mean), "around column {mean}");
    }

    #[test]
    fn grey_pictures_are_grey_and_large_ones_have_their_size() {
        let (track, renderer) = renderer("warehouse", LightName::Day);
        let camera = Camera { grey: true, width: 320, height: 200, ..Camera::default() };
        let picture = renderer.draw(&camera, track.pose_at(0.0), 0);
        assert_eq!(picture.rgb.len(), 320 * 200 * 3);
        assert!(picture.rgb.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
    }
}
