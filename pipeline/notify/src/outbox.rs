//! The seam to where pending deliveries are kept, and one in memory.
//!
//! A delivery is an event for one channel. The service keeps them in its own store, in the
//! transaction that made the event true; so an event is told if and only if it happened.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use crate::event::{Event, EventId};

/// Ids that the one in memory remembers for each channel after their end.
const REMEMBERED: usize = 1024;

/// A delivery that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// What to tell.
    pub event: Event,
    /// Tries so far.
    pub attempts: u32,
    /// When the first try was; none before it.
    pub first_try: Option<Timestamp>,
    /// Not to be tried before.
    pub due: Option<Timestamp>,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The receiver has it.
    Delivered,
    /// The receiver wants none of it, or tries are used up; says why.
    GivenUp(String),
}

/// The store failed; the couriers wait and ask again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the outbox: {0}")]
pub struct OutboxError(pub String);

/// Pending deliveries, by channel. One courier asks for each channel, one call at a time.
pub trait Outbox: Send + Sync + 'static {
    /// The oldest delivery of a channel, due or not: later ones wait, so that order holds.
    fn next(
        &self,
        channel: &str,
    ) -> impl Future<Output = Result<Option<Pending>, OutboxError>> + Send;

    /// It ended; forget it. Nothing happens when it is gone already.
    fn ack(
        &self,
        channel: &str,
        id: &EventId,
        end: &End,
    ) -> impl Future<Output = Result<(), OutboxError>> + Send;

    /// It failed and is tried again: keep the tries so far, when the first was, and when it is
    /// due. Called before a try as well, with a due time of now, so that a crash counts as a try.
    fn later(
        &self,
        channel: &str,
        id: &EventId,
        attempts: u32,
        first_try: Timestamp,
        due: Timestamp,
    ) -> impl Future<Output = Result<(), OutboxError>> + Send;

    /// Drops the oldest deliveries of a channel until `keep` are left; how many were dropped
    /// since the last call, by this call or (where putting is bounded, too) by putting.
    fn shed(
        &self,
        channel: &str,
        keep: usize,
    ) -> impl Future<Output = Result<u64, OutboxError>> + Send;
}

/// An outbox that is gone when the process is: for `pitlane release`, and for tests.
#[derive(Debug)]
pub struct MemoryOutbox {
    most: usize,
    channels: Mutex<BTreeMap<String, Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<Pending>,
    ended: VecDeque<EventId>,
    dropped: u64,
}

impl MemoryOutbox {
    /// One that keeps at most so many deliveries for each channel; older ones are dropped.
    pub fn new(most: usize) -> Self {
        Self { most, channels: Mutex::default() }
    }

    /// Adds a delivery for each channel that has not got this event; call [`crate::Couriers::wake`].
    pub fn put<'a>(&self, event: &Event, channels: impl IntoIterator<Item = &'a str>) {
        for channel in channels {
            self.with(channel, |queue| {
                let known = queue.pending.iter().any(|pending| pending.event.id == event.id);
                if known || queue.ended.contains(&event.id) {
                    return;
                }
                let event = event.clone();
                queue.pending.push_back(Pending { event, attempts: 0, first_try: None, due: None });
                queue.shed(self.most);
            });
        }
    }

    /// Deliveries that have not ended, of all channels.
    pub fn len(&self) -> usize {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.values().map(|queue| queue.pending.len()).sum()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, channel: &str, act: impl FnOnce(&mut Queue) -> T) -> T {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        act(channels.entry(channel.to_owned()).or_default())
    }
}

impl Queue {
    fn shed(&mut self, keep: usize) {
        while self.pending.len() > keep {
            self.pending.pop_front();
            self.dropped += 1;
        }
    }
}

impl Outbox for MemoryOutbox {
    async fn next(&self, channel: &str) -> Result<Option<Pending>, OutboxError> {
        Ok(self.with(channel, |queue| queue.pending.front().cloned()))
    }

    async fn ack(&self, channel: &str, id: &EventId, _: &End) -> Result<(), OutboxError> {
        self.with(channel, |queue| {
            queue.pending.retain(|pending| pending.event.id != *id);
            queue.ended.push_back(id.clone());
            if queue.ended.len() > REMEMBERED {
                queue.ended.pop_front();
            }
        });
        Ok(())
    }

    async fn later(
        &self,
        channel: &str,
        id: &EventId,
        attempts: u32,
        first_try: Timestamp,
        due: Timestamp,
    ) -> Result<(), OutboxError> {
        self.with(channel, |queue| {
            let found = queue.pending.iter_mut().find(|pending| pending.event.id == *id);
            if let Some(pending) = found {
                pending.attempts = attempts;
                (pending.first_try, pending.due) = (Some(first_try), Some(due));
            }
        });
        Ok(())
    }

    async fn shed(&self, channel: &str, keep: usize) -> Result<u64, OutboxError> {
        Ok(self.with(channel, |queue| {
            queue.shed(keep);
            std::mem::take(&mut queue.dropped)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::samples;

    #[tokio::test]
    async fn order_bounds_and_once() {
        let outbox = MemoryOutbox::new(3);
        let events = samples();
        for event in events.iter().chain(&events) {
            outbox.put(event, ["a", "b"]);
        }
        assert_eq!(outbox.len(), 6);
        assert_eq!(outbox.shed("a", 2).await.unwrap(), 22, "9 and then 12 were too many, and one");
        assert_eq!(outbox.shed("a", 2).await.unwrap(), 0);
        let first = outbox.next("a").await.unwrap().unwrap();
        assert_eq!(first.event, events[10]);
        let now = Timestamp::UNIX_EPOCH;
        outbox.later("a", &first.event.id, 1, now, now).await.unwrap();
        assert_eq!(outbox.next("a").await.unwrap().unwrap().attempts, 1);
        outbox.ack("a", &first.event.id, &End::Delivered).await.unwrap();
        assert_eq!(outbox.next("a").await.unwrap().unwrap().event, events[11]);
        outbox.put(&events[10], ["a"]);
        assert_eq!(outbox.len(), 4, "what was told is not told again");
        assert_eq!(outbox.next("b").await.unwrap().unwrap().attempts, 0, "each for itself");
    }
}
