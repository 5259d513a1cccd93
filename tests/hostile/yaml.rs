//! What is done to a good YAML file, whatever it is for.

use std::fmt::Write as _;

use crate::common::swap;

/// Makes a broken file of the good one.
pub(super) type Edit = fn(&str) -> Vec<u8>;

/// The good one with something in another's place.
pub(super) fn with(text: &str, from: &str, to: &str) -> Vec<u8> {
    swap(text, from, to).into_bytes()
}

/// Lists of lists of lists: a few lines that unfold to thousands of millions of words.
pub(super) fn bomb(text: &str) -> Vec<u8> {
    let mut text = format!("x0: &x0 [{}]\n", ["y"; 9].join(",")) + text;
    for n in 1..12 {
        writeln!(text, "x{n}: &x{n} [{}]", vec![format!("*x{}", n - 1); 9].join(",")).unwrap();
    }
    text.into_bytes()
}
