//! Cuts a stream of undelimited JSON objects into messages, with bounded memory.
//!
//! Only braces, strings and escapes are followed; whether a piece is valid JSON is decided later.
//! Each byte is looked at once, however the stream is split.

/// Longest message taken, in bytes. The longest real one (a camera configuration) has about 400.
pub const MAX_MESSAGE: usize = 16 * 1024;
/// Bytes outside of any message that are skipped before the peer is given up: not this protocol.
pub const MAX_JUNK: usize = 4 * 1024;

/// The stream is not a stream of small JSON objects.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FramingError {
    /// A message does not end.
    #[error("a message is longer than {MAX_MESSAGE} bytes; a client's messages are short")]
    TooLong,
    /// Bytes that belong to no message.
    #[error("more than {MAX_JUNK} bytes outside of messages; is this a Donkey client?")]
    Junk,
}

/// The state of cutting.
#[derive(Debug, Default)]
pub struct Framer {
    partial: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    junk: usize,
}

impl Framer {
    /// A cutter at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream; appends each message that they complete to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Vec<u8>>) -> Result<(), FramingError> {
        for &byte in bytes {
            if self.depth == 0 {
                match byte {
                    b'{' => {}
                    b' ' | b'\t' | b'\r' | b'\n' | 0 => continue,
                    _ => {
                        self.junk += 1;
                        if self.junk > MAX_JUNK {
                            return Err(FramingError::Junk);
                        }
                        continue;
                    }
                }
            }
            if self.partial.len() == MAX_MESSAGE {
                return Err(FramingError::TooLong);
            }
            self.partial.push(byte);
            if self.ends(byte) {
                out.push(std::mem::take(&mut self.partial));
            }
        }
        Ok(())
    }

    /// Follows one byte of a message; true when it is the message's last.
    fn ends(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' => self.depth += 1,
            b'}' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(pieces: &[&[u8]]) -> Result<Vec<String>, FramingError> {
        let (mut framer, mut out) = (Framer::new(), Vec::new());
        for piece in pieces {
            framer.push(piece, &mut out)?;
        }
        Ok(out.into_iter().map(|message| String::from_utf8_lossy(&message).into_owned()).collect())
    }

    #[test]
    fn joined_messages_come_apart() {
        let got = cut(&[br#"{"a":"1"}{"b":{"c":2}} {"d":"}{\"\\"}"#, b"\n{\"e\":1}"]).unwrap();
        assert_eq!(got, [r#"{"a":"1"}"#, r#"{"b":{"c":2}}"#, r#"{"d":"}{\"\\"}"#, r#"{"e":1}"#]);
    }

    #[test]
    fn endless_messages_and_other_protocols_are_refused() {
        let long = [b"{\"a\":\"".to_vec(), vec![b'x'; MAX_MESSAGE]].concat();
        assert_eq!(cut(&[&long]), Err(FramingError::TooLong));
        let deep = vec![b'{'; MAX_MESSAGE + 1];
        assert_eq!(cut(&[&deep]), Err(FramingError::TooLong));
        assert_eq!(cut(&[&vec![b'G'; MAX_JUNK + 1]]), Err(FramingError::Junk));
    }

    proptest! {
        #[test]
        fn where_the_stream_is_split_does_not_matter(
            texts in prop::collection::vec("[ -~]{0,40}", 1..6),
            cuts in prop::collection::vec(0_usize..400, 0..12),
        ) {
            let messages: Vec<String> =
                texts.iter().map(|text| serde_json::json!({"msg_type": text}).to_string()).collect();
            let stream = messages.concat().into_bytes();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
            ends.extend([0, stream.len()]);
            ends.sort_unstable();
            let pieces: Vec<&[u8]> = ends.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(cut(&pieces).unwrap(), messages);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let (mut framer, mut out) = (Framer::new(), Vec::new());
            let _ = framer.push(&bytes, &mut out);
            for message in out {
                let _ = super::super::inbound::parse(&message);
            }
        }
    }
}
