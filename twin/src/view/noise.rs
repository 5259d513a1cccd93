//! Repeatable randomness for textures: a hash of a place, and smooth noise made from it.

/// A well-mixed value for a place on a grid.
pub fn hash(seed: u64, x: i64, y: i64) -> u32 {
    let mut mixed = seed
        ^ (x as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (y as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed ^ (mixed >> 29)) >> 16) as u32
}

/// Smooth noise in 0..1 that varies over about one unit.
pub fn smooth(seed: u64, x: f32, y: f32) -> f32 {
    let (left, low) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (across, up) = (ease(x - left), ease(y - low));
    let corner =
        |dx: i64, dy: i64| hash(seed, left as i64 + dx, low as i64 + dy) as f32 / u32::MAX as f32;
    let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
    let below = mix(corner(0, 0), corner(1, 0), across);
    let above = mix(corner(0, 1), corner(1, 1), across);
    mix(below, above, up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_repeatable_spread_and_in_range() {
        let values: Vec<f32> = (0..400)
            .map(|i| smooth(3, f32::from(i as i16) * 1.37, f32::from(i as i16) * 0.71))
            .collect();
        assert!(values.iter().all(|v| (0.0..=1.0).contains(v)));
        let mean = values.iter().sum::<f32>() / 400.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
        assert_ne!(hash(1, 2, 3), hash(2, 2, 3));
        assert_ne!(hash(1, 2, 3), hash(1, 3, 2));
    }
}
