//! The end of what a program said, without what it was told in confidence. Pure.

/// What stands for a secret.
const HIDDEN: &[u8] = b"***";

/// At most `most` bytes of the end, before secrets become `***`, as one line.
///
/// A secret is recognised also where the end begins in the middle of it, so `said` must go back
/// by `most` bytes and the longest secret.
pub(super) fn end(said: &[u8], secrets: &[&[u8]], most: usize) -> String {
    let mut hidden = vec![false; said.len()];
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        for (at, window) in said.windows(secret.len()).enumerate() {
            if window == *secret {
                hidden[at..at + secret.len()].fill(true);
            }
        }
    }
    let from = said.len().saturating_sub(most);
    let mut shown = Vec::new();
    for (at, byte) in said.iter().enumerate().skip(from) {
        if !hidden[at] {
            shown.push(*byte);
        } else if at == from || !hidden[at - 1] {
            shown.extend(HIDDEN);
        }
    }
    let text = String::from_utf8_lossy(&shown);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        for (said, most, want) in [
            ("the PIN 1234 is wrong", 100, "the PIN *** is wrong"),
            ("1234", 100, "***"),
            ("12341234x1234", 100, "***x***"),
            // One that another begins with, and two that overlap.
            ("a 12345678 b", 100, "a *** b"),
            ("123412345678", 100, "***"),
            ("78abc4 5678abc", 100, "78abc4 ***"),
            // The end begins within one.
            ("the PIN 1234 is", 5, "*** is"),
            ("the PIN 1234 is", 3, "is"),
            ("12 34\n", 100, "12 34"),
            ("a\x1b[2Jb", 100, "a [2Jb"),
        ] {
            let secrets: [&[u8]; 4] = [b"1234", b"12345678", b"5678abc", b""];
            assert_eq!(end(said.as_bytes(), &secrets, most), want, "{said} {most}");
        }
    }
}
