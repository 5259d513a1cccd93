//! Choices that a seed makes again: Steele, Lea and Flood's `SplitMix64`.

use std::time::Duration;

/// A row of choices.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub(super) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 for 0.
    pub(super) const fn below(&mut self, end: u64) -> u64 {
        let drawn = self.draw();
        match end {
            0 => 0,
            end => drawn % end,
        }
    }

    /// Whether one in so many times is now.
    pub(super) const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A time of at most so many milliseconds.
    pub(super) const fn up_to(&mut self, millis: u64) -> Duration {
        Duration::from_millis(self.below(millis + 1))
    }
}

#[test]
fn a_seed_makes_the_same_choices() {
    let row = |seed| {
        let mut chance = Chance::new(seed);
        (0..50).map(|_| chance.below(10)).collect::<Vec<u64>>()
    };
    assert_eq!(row(7), row(7));
    assert_ne!(row(7), row(8));
    assert!((0..10).all(|n| row(7).contains(&n)), "{:?}", row(7));
}
