//! From the text of a telemetry message to pixels.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// A decoder with its buffers; gives RGB pictures of one size.
#[derive(Debug)]
pub struct Camera {
    width: usize,
    height: usize,
    jpeg: Vec<u8>,
    rgb: Vec<u8>,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// The text is not base64.
    #[error("the picture is not base64: {0}")]
    Base64(#[from] base64::DecodeSliceError),
    /// The bytes are not a JPEG that can be read.
    #[error("the picture is not a JPEG: {0}")]
    Jpeg(String),
    /// Another size than the model takes; simulators need some frames to change it.
    #[error("the picture has {0}x{1} pixels, the model takes {2}x{3}")]
    Size(usize, usize, usize, usize),
}

impl Camera {
    /// For pictures of this width and height.
    pub fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self { width, height, jpeg: Vec::new(), rgb: vec![0; width * height * 3] }
    }

    /// The pixels of a base64 JPEG: rows from the top, red, green, blue.
    pub fn decode(&mut self, text: &str) -> Result<&[u8], CameraError> {
        let most = base64::decoded_len_estimate(text.len());
        if self.jpeg.len() < most {
            self.jpeg.resize(most, 0);
        }
        let length = STANDARD.decode_slice(text, &mut self.jpeg)?;
        self.decode_jpeg(length)
    }

    fn decode_jpeg(&mut self, length: usize) -> Result<&[u8], CameraError> {
        let refused = |error: zune_jpeg::errors::DecodeErrors| CameraError::Jpeg(error.to_string());
        // Stated size and actual size are checked before pixels are made: a few bytes can claim
        // a picture of 4 GiB.
        let options = DecoderOptions::default()
            .set_max_width(u16::MAX.into())
            .set_max_height(u16::MAX.into())
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let bytes = ZCursor::new(&self.jpeg[..length]);
        let mut decoder = JpegDecoder::new_with_options(bytes, options);
        decoder.decode_headers().map_err(refused)?;
        let (width, height) = decoder.dimensions().unwrap_or_default();
        if (width, height) != (self.width, self.height) {
            return Err(CameraError::Size(width, height, self.width, self.height));
        }
        if decoder.output_buffer_size() != Some(self.rgb.len()) {
            return Err(CameraError::Jpeg("it does not decode to three channels".into()));
        }
        decoder.decode_into(&mut self.rgb).map_err(refused)?;
        Ok(&self.rgb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jpeg_encoder::{ColorType, Encoder};

    fn jpeg(width: u16, height: u16, kind: ColorType) -> String {
        let channels = if kind == ColorType::Luma { 1 } else { 3 };
        let pixels: Vec<u8> = (0..usize::from(width) * usize::from(height))
            .flat_map(|i| {
                [if i % usize::from(width) < 8 { 250 } else { 10 }, 60, 60]
                    .into_iter()
                    .take(channels)
            })
            .collect();
        let mut out = Vec::new();
        Encoder::new(&mut out, 95).encode(&pixels, width, height, kind).unwrap();
        STANDARD.encode(out)
    }

    #[test]
    fn colours_come_out_in_order() {
        let mut camera = Camera::new(16, 8);
        let text = jpeg(16, 8, ColorType::Rgb);
        let rgb = camera.decode(&text).unwrap();
        let near =
            |got: &[u8], want: [u8; 3]| got.iter().zip(want).all(|(a, b)| a.abs_diff(b) < 40);
        assert!(near(&rgb[..3], [250, 60, 60]), "{:?}", &rgb[..3]);
        assert!(near(&rgb[15 * 3..16 * 3], [10, 60, 60]), "{:?}", &rgb[15 * 3..16 * 3]);
    }

    #[test]
    fn grey_pictures_are_taken() {
        let mut camera = Camera::new(16, 8);
        let rgb = camera.decode(&jpeg(16, 8, ColorType::Luma)).unwrap();
        assert!(
            rgb[0].abs_diff(250) < 30 && rgb[0] == rgb[1] && rgb[1] == rgb[2],
            "{:?}",
            &rgb[..3]
        );
    }

    #[test]
    fn what_is_no_picture_is_refused_and_the_next_one_taken() {
        let mut camera = Camera::new(16, 8);
        let good = jpeg(16, 8, ColorType::Rgb);
        let half = &good[..good.len() / 8 * 4];
        let mut bomb = STANDARD.decode(&good).unwrap();
        let frame = bomb.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        bomb[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
        for (bad, want) in [
            ("", "JPEG"),
            ("!", "base64"),
            ("AAAA", "JPEG"),
            (&jpeg(8, 8, ColorType::Rgb), "8x8 pixels, the model takes 16x8"),
            (&STANDARD.encode(&bomb), "65535x65535"),
        ] {
            let error = camera.decode(bad).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        // Cut short: an error or a picture with a grey rest, but no panic.
        let _ = camera.decode(half);
        camera.decode(&good).unwrap();
    }
}
