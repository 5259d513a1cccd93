//! What can be pushed: bytes that can be read again, from any offset.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::stream;
use pitlane_release::oci::Descriptor;
use tokio::sync::mpsc;

/// How much of a blob is read and sent at a time.
const PIECE: u64 = 256 * 1024;
/// Pieces that may wait for the network: bounds the memory of an upload.
const PIECES_AHEAD: usize = 4;

/// Something to be pushed, of which the bytes can be read again.
pub trait Content: Send + Sync {
    /// What it is.
    fn descriptor(&self) -> &Descriptor;

    /// Opens its bytes.
    ///
    /// # Errors
    /// They cannot be read; the text names the file.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
}

/// Bytes in memory.
#[derive(Clone, Debug)]
pub struct Inline {
    descriptor: Descriptor,
    bytes: Bytes,
}

impl Inline {
    /// A small document.
    pub fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { descriptor: Descriptor::of(media_type, &bytes), bytes }
    }
}

impl Content for Inline {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.bytes.clone())))
    }
}

/// The bytes from `from` to `to` as a body, read on a thread of its own, a few pieces ahead of the
/// network. `moved` counts the pieces that the network took.
pub(crate) fn body(
    content: &dyn Content,
    from: u64,
    to: u64,
    moved: Arc<AtomicU64>,
) -> io::Result<reqwest::Body> {
    if from == to {
        return Ok(reqwest::Body::default());
    }
    let mut reader = content.open()?;
    let (send, receive) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let skipped = io::copy(&mut reader.by_ref().take(from), &mut io::sink());
        let mut failed = skipped.err();
        let mut left = to - from;
        while left > 0 {
            let part = match failed.take() {
                Some(error) => Err(error),
                None => piece(&mut reader, left.min(PIECE)),
            };
            left -= part.as_ref().map_or(left, |part| part.len() as u64);
            if send.blocking_send(part).is_err() {
                return;
            }
        }
    });
    let parts = stream::unfold((receive, moved), |(mut receive, moved)| async {
        let part = receive.recv().await?;
        moved.fetch_add(1, Ordering::Relaxed);
        Some((part, (receive, moved)))
    });
    Ok(reqwest::Body::wrap_stream(parts))
}

fn piece(reader: &mut dyn Read, size: u64) -> io::Result<Bytes> {
    let mut part = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    reader.take(size).read_to_end(&mut part)?;
    if part.is_empty() {
        let why = "the file is shorter than it was";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    Ok(part.into())
}
