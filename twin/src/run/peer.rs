//! A connected client: messages in, lines out, all within bounds.

use super::address::Stream;
use crate::wire::framing::{Framer, FramingError};
use crate::wire::inbound::{self, Inbound};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

/// Longest time a client may leave our bytes lying before it counts as gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Broken messages forgiven per connection; the simulator ignores them too.
const MAX_BROKEN: u32 = 100;
/// Bytes taken at once; messages wait in the socket, not in memory.
const CHUNK: usize = 16 * 1024;

/// Why nothing more comes from a client.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It closed the connection, or the connection broke.
    #[error("the client went away")]
    Gone(#[source] Option<io::Error>),
    /// It does not speak the protocol.
    #[error("the client does not speak the Donkey protocol")]
    Framing(#[from] FramingError),
    /// Too many of its messages could not be read.
    #[error("more than {MAX_BROKEN} messages could not be read; the last: {0}")]
    Broken(inbound::InboundError),
}

/// A connected client.
#[derive(Debug)]
pub struct Peer {
    stream: Stream,
    framer: Framer,
    waiting: VecDeque<Vec<u8>>,
    broken: u32,
    heard: u64,
}

impl Peer {
    /// A client on a fresh connection.
    pub fn new(stream: Stream) -> io::Result<Self> {
        stream.set_write_timeout(WRITE_PATIENCE)?;
        let (framer, waiting) = (Framer::new(), VecDeque::new());
        Ok(Self { stream, framer, waiting, broken: 0, heard: 0 })
    }

    /// How many messages came so far.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), PeerError> {
        self.stream.write_all(bytes).map_err(|error| PeerError::Gone(Some(error)))
    }

    /// The next message; none when `deadline` passes first.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<Inbound>, PeerError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if let Some(message) = self.waiting.pop_front() {
                match inbound::parse(&message) {
                    Ok(message) => {
                        self.heard += 1;
                        return Ok(Some(message));
                    }
                    Err(error) => {
                        self.broken += 1;
                        if self.broken > MAX_BROKEN {
                            return Err(PeerError::Broken(error));
                        }
                    }
                }
            } else {
                self.fill(left)?;
            }
        }
    }

    /// Reads once, for at most `left`.
    fn fill(&mut self, left: Duration) -> Result<(), PeerError> {
        let gone = |error| PeerError::Gone(Some(error));
        self.stream.set_read_timeout(left.max(Duration::from_millis(1))).map_err(gone)?;
        let mut chunk = [0; CHUNK];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => return Err(PeerError::Gone(None)),
            Ok(count) => count,
            Err(error) => {
                use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
                return match error.kind() {
                    Interrupted | TimedOut | WouldBlock => Ok(()),
                    _ => Err(gone(error)),
                };
            }
        };
        let mut messages = Vec::new();
        self.framer.push(&chunk[..count], &mut messages)?;
        self.waiting.extend(messages);
        Ok(())
    }
}
