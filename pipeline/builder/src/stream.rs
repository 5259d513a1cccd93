//! Bridges between the asynchronous engine and code that reads files and archives.

use std::{
    fs::File,
    io::{self, Read},
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::mpsc;

/// How much of a file is sent at a time.
const CHUNK: usize = 256 * 1024;
/// How many pieces may wait between engine and disk.
pub(crate) const WAITING: usize = 16;

/// A file as a stream of pieces, read on a thread of its own.
pub(crate) fn of_file(mut file: File) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (send, receive) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = BytesMut::zeroed(CHUNK);
            let read = match file.read(&mut piece) {
                Ok(0) => return,
                Ok(n) => Ok(piece.split_to(n).freeze()),
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            // The other side went away: the build was stopped.
            if send.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    futures_util::stream::unfold(receive, async |mut receive| {
        receive.recv().await.map(|piece| (piece, receive))
    })
}

/// Reads what a channel brings; its end is the end of the file, so the sender says by an error when
/// it broke off.
#[derive(Debug)]
pub(crate) struct ChannelReader {
    receive: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl ChannelReader {
    pub(crate) fn new(receive: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { receive, piece: Bytes::new() }
    }
}

impl Read for ChannelReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receive.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let n = out.len().min(self.piece.len());
        out[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}
