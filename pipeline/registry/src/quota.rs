//! The bytes this registry may keep, counted as they arrive.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::error::ApiError;

/// A counter with a ceiling.
#[derive(Debug)]
pub(super) struct Quota {
    used: AtomicU64,
    limit: u64,
}

impl Quota {
    pub(super) fn new(used: u64, limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(used), limit })
    }

    /// Bytes kept and on their way.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Gives back what was deleted.
    pub(super) fn release(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// Bytes set aside for something that is not kept yet; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Reservation {
    pub(super) fn none(quota: &Arc<Quota>) -> Self {
        Self { quota: Arc::clone(quota), bytes: 0 }
    }

    /// Sets more aside, or refuses.
    pub(super) fn add(&mut self, bytes: u64) -> Result<(), ApiError> {
        let limit = self.quota.limit;
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        let taken = self.quota.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|used| {
            ApiError::quota(format!(
                "the registry's quota of {limit} bytes is used up ({used} in use): delete images \
                 and collect garbage, or raise its quota"
            ))
        })?;
        self.bytes += bytes;
        Ok(())
    }

    /// The bytes are kept now.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.quota.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_refuses_and_gives_back() {
        let quota = Quota::new(10, 100);
        let mut kept = Reservation::none(&quota);
        kept.add(60).unwrap();
        let mut dropped = Reservation::none(&quota);
        dropped.add(30).unwrap();
        assert!(dropped.add(1).is_err());
        assert!(dropped.add(u64::MAX).is_err());
        drop(dropped);
        kept.keep();
        assert_eq!(quota.used(), 70);
        quota.release(1000);
        assert_eq!(quota.used(), 0);
    }
}
