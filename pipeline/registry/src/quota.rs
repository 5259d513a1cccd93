//! The bytes this registry and each of its repositories may keep, counted as they arrive.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{error::ApiError, names::Repo, store::lock};

/// Repositories whose counters are kept although they hold nothing; then such are forgotten.
const MAX_EMPTY: usize = 1024;

/// A counter with a ceiling.
#[derive(Debug)]
pub(super) struct Quota {
    /// Whose, in messages.
    of: String,
    used: AtomicU64,
    limit: u64,
}

impl Quota {
    pub(super) fn new(of: impl Into<String>, used: u64, limit: u64) -> Arc<Self> {
        Arc::new(Self { of: of.into(), used: AtomicU64::new(used), limit })
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

/// A counter for each repository. A blob counts in every repository that holds it.
#[derive(Debug)]
pub(super) struct Shares {
    limit: u64,
    counters: Mutex<HashMap<Repo, Arc<Quota>>>,
}

impl Shares {
    pub(super) fn new(limit: u64, used: impl IntoIterator<Item = (Repo, u64)>) -> Self {
        let counter = |(repo, used): (Repo, u64)| {
            let counter = Quota::new(repo.as_str(), used, limit);
            (repo, counter)
        };
        Self { limit, counters: Mutex::new(used.into_iter().map(counter).collect()) }
    }

    /// A repository's counter.
    pub(super) fn of(&self, repo: &Repo) -> Arc<Quota> {
        let mut counters = lock(&self.counters);
        if let Some(counter) = counters.get(repo) {
            return Arc::clone(counter);
        }
        if counters.len() >= MAX_EMPTY {
            counters.retain(|_, known| known.used() > 0 || Arc::strong_count(known) > 1);
        }
        let counter = Quota::new(repo.as_str(), 0, self.limit);
        counters.insert(repo.clone(), Arc::clone(&counter));
        counter
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
                "the quota of {}, {limit} bytes, is used up ({used} in use): delete images and \
                 collect garbage, or raise it",
                self.quota.of
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
        let quota = Quota::new("the registry", 10, 100);
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

    #[test]
    fn each_repository_has_its_share() {
        let repo = |name: &str| Repo::parse(name).unwrap();
        let shares = Shares::new(100, [(repo("a"), 90)]);
        let mut one = Reservation::none(&shares.of(&repo("a")));
        assert!(one.add(11).is_err());
        one.add(10).unwrap();
        let mut other = Reservation::none(&shares.of(&repo("b")));
        other.add(100).unwrap();
        drop((one, other));
        assert_eq!((shares.of(&repo("a")).used(), shares.of(&repo("b")).used()), (90, 0));
        for n in 0..2 * MAX_EMPTY {
            shares.of(&repo(&format!("empty/{n}")));
        }
        assert!(lock(&shares.counters).len() <= MAX_EMPTY + 1);
        assert_eq!(shares.of(&repo("a")).used(), 90);
    }
}
