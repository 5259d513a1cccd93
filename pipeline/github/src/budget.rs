//! How much may still be asked, decided without I/O from what answers said.
//!
//! Polling leaves a reserve: when a run has something to report, there must be requests left.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use http::HeaderMap;

use crate::error::Limit;

/// Longest wait that is believed.
const LONGEST: Duration = Duration::from_hours(1);
/// The pause after a secondary limit that gives no time; GitHub asks for at least a minute.
const PAUSE: Duration = Duration::from_mins(1);

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A run needs it.
    Work,
    /// It can wait: looking whether something changed.
    Poll,
}

/// What an answer said of limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    remaining: Option<u64>,
    /// From the answer's own clock to the end of the window.
    resets_in: Option<Duration>,
    retry_after: Option<Duration>,
}

impl Said {
    /// Reads the headers; `now` is this machine's clock (s since 1970), for servers without one.
    pub(crate) fn read(headers: &HeaderMap, now: i64) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let seconds = |name: &str| {
            let found = text(name)?.parse::<u64>().ok()?;
            Some(Duration::from_secs(found).min(LONGEST))
        };
        // Both times are the server's, so that a wrong clock here does not matter.
        let date = text("date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        let date = date.map_or(now, |date| date.timestamp().as_second());
        let reset = text("x-ratelimit-reset").and_then(|reset| reset.parse::<i64>().ok());
        let resets_in = reset.map(|reset| {
            let left = u64::try_from(reset.saturating_sub(date)).unwrap_or(0);
            Duration::from_secs(left).min(LONGEST)
        });
        Self {
            remaining: text("x-ratelimit-remaining").and_then(|left| left.parse().ok()),
            resets_in,
            retry_after: seconds("retry-after"),
        }
    }

    /// Whether a refusal is a limit, which one, and how long to wait.
    pub(crate) fn limit(&self, status: u16, message: &str) -> Option<(Limit, Duration)> {
        if status != 403 && status != 429 {
            return None;
        }
        if let Some(wait) = self.retry_after {
            return Some((Limit::Secondary, wait));
        }
        if self.remaining == Some(0) {
            return Some((Limit::Primary, self.resets_in.unwrap_or(PAUSE)));
        }
        let told = message.to_ascii_lowercase();
        let secondary = status == 429
            || ["secondary rate limit", "abuse detection"].iter().any(|word| told.contains(word));
        secondary.then_some((Limit::Secondary, PAUSE))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    remaining: Option<u64>,
    resets: Option<Instant>,
    blocked: Option<Instant>,
}

/// What is known of every window: one for each token, or installation.
#[derive(Debug)]
pub(crate) struct Budget {
    windows: HashMap<String, Window>,
    reserve: u64,
}

impl Budget {
    pub(crate) fn new(reserve: u64) -> Self {
        Self { windows: HashMap::new(), reserve }
    }

    /// Learns from an answer.
    pub(crate) fn learn(&mut self, who: &str, said: &Said, now: Instant) {
        let window = self.windows.entry(who.to_owned()).or_default();
        if said.remaining.is_some() {
            window.remaining = said.remaining;
            window.resets = said.resets_in.map(|left| now + left);
        }
    }

    /// Remembers that nothing is to be asked for a while.
    pub(crate) fn block(&mut self, who: &str, wait: Duration, now: Instant) {
        self.windows.entry(who.to_owned()).or_default().blocked = Some(now + wait);
    }

    /// Whether this may be asked now, or why not and how long to wait.
    pub(crate) fn permit(
        &self,
        who: &str,
        purpose: Purpose,
        now: Instant,
    ) -> Result<(), (Limit, Duration)> {
        let Some(window) = self.windows.get(who) else { return Ok(()) };
        let left = |end: Instant| end.saturating_duration_since(now);
        if let Some(wait) = window.blocked.map(left).filter(|wait| !wait.is_zero()) {
            return Err((Limit::Secondary, wait));
        }
        // After the window's end nothing is known, and the next answer tells.
        let Some(wait) = window.resets.map(left).filter(|wait| !wait.is_zero()) else {
            return Ok(());
        };
        match (window.remaining, purpose) {
            (Some(0), _) => Err((Limit::Primary, wait)),
            (Some(left), Purpose::Poll) if left <= self.reserve => Err((Limit::Reserve, wait)),
            _ => Ok(()),
        }
    }

    /// What is left of a window, if it is known.
    pub(crate) fn remaining(&self, who: &str) -> Option<u64> {
        self.windows.get(who)?.remaining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    #[test]
    fn polling_leaves_a_reserve() {
        let mut budget = Budget::new(100);
        let now = Instant::now();
        assert_eq!(budget.permit("a", Purpose::Poll, now), Ok(()), "nothing is known yet");
        let said = |left: &str| {
            let pairs = [("x-ratelimit-remaining", left), ("x-ratelimit-reset", "1600")];
            Said::read(&headers(&pairs), 1000)
        };
        budget.learn("a", &said("101"), now);
        assert_eq!(budget.permit("a", Purpose::Poll, now), Ok(()));
        budget.learn("a", &said("100"), now);
        let wait = Duration::from_mins(10);
        assert_eq!(budget.permit("a", Purpose::Poll, now), Err((Limit::Reserve, wait)));
        assert_eq!(budget.permit("a", Purpose::Work, now), Ok(()));
        assert_eq!(budget.permit("b", Purpose::Poll, now), Ok(()), "another's hour");
        budget.learn("a", &said("0"), now);
        assert_eq!(budget.permit("a", Purpose::Work, now), Err((Limit::Primary, wait)));
        assert_eq!(budget.permit("a", Purpose::Work, now + wait), Ok(()), "a new hour");
        budget.block("a", Duration::from_secs(7), now + wait);
        let blocked = Err((Limit::Secondary, Duration::from_secs(7)));
        assert_eq!(budget.permit("a", Purpose::Work, now + wait), blocked);
    }

    #[test]
    fn refusals_that_are_limits() {
        let said = |pairs: &[(&'static str, &str)]| Said::read(&headers(pairs), 1000);
        let after = said(&[("retry-after", "30")]);
        assert_eq!(after.limit(403, ""), Some((Limit::Secondary, Duration::from_secs(30))));
        assert_eq!(after.limit(404, ""), None);
        let none = said(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1060")]);
        assert_eq!(none.limit(403, ""), Some((Limit::Primary, Duration::from_mins(1))));
        let told = Some((Limit::Secondary, PAUSE));
        assert_eq!(said(&[]).limit(403, "You have exceeded a secondary rate limit."), told);
        assert_eq!(said(&[]).limit(429, ""), told);
        assert_eq!(said(&[]).limit(403, "Resource not accessible by integration"), None);
        // Nonsense is not waited for.
        let absurd = said(&[("retry-after", "99999999999")]);
        assert_eq!(absurd.limit(429, ""), Some((Limit::Secondary, LONGEST)));
        assert_eq!(said(&[("retry-after", "soon")]).limit(403, ""), None);
    }

    #[test]
    fn the_servers_clock_counts() {
        let pairs = [
            ("date", "Thu, 26 Nov 2026 22:00:00 GMT"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1795730460"),
        ];
        // This machine is a day late.
        let said = Said::read(&headers(&pairs), 1_795_644_000);
        assert_eq!(said.resets_in, Some(Duration::from_mins(1)));
    }
}
