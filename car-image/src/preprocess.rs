//! From pixels to the model's input tensor, as the model card says.
//!
//! A pixel has 256 values, so scaling, mean and deviation are worked out once into a table per
//! channel; a frame is look-ups only.

use pitlane_release::model::{Channels, Input, Layout};

/// Most pixels of an input: more than any small car's camera, and 12 MB as a tensor.
const MAX_PIXELS: u32 = 1 << 20;

/// The tables and the shape.
#[derive(Debug)]
pub(crate) struct Preprocess {
    layout: Layout,
    channels: Channels,
    pixels: usize,
    /// Pixels at the start that are blanked.
    blank: usize,
    /// One table per channel of the tensor.
    tables: Vec<[f32; 256]>,
}

/// The card asks for what this program does not do.
#[derive(Debug, thiserror::Error)]
#[error("field `input.shape`: {0}x{1} pixels; at most {MAX_PIXELS} are handled")]
pub(crate) struct TooManyPixels(u32, u32);

impl Preprocess {
    /// Works the tables out.
    pub(crate) fn new(input: &Input) -> Result<Self, TooManyPixels> {
        let (width, height) = (input.width(), input.height());
        if width.checked_mul(height).is_none_or(|n| n > MAX_PIXELS) {
            return Err(TooManyPixels(width, height));
        }
        let value = |list: &Option<Vec<f64>>, channel: usize, other: f64| {
            list.as_ref().and_then(|list| list.get(channel)).copied().unwrap_or(other)
        };
        let tables = (0..input.depth() as usize)
            .map(|channel| {
                let mean = value(&input.mean, channel, 0.0);
                let deviation = value(&input.std, channel, 1.0);
                std::array::from_fn(|byte| {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_precision_loss,
                        reason = "0..256, worked out in f64 and rounded once, as the training does"
                    )]
                    let v = ((byte as f64 * input.scale - mean) / deviation) as f32;
                    v
                })
            })
            .collect();
        Ok(Self {
            layout: input.layout,
            channels: input.channels,
            pixels: width as usize * height as usize,
            blank: input.crop_top as usize * width as usize,
            tables,
        })
    }

    /// Numbers in the tensor.
    pub(crate) fn len(&self) -> usize {
        self.pixels * self.tables.len()
    }

    /// Bytes of a picture.
    pub(crate) const fn rgb_len(&self) -> usize {
        self.pixels * 3
    }

    /// Fills the tensor from an RGB picture.
    ///
    /// # Panics
    /// When the slices have other lengths than [`Self::rgb_len`] and [`Self::len`].
    pub(crate) fn fill(&self, rgb: &[u8], tensor: &mut [f32]) {
        assert_eq!((rgb.len(), tensor.len()), (self.rgb_len(), self.len()));
        let order = match self.channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
            Channels::Gray => return self.fill_gray(rgb, tensor),
        };
        let blank = self.blank * 3;
        match self.layout {
            Layout::Nhwc => {
                let [a, b, c] = [0, 1, 2].map(|channel: usize| &self.tables[channel]);
                let (head, body) = tensor.split_at_mut(blank);
                for out in head.chunks_exact_mut(3) {
                    out.copy_from_slice(&[a[0], b[0], c[0]]);
                }
                for (out, pixel) in body.chunks_exact_mut(3).zip(rgb[blank..].chunks_exact(3)) {
                    out[0] = a[usize::from(pixel[order[0]])];
                    out[1] = b[usize::from(pixel[order[1]])];
                    out[2] = c[usize::from(pixel[order[2]])];
                }
            }
            Layout::Nchw => {
                let planes = tensor.chunks_exact_mut(self.pixels);
                for ((plane, table), from) in planes.zip(&self.tables).zip(order) {
                    let (head, body) = plane.split_at_mut(self.blank);
                    head.fill(table[0]);
                    for (out, pixel) in body.iter_mut().zip(rgb[blank..].chunks_exact(3)) {
                        *out = table[usize::from(pixel[from])];
                    }
                }
            }
        }
    }

    /// One channel looks the same in both layouts.
    fn fill_gray(&self, rgb: &[u8], tensor: &mut [f32]) {
        let table = &self.tables[0];
        let (head, body) = tensor.split_at_mut(self.blank);
        head.fill(table[0]);
        for (out, pixel) in body.iter_mut().zip(rgb[self.blank * 3..].chunks_exact(3)) {
            let [r, g, b] = [0, 1, 2].map(|i: usize| u32::from(pixel[i]));
            // ITU-R BT.601 luma in 16-bit fixed point, rounded; the weights sum to 65536.
            let luma = (r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16;
            *out = table[luma as usize & 0xff];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitlane_release::ModelCard;

    /// A picture of 3 columns and 2 rows; byte = 10 * pixel + channel.
    const RGB: [u8; 18] = [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52];

    fn run(shape: &str, layout: &str, channels: &str, more: &str) -> Vec<f32> {
        let card = ModelCard::parse(&format!(
            "{{apiVersion: pitlane.dev/v1, kind: ModelCard, name: t, pilot: linear, \
             input: {{shape: {shape}, layout: {layout}, channels: {channels}, {more}}}, \
             outputs: [{{name: a, meaning: steering}}, {{name: b, meaning: throttle}}]}}"
        ))
        .unwrap();
        let preprocess = Preprocess::new(&card.input).unwrap();
        let mut tensor = vec![f32::NAN; preprocess.len()];
        preprocess.fill(&RGB, &mut tensor);
        tensor
    }

    #[test]
    fn layouts_and_orders() {
        let pixels: Vec<f32> = RGB.iter().map(|b| f32::from(*b)).collect();
        assert_eq!(run("[1,2,3,3]", "NHWC", "RGB", "scale: 1"), pixels);
        let bgr = run("[1,2,3,3]", "NHWC", "BGR", "scale: 1");
        assert_eq!(bgr[..6], [2., 1., 0., 12., 11., 10.]);
        let planes = run("[1,3,2,3]", "NCHW", "RGB", "scale: 1");
        assert_eq!(planes[..7], [0., 10., 20., 30., 40., 50., 1.]);
        let planes = run("[1,3,2,3]", "NCHW", "BGR", "scale: 1");
        assert_eq!((planes[0], planes[6], planes[12]), (2., 1., 0.));
    }

    #[test]
    fn scaling_is_rounded_once() {
        let got = run("[1,2,3,3]", "NHWC", "RGB", "scale: 0.00392156862745098");
        #[expect(clippy::cast_possible_truncation, reason = "what is tested")]
        let want: Vec<f32> = RGB.iter().map(|b| (f64::from(*b) / 255.0) as f32).collect();
        assert_eq!(got, want);
        let got = run("[1,3,2,3]", "NCHW", "RGB", "scale: 1, mean: [0, 1, 2], std: [1, 2, 4]");
        assert_eq!((got[1], got[7], got[13]), (10., 5., 2.5));
    }

    #[test]
    fn blanked_rows_are_black_before_scaling() {
        for (shape, layout) in [("[1,2,3,3]", "NHWC"), ("[1,3,2,3]", "NCHW")] {
            let got = run(shape, layout, "RGB", "scale: 1, cropTop: 1, mean: [1, 1, 1]");
            assert_eq!(
                got.iter().filter(|v| v.to_bits() == (-1.0_f32).to_bits()).count(),
                9,
                "{layout}"
            );
            assert!(got.contains(&51.0), "{layout}: {got:?}");
        }
        let gray = run("[1,2,3,1]", "NHWC", "GRAY", "scale: 1, cropTop: 1");
        assert_eq!(gray, [0., 0., 0., 31., 41., 51.]);
    }

    #[test]
    fn huge_inputs_are_refused() {
        let card = include_str!("../tests/data/tiny.yaml")
            .replace("[1, 120, 160, 3]", "[1, 4096, 4096, 3]");
        let card = ModelCard::parse(&card).unwrap();
        assert!(Preprocess::new(&card.input).is_err());
    }
}
