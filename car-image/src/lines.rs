//! Cuts a stream of bytes into lines, in one buffer that is reused.

use std::io::{self, Read};

/// Longest line taken: a picture of a million pixels in base64, with room.
pub const MAX_LINE: usize = 4 << 20;
/// Asked from the socket at once: more than ten frames of the usual size, so that one call
/// shows all that waits.
const CHUNK: usize = 64 << 10;

/// The buffer and what of it is not used yet.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Up to here there is no line end.
    searched: usize,
}

impl Lines {
    /// Reads once. `Ok(0)` is the end of the stream; a line that grows beyond [`MAX_LINE`] is an
    /// error of kind `InvalidData`.
    pub fn fill(&mut self, reader: &mut impl Read) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        if self.end > MAX_LINE {
            let why = format!("a message of more than {MAX_LINE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if self.buffer.len() < self.end + CHUNK {
            self.buffer.resize(self.end + CHUNK, 0);
        }
        let n = reader.read(&mut self.buffer[self.end..])?;
        self.end += n;
        Ok(n)
    }

    /// Whether the last read may have left more in the socket.
    pub const fn is_crammed(&self) -> bool {
        self.end == self.buffer.len()
    }

    /// The next whole line without its end; empty lines are left out.
    pub fn line(&mut self) -> Option<&[u8]> {
        loop {
            let rest = &self.buffer[self.searched..self.end];
            let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.end;
                return None;
            };
            let (from, to) = (self.start, self.searched + length);
            self.start = to + 1;
            self.searched = self.start;
            let line = self.buffer[from..to].trim_ascii();
            if !line.is_empty() {
                // Looked up again: the borrow above must not outlive the loop.
                return Some(self.buffer[from..to].trim_ascii());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(mut source: impl Read) -> io::Result<Vec<Vec<u8>>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        while lines.fill(&mut source)? > 0 {
            while let Some(line) = lines.line() {
                out.push(line.to_vec());
            }
        }
        Ok(out)
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let error = read_all(io::repeat(b'x')).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let long = vec![b'x'; MAX_LINE];
        let got = read_all((&long[..]).chain(&b"\n"[..])).unwrap();
        assert_eq!(got, [long]);
    }

    proptest! {
        /// However the bytes are cut into reads, the lines are the same.
        #[test]
        fn cuts_do_not_matter(texts in prop::collection::vec("[a-z]{1,9}", 0..9), cut in 1_usize..7) {
            struct Slow<'a>(&'a [u8], usize);
            impl Read for Slow<'_> {
                fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                    let n = self.1.min(self.0.len()).min(out.len());
                    out[..n].copy_from_slice(&self.0[..n]);
                    self.0 = &self.0[n..];
                    Ok(n)
                }
            }
            let stream = texts.join("\r\n\n") + "\n";
            let got = read_all(Slow(stream.as_bytes(), cut)).unwrap();
            let want: Vec<Vec<u8>> = texts.iter().map(|t| t.as_bytes().to_vec()).collect();
            prop_assert_eq!(got, want);
        }
    }
}
