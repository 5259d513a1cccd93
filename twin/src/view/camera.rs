//! The camera on the car: where it sits, how wide it sees, how its pictures are encoded.

use super::encode::Encoding;

/// Largest picture a client can ask for: four times the usual width and height; more only costs.
pub const MAX_WIDTH: u16 = 640;
/// See [`MAX_WIDTH`].
pub const MAX_HEIGHT: u16 = 480;
/// Smallest side of a picture in pixels.
pub const MIN_SIDE: u16 = 16;

/// A camera's placement and format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Picture width in pixels.
    pub width: u16,
    /// Picture height in pixels.
    pub height: u16,
    /// Colour, or grey repeated in three channels.
    pub grey: bool,
    /// How pictures are sent.
    pub encoding: Encoding,
    /// Vertical field of view in degrees.
    pub fov: f64,
    /// To the right of the car's middle, in metres.
    pub right: f64,
    /// Above the ground, in metres.
    pub up: f64,
    /// Ahead of the car's middle, in metres.
    pub ahead: f64,
    /// Downward tilt in degrees.
    pub tilt: f64,
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            width: 160,
            height: 120,
            grey: false,
            encoding: Encoding::Jpeg,
            fov: 80.0,
            right: 0.0,
            up: 0.14,
            ahead: 0.05,
            tilt: 15.0,
        }
    }
}

/// What a client asked for; nothing means "as it is".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CameraRequest {
    /// Vertical field of view in degrees.
    pub fov: Option<f64>,
    /// Width and height in pixels; only both together count.
    pub size: Option<(f64, f64)>,
    /// Colour channels: 1 is grey.
    pub depth: Option<f64>,
    /// Encoding of pictures.
    pub encoding: Option<Encoding>,
    /// Placement relative to the usual one: right, up, ahead, in metres.
    pub offset: Option<[f64; 3]>,
    /// Further downward tilt in degrees.
    pub tilt: Option<f64>,
}

impl Camera {
    /// The usual camera changed by a request, within bounds.
    pub fn with(request: &CameraRequest) -> Self {
        let mut camera = Self::default();
        if let Some(fov) = request.fov {
            camera.fov = fov.clamp(20.0, 130.0);
        }
        if let Some((width, height)) = request.size {
            camera.width = width.clamp(f64::from(MIN_SIDE), f64::from(MAX_WIDTH)) as u16;
            camera.height = height.clamp(f64::from(MIN_SIDE), f64::from(MAX_HEIGHT)) as u16;
        }
        if let Some(depth) = request.depth {
            camera.grey = (depth - 1.0).abs() < 0.5;
        }
        if let Some(encoding) = request.encoding {
            camera.encoding = encoding;
        }
        if let Some([right, up, ahead]) = request.offset {
            camera.right += right.clamp(-0.5, 0.5);
            camera.up = (camera.up + up).clamp(0.03, 2.0);
            camera.ahead += ahead.clamp(-0.5, 0.5);
        }
        if let Some(tilt) = request.tilt {
            camera.tilt = (camera.tilt + tilt).clamp(-30.0, 80.0);
        }
        camera
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greedy_request_is_cut_down() {
        let request = CameraRequest {
            fov: Some(1e9),
            size: Some((1e12, -4.0)),
            offset: Some([1e9, -1e9, f64::MAX]),
            tilt: Some(1e9),
            ..CameraRequest::default()
        };
        let camera = Camera::with(&request);
        assert_eq!((camera.width, camera.height), (MAX_WIDTH, MIN_SIDE));
        assert!(camera.fov <= 130.0 && camera.up >= 0.03 && camera.tilt <= 80.0);
        assert_eq!(Camera::with(&CameraRequest::default()), Camera::default());
    }
}
