//! How much may be asked: the hourly budget of each caller, and the short blocks beside it.

use std::collections::BTreeMap;

use crate::answer::{Answer, refuse};

/// Requests an hour, unless a test says otherwise.
const HOURLY: u64 = 5000;
/// Length of the window (s).
const WINDOW: i64 = 3600;

/// A caller's hour.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    remaining: u64,
    reset: i64,
}

/// All budgets.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    buckets: BTreeMap<String, Bucket>,
    /// What a new window starts with, where it was set.
    hourly: Option<u64>,
    /// Requests that are still to be blocked, and how: status and `retry-after`.
    block: Option<(usize, u16, Option<u64>)>,
}

impl Limits {
    fn hourly(&self) -> u64 {
        self.hourly.unwrap_or(HOURLY)
    }

    pub(crate) fn set_hourly(&mut self, requests: u64) {
        self.hourly = Some(requests);
        self.buckets.clear();
    }

    pub(crate) fn block(&mut self, times: usize, status: u16, retry_after: Option<u64>) {
        self.block = Some((times, status, retry_after));
    }

    fn bucket(&mut self, who: &str, now: i64) -> &mut Bucket {
        let full = Bucket { remaining: self.hourly(), reset: now + WINDOW };
        let bucket = self.buckets.entry(who.to_owned()).or_insert(full);
        if bucket.reset <= now {
            *bucket = full;
        }
        bucket
    }

    /// Refuses who has asked too much.
    pub(crate) fn check(&mut self, who: &str, now: i64) -> Result<(), Answer> {
        if let Some((times, status, after)) = self.block.filter(|(times, _, _)| *times > 0) {
            self.block = Some((times - 1, status, after));
            let mut answer = refuse(
                status,
                "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
            );
            answer.headers.extend(after.map(|s| ("retry-after".to_owned(), s.to_string())));
            return Err(answer);
        }
        if self.bucket(who, now).remaining == 0 {
            return Err(refuse(403, &format!("API rate limit exceeded for {who}.")));
        }
        Ok(())
    }

    /// Counts an answer, and gives the headers that say so.
    pub(crate) fn count(&mut self, who: &str, now: i64, cost: bool) -> Vec<(String, String)> {
        let limit = self.hourly();
        let bucket = self.bucket(who, now);
        if cost {
            bucket.remaining = bucket.remaining.saturating_sub(1);
        }
        let used = limit.saturating_sub(bucket.remaining);
        [
            ("x-ratelimit-limit", limit.to_string()),
            ("x-ratelimit-remaining", bucket.remaining.to_string()),
            ("x-ratelimit-reset", bucket.reset.to_string()),
            ("x-ratelimit-used", used.to_string()),
            ("x-ratelimit-resource", "core".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}
