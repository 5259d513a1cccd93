//! Keeps what is being named and what is being removed apart.
//!
//! A manifest is checked and committed while it holds a pass; a removal holds the gate alone, for a
//! few files at a time. So nothing is removed between the moment at which a manifest was found to
//! be complete and the moment at which it is kept. While garbage is collected, everything that
//! clients name or ask for is noted as well: the collection spares it, whatever it saw before.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use pitlane_release::digest::Digest;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, RwLockWriteGuard};

use super::store::lock;

/// Shows that nothing is being removed.
pub(super) type Pass = OwnedRwLockReadGuard<()>;

#[derive(Debug, Default)]
pub(super) struct Gate {
    turn: Arc<RwLock<()>>,
    /// What was named since the collection began, while there is one.
    named: Mutex<Option<HashSet<Digest>>>,
}

impl Gate {
    /// Waits until no removal is under way, and keeps removals away.
    pub(super) async fn pass(&self) -> Pass {
        Arc::clone(&self.turn).read_owned().await
    }

    /// Waits until nothing is under way, and keeps everything away. For threads that may block.
    pub(super) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.blocking_write()
    }

    /// Says that somebody counts on these.
    pub(super) fn note<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) {
        if let Some(named) = lock(&self.named).as_mut() {
            named.extend(digests);
        }
    }

    /// Starts to note, unless another collection has.
    pub(super) fn begin(&self) -> Option<Collecting<'_>> {
        let mut named = lock(&self.named);
        if named.is_some() {
            return None;
        }
        *named = Some(HashSet::new());
        Some(Collecting { gate: self })
    }
}

/// While this lives, what clients name is noted.
#[derive(Debug)]
pub(super) struct Collecting<'a> {
    gate: &'a Gate,
}

impl Collecting<'_> {
    /// What was noted since `seen` digests were, if anything.
    pub(super) fn news(&self, seen: usize) -> Option<HashSet<Digest>> {
        let named = lock(&self.gate.named);
        named.as_ref().filter(|named| named.len() > seen).cloned()
    }

    /// Whether somebody counts on this one.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        lock(&self.gate.named).as_ref().is_some_and(|named| named.contains(digest))
    }
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        *lock(&self.gate.named) = None;
    }
}
