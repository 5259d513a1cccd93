//! `Counter` and `Floor`: the order of releases that a car can hold against rollback.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The number of a release among those of one car kind of one source repository.
///
/// `Ord` means "released later", nothing about quality: a rollback is a new statement with a
/// higher counter over an old image. Zero is no counter.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Counter(std::num::NonZeroU64);

impl Counter {
    /// The first release.
    pub const FIRST: Self = Self(std::num::NonZeroU64::MIN);

    /// A counter, unless zero or above 2^53 - 1 (JSON readers that use doubles lose digits).
    pub const fn new(value: u64) -> Option<Self> {
        if value > (1 << 53) - 1 {
            return None;
        }
        match std::num::NonZeroU64::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The counter of the next release; `None` at the end of the range.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.get() + 1)
    }
}

impl TryFrom<u64> for Counter {
    type Error = String;

    fn try_from(value: u64) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("{value} is no counter: want 1 to 2^53 - 1"))
    }
}

impl From<Counter> for u64 {
    fn from(counter: Counter) -> Self {
        counter.get()
    }
}

impl std::fmt::Display for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// The lowest counter a car still starts: raised when a release was confirmed by driving, never
/// at admission (a bad new image must not lock out the old one), and never lowered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Floor(pub u64);

impl Floor {
    /// Whether a release of this counter may still start.
    pub const fn admits(self, counter: Counter) -> bool {
        counter.get() >= self.0
    }

    /// The floor after a release of this counter was confirmed.
    #[must_use]
    pub const fn raised_to(self, counter: Counter) -> Self {
        if counter.get() > self.0 { Self(counter.get()) } else { self }
    }
}
