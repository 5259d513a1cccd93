//! What the car sees: the ground baked once, then a ray per pixel, a light over it, an encoder.

pub mod camera;
pub mod encode;
pub mod ground;
pub mod light;
pub mod noise;
pub mod render;

/// Something for each of red, green and blue. Written out, because the standard way of filling an
/// array is a call per value in the hottest loops there are here.
#[inline]
fn each<T>(mut of: impl FnMut(usize) -> T) -> [T; 3] {
    [of(0), of(1), of(2)]
}
