//! Pictures as bytes: JPEG, and the two lossless formats that the protocol also names.

use jpeg_encoder::{ColorType, Encoder};

/// JPEG quality. Lane lines stay sharp; a 160x120 picture takes about 4 KB.
const QUALITY: u8 = 80;
/// Largest body of one stored deflate block.
const STORED: usize = 65_535;

/// How a picture is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Lossy, small; the default.
    Jpeg,
    /// Lossless, stored without compression.
    Png,
    /// Lossless, the simplest.
    Tga,
}

/// A picture: rows from the top, three bytes (red, green, blue) per pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

/// A picture could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a picture of {width}x{height}")]
pub struct EncodeError {
    width: u16,
    height: u16,
    #[source]
    source: jpeg_encoder::EncodingError,
}

impl Picture {
    /// The picture in the given format.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
        let (width, height) = (self.width, self.height);
        match encoding {
            Encoding::Jpeg => {
                let mut out = Vec::with_capacity(8 * 1024);
                Encoder::new(&mut out, QUALITY)
                    .encode(&self.rgb, width, height, ColorType::Rgb)
                    .map_err(|source| EncodeError { width, height, source })?;
                Ok(out)
            }
            Encoding::Png => Ok(self.png()),
            Encoding::Tga => Ok(self.tga()),
        }
    }

    /// PNG (RFC 2083) with stored deflate blocks: on loopback bytes are cheaper than time.
    fn png(&self) -> Vec<u8> {
        let row = usize::from(self.width) * 3;
        let mut raw = Vec::with_capacity((row + 1) * usize::from(self.height));
        for line in self.rgb.chunks_exact(row) {
            raw.push(0);
            raw.extend_from_slice(line);
        }
        let mut zlib = vec![0x78, 0x01];
        let mut blocks = raw.chunks(STORED).peekable();
        while let Some(block) = blocks.next() {
            let size = block.len() as u16;
            zlib.push(u8::from(blocks.peek().is_none()));
            zlib.extend_from_slice(&size.to_le_bytes());
            zlib.extend_from_slice(&(!size).to_le_bytes());
            zlib.extend_from_slice(block);
        }
        zlib.extend_from_slice(&adler32(&raw).to_be_bytes());

        let mut header = Vec::with_capacity(13);
        header.extend_from_slice(&u32::from(self.width).to_be_bytes());
        header.extend_from_slice(&u32::from(self.height).to_be_bytes());
        header.extend_from_slice(&[8, 2, 0, 0, 0]);
        let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, body) in [(b"IHDR", &header), (b"IDAT", &zlib), (b"IEND", &Vec::new())] {
            let start = out.len() + 4;
            out.extend_from_slice(&(body.len() as u32).to_be_bytes());
            out.extend_from_slice(kind);
            out.extend_from_slice(body);
            let sum = crc32(&out[start..]);
            out.extend_from_slice(&sum.to_be_bytes());
        }
        out
    }

    /// Uncompressed true-colour TGA, rows from the top.
    fn tga(&self) -> Vec<u8> {
        let mut out = vec![0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        out.extend_from_slice(&self.width.to_le_bytes());
        out.extend_from_slice(&self.height.to_le_bytes());
        out.extend_from_slice(&[24, 0x20]);
        for pixel in self.rgb.chunks_exact(3) {
            out.extend_from_slice(&[pixel[2], pixel[1], pixel[0]]);
        }
        out
    }
}

/// CRC-32 as in PNG and zip; also names a frame's bytes in traces.
pub fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut value = 0;
        while value < 256 {
            let mut rest = value as u32;
            let mut bit = 0;
            while bit < 8 {
                rest = if rest & 1 == 1 { 0xEDB8_8320 ^ (rest >> 1) } else { rest >> 1 };
                bit += 1;
            }
            table[value] = rest;
            value += 1;
        }
        table
    };
    !bytes
        .iter()
        .fold(!0_u32, |sum, byte| TABLE[((sum ^ u32::from(*byte)) & 255) as usize] ^ (sum >> 8))
}

fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let rgb = (0..200 * 120 * 3).map(|i| (i % 251) as u8).collect();
        Picture { width: 200, height: 120, rgb }
    }

    #[test]
    fn checksums_match_their_published_check_values() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
    }

    #[test]
    fn formats_begin_as_they_should_and_keep_their_size() {
        let picture = picture();
        assert!(picture.encode(Encoding::Jpeg).unwrap().starts_with(&[0xFF, 0xD8]));
        let png = picture.encode(Encoding::Png).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 72_000);
        let tga = picture.encode(Encoding::Tga).unwrap();
        assert_eq!(tga.len(), 18 + 200 * 120 * 3);
        assert_eq!(&tga[18..21], &[picture.rgb[2], picture.rgb[1], picture.rgb[0]]);
    }

    #[test]
    fn a_jpeg_reads_back_with_its_shape_and_colours() {
        let rgb = [200_u8, 40, 90].repeat(160 * 120);
        let jpeg = Picture { width: 160, height: 120, rgb }.encode(Encoding::Jpeg).unwrap();
        let mut decoder =
            zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(jpeg));
        let pixels = decoder.decode().unwrap();
        assert_eq!(decoder.dimensions(), Some((160, 120)));
        let near = |value: u8, wanted: i16| (i16::from(value) - wanted).abs() < 6;
        assert!(near(pixels[0], 200) && near(pixels[1], 40) && near(pixels[2], 90));
    }
}
