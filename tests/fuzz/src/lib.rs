//! Mutated bytes for every parser of strangers' bytes.
//!
//! A [`Target`] feeds bytes to a parser through its smallest public entry point and asserts what
//! must hold of every answer: no panic, round trips, nothing outside of its directory, nothing
//! vouched for that was not signed. `docs/fuzzing.md` says which parser has which target.
//!
//! # Modules
//! - [`targets`]: the list; one file for each part of the lane
//! - [`mutate`]: from seeds to inputs; [`seeds`]: where seeds come from; [`template`]: inputs of
//!   several documents that name each other by digest
//! - [`child`]: one target in a process with limits; [`parent`]: starts it and judges its end
//!
//! The same functions are called by `fuzz/`, for libFuzzer on a nightly toolchain.

pub mod child;
pub mod mutate;
pub mod parent;
pub mod seeds;
pub mod targets;
pub mod template;

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// A parser under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `tests/fuzz/seeds`.
    pub name: &'static str,
    /// Parses, and panics where something does not hold.
    pub run: fn(&[u8]) -> Reached,
    /// More seeds: files of this repository, or (`shared:`) of the shared data. One `*` may
    /// stand for a folder or file name.
    pub more: &'static [&'static str],
    /// Words of its format.
    pub words: &'static [&'static str],
    /// Longest input (bytes).
    pub max: usize,
}

/// How far an input got. Inputs that get somewhere new are kept and mutated further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Whether it was accepted.
    pub accepted: bool,
    /// What it was accepted as, or refused with.
    pub mark: u64,
}

impl Reached {
    /// Accepted, as something of this kind.
    pub fn accepted(kind: impl Display) -> Self {
        Self { accepted: true, mark: mark(&kind.to_string()) }
    }

    /// Refused for this reason.
    pub fn refused(why: impl Display) -> Self {
        Self { accepted: false, mark: mark(&why.to_string()) }
    }

    /// Accepted or refused, as a result says.
    pub fn of<T, E: Display>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::accepted(""),
            Err(why) => Self::refused(why),
        }
    }

    /// Both of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.mark, other.mark).hash(&mut hasher);
        Self { accepted: self.accepted || other.accepted, mark: hasher.finish() }
    }
}

/// Most words of a message that count.
const MARK_WORDS: usize = 60;
/// Most messages of one input that count, and most bytes of the input that are looked at: marks
/// must cost less than the parsers do.
const MARKS: u32 = 64;
const MARK_INPUT: usize = 4096;

thread_local! {
    /// The input of this thread: its own words in a message are not news.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// How many messages of this input were marked.
    static MARKED: Cell<u32> = const { Cell::new(0) };
}

impl Target {
    /// Tries one input.
    pub fn attempt(&self, input: &[u8]) -> Reached {
        INPUT.with_borrow_mut(|kept| {
            kept.clear();
            kept.extend_from_slice(&input[..input.len().min(MARK_INPUT)]);
        });
        MARKED.set(0);
        (self.run)(input)
    }
}

/// A number for a message, blind to what it repeats of the input and to numbers, which change
/// with every input.
fn mark(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    if MARKED.replace(MARKED.get() + 1) >= MARKS {
        return 0;
    }
    let apart = |c: char| c.is_ascii_punctuation() || c.is_ascii_whitespace();
    let words = text.split(apart).filter(|word| {
        (2..20).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphabetic())
    });
    INPUT.with_borrow(|input| {
        for word in words.take(MARK_WORDS) {
            if !input.windows(word.len()).any(|part| part == word.as_bytes()) {
                word.hash(&mut hasher);
            }
        }
    });
    hasher.finish()
}
