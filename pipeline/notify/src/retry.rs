//! When to try again: backoff with jitter, bounded in tries and time. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Wait after the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait that we choose.
const LONGEST: Duration = Duration::from_mins(5);
/// Longest wait that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_mins(15);
/// Most tries that a configuration may ask for.
pub const MAX_ATTEMPTS: u32 = 100;

/// How long a channel keeps trying to deliver an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// Tries in all, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// Seconds after which no further try begins.
    pub for_seconds: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 20, for_seconds: 3600 }
    }
}

impl Retry {
    /// When to try again after so many tries, the first of which was at `first`; none when that
    /// was enough. `asked` is what the receiver wants to be given; `random` is from 0 to 1.
    pub fn again(
        &self,
        tries: u32,
        first: Timestamp,
        now: Timestamp,
        asked: Option<Duration>,
        random: f64,
    ) -> Option<Timestamp> {
        if tries >= self.attempts {
            return None;
        }
        let doubled = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(LONGEST);
        // Between half and all of it, so that many do not come back at one moment.
        let ours = doubled.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
        let wait = ours.max(asked.unwrap_or_default().min(LONGEST_ASKED));
        let at = now.checked_add(SignedDuration::try_from(wait).ok()?).ok()?;
        let end = first.checked_add(SignedDuration::from_secs(self.for_seconds.into())).ok()?;
        (at <= end).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_double_and_end() {
        let retry = Retry { attempts: 12, for_seconds: 3600 };
        let (mut now, mut waits) = (at(0), Vec::new());
        for tries in 1.. {
            let Some(next) = retry.again(tries, at(0), now, None, 1.0) else { break };
            waits.push(next.as_second() - now.as_second());
            now = next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let short = Retry { attempts: 100, for_seconds: 10 };
        assert_eq!(short.again(5, at(0), at(7), None, 0.0), None, "too late");
        assert_eq!(Retry { attempts: 1, for_seconds: 99 }.again(1, at(0), at(0), None, 0.0), None);
    }

    #[test]
    fn what_a_receiver_asks_for_is_bounded() {
        let retry = Retry::default();
        let asked = |seconds| retry.again(1, at(0), at(0), Some(Duration::from_secs(seconds)), 0.0);
        assert_eq!(asked(0), Some(Timestamp::from_millisecond(500).unwrap()));
        assert_eq!(asked(30), Some(at(30)));
        assert_eq!(asked(u64::MAX), Some(at(900)));
    }

    proptest::proptest! {
        #[test]
        fn no_wait_is_before_now_or_too_long(
            attempts: u32, for_seconds: u32, tries: u32, first in 0..1i64 << 33,
            since in 0..1i64 << 20, asked: Option<Duration>, random: f64
        ) {
            let retry = Retry { attempts, for_seconds };
            let now = at(first + since);
            if let Some(next) = retry.again(tries, at(first), now, asked, random) {
                proptest::prop_assert!(next >= now && next <= at(now.as_second() + 900));
                proptest::prop_assert!(next <= at(first + i64::from(for_seconds)));
            }
        }
    }
}
