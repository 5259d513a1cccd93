//! Verdicts for a while: bounded in number and time, and made once for all who ask at once.
//!
//! [`Kept`] is the plain structure, with the time as a parameter; [`Once`] puts it behind a lock
//! and lets one task do the work that others wait for.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// Values with an end, at most so many; the one that was not asked for longest goes first.
#[derive(Debug)]
pub struct Kept<K, V> {
    most: usize,
    /// Rises with every use.
    uses: u64,
    entries: HashMap<K, Entry<V>>,
    by_use: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    until: Instant,
    used: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Kept<K, V> {
    /// An empty one for at most `most` values, at least one.
    pub fn new(most: usize) -> Self {
        let (entries, by_use) = (HashMap::new(), BTreeMap::new());
        Self { most: most.max(1), uses: 0, entries, by_use }
    }

    /// The value, if its time has not ended.
    pub fn get(&mut self, key: &K, now: Instant) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        if entry.until <= now {
            let used = entry.used;
            self.entries.remove(key);
            self.by_use.remove(&used);
            return None;
        }
        self.uses += 1;
        let key = self.by_use.remove(&entry.used)?;
        self.by_use.insert(self.uses, key);
        entry.used = self.uses;
        Some(entry.value.clone())
    }

    /// Keeps a value until its time.
    pub fn put(&mut self, key: K, value: V, until: Instant) {
        self.uses += 1;
        let entry = Entry { value, until, used: self.uses };
        if let Some(old) = self.entries.insert(key.clone(), entry) {
            self.by_use.remove(&old.used);
        }
        self.by_use.insert(self.uses, key);
        while self.entries.len() > self.most {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.entries.remove(&oldest);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// How a value was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was there.
    Hit,
    /// Somebody else was making it.
    Joined,
    /// It was made.
    Made,
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// So much is in the making that this was not begun.
    Full,
    /// The making ended without one: it panicked.
    Died,
}

/// A cache whose values are made once, however many ask.
#[derive(Debug)]
pub struct Once<K, V> {
    inner: Mutex<Inner<K, V>>,
    /// Most values in the making.
    most_making: usize,
}

#[derive(Debug)]
struct Inner<K, V> {
    kept: Kept<K, V>,
    making: HashMap<K, watch::Receiver<Option<V>>>,
}

impl<K, V> Once<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// An empty one, for at most `most` values, and `most_making` in the making.
    pub fn new(most: usize, most_making: usize) -> Arc<Self> {
        let inner = Inner { kept: Kept::new(most), making: HashMap::new() };
        Arc::new(Self { inner: Mutex::new(inner), most_making })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<K, V>> {
        // A panic leaves maps that are whole: each change of them is one call.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many values are kept.
    pub fn len(&self) -> usize {
        self.lock().kept.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value: kept, or in the making, or made now by `make`, which says how long to keep it.
    ///
    /// The making goes on when whoever asked goes away: the next to ask finds it done.
    ///
    /// # Errors
    /// When too much is in the making, or the making died.
    pub async fn get<F>(
        self: &Arc<Self>,
        key: K,
        make: impl FnOnce() -> F,
    ) -> Result<(V, How), Without>
    where
        F: Future<Output = (V, Duration)> + Send + 'static,
    {
        let (mut waiting, how) = {
            let mut inner = self.lock();
            if let Some(value) = inner.kept.get(&key, Instant::now()) {
                return Ok((value, How::Hit));
            }
            // A closed channel is a making that died.
            inner.making.retain(|_, waiting| waiting.has_changed().is_ok());
            if let Some(waiting) = inner.making.get(&key).cloned() {
                (waiting, How::Joined)
            } else if inner.making.len() >= self.most_making {
                return Err(Without::Full);
            } else {
                let (done, waiting) = watch::channel(None);
                inner.making.insert(key.clone(), waiting.clone());
                let (making, all) = (make(), Arc::clone(self));
                tokio::spawn(async move {
                    let (value, keep) = making.await;
                    let mut inner = all.lock();
                    inner.making.remove(&key);
                    inner.kept.put(key, value.clone(), Instant::now() + keep);
                    done.send_replace(Some(value));
                });
                (waiting, How::Made)
            }
        };
        let value = waiting.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
        Ok((value.ok_or(Without::Died)?, how))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn values_end_by_time_and_by_number() {
        let now = Instant::now();
        let mut kept = Kept::new(3);
        for (n, key) in ["a", "b", "c"].into_iter().enumerate() {
            kept.put(key, n, now + 10 * S);
        }
        assert_eq!(kept.get(&"a", now), Some(0));
        kept.put("d", 3, now + S);
        // b was asked for longest ago.
        assert_eq!((kept.get(&"b", now), kept.len()), (None, 3));
        assert_eq!((kept.get(&"d", now), kept.get(&"d", now + S)), (Some(3), None));
        assert_eq!(kept.len(), 2);
        kept.put("a", 7, now + 10 * S);
        assert_eq!((kept.get(&"a", now), kept.len()), (Some(7), 2));
    }

    #[test]
    fn whatever_is_done_it_stays_within_its_bounds() {
        let now = Instant::now();
        let mut kept = Kept::new(16);
        for n in 0..5000_u64 {
            let key = n * 7919 % 97;
            match n % 3 {
                0 => drop(kept.get(&key, now + Duration::from_millis(n % 50))),
                _ => kept.put(key, n, now + Duration::from_millis(n % 40)),
            }
            assert!(kept.len() <= 16 && kept.by_use.len() == kept.entries.len());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hundred_at_once_make_one() {
        let (cache, times) = (Once::new(8, 8), Arc::new(AtomicUsize::new(0)));
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (cache, times) = (Arc::clone(&cache), Arc::clone(&times));
            asking.spawn(async move {
                let make = || async move {
                    times.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    (42, S)
                };
                cache.get("k", make).await.unwrap().0
            });
        }
        while let Some(value) = asking.join_next().await {
            assert_eq!(value.unwrap(), 42);
        }
        assert_eq!(times.load(Ordering::SeqCst), 1);
        let again = cache.get("k", || async { (0, S) }).await;
        assert_eq!(again, Ok((42, How::Hit)));
    }

    #[tokio::test]
    async fn who_goes_away_loses_nothing_and_a_dead_making_holds_nobody() {
        let cache = Once::new(8, 1);
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            (1, S)
        };
        let left = tokio::time::timeout(Duration::from_millis(1), cache.get("a", slow)).await;
        assert!(left.is_err());
        // No room for a second making meanwhile.
        assert_eq!(cache.get("b", || async { (2, S) }).await, Err(Without::Full));
        assert_eq!(cache.get("a", || async { (9, S) }).await, Ok((1, How::Joined)));
        // One that is kept for no time is made again.
        assert_eq!(cache.get("c", || async { (3, Duration::ZERO) }).await, Ok((3, How::Made)));
        assert_eq!(cache.get("c", || async { (4, S) }).await, Ok((4, How::Made)));
        let dead = cache.get("d", || async { panic!("on purpose") }).await;
        assert_eq!(dead, Err(Without::Died));
        assert_eq!(cache.get("d", || async { (5, S) }).await, Ok((5, How::Made)));
    }
}
