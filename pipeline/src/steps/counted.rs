//! A blob whose bytes are told of as they are read: what a transfer's bar is made of.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use pitlane_push::Content;
use pitlane_release::oci::Descriptor;

use crate::{assemble::Blob, service::progress::Telling};

/// A blob on its way.
pub(super) struct Counted<'a> {
    blob: &'a Blob,
    telling: Arc<Telling>,
    read: Arc<AtomicU64>,
}

impl<'a> Counted<'a> {
    pub(super) fn new(blob: &'a Blob, telling: Arc<Telling>) -> Self {
        Self { blob, telling, read: Arc::default() }
    }

    /// It is there: what was not read was there before.
    pub(super) fn arrived(&self) {
        let read = self.read.load(Ordering::Relaxed);
        self.telling.add(self.blob.descriptor.size.saturating_sub(read));
    }
}

impl Content for Counted<'_> {
    fn descriptor(&self) -> &Descriptor {
        &self.blob.descriptor
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let (telling, read) = (Arc::clone(&self.telling), Arc::clone(&self.read));
        let most = self.blob.descriptor.size;
        Ok(Box::new(Counting { inner: self.blob.open()?, telling, read, most }))
    }
}

struct Counting {
    inner: Box<dyn Read + Send>,
    telling: Arc<Telling>,
    read: Arc<AtomicU64>,
    most: u64,
}

impl Read for Counting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        // A second try reads the same bytes again; each counts once.
        let before = self.read.fetch_add(read as u64, Ordering::Relaxed);
        let left = self.most.saturating_sub(before);
        self.telling.add(left.min(read as u64));
        Ok(read)
    }
}
