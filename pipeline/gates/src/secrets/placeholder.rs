//! Values that stand for secrets in examples, and how random a text is. Pure.

/// Words that real secrets do not have in them.
const WORDS: [&str; 17] = [
    "example",
    "changeme",
    "change-me",
    "change_me",
    "placeholder",
    "dummy",
    "your-",
    "your_",
    "yourpass",
    "yoursecret",
    "yourtoken",
    "xxxx",
    "redacted",
    "insert",
    "notasecret",
    "<",
    "...",
];
/// Shortest run of one character that nobody's secret has.
const RUN: usize = 8;

/// Whether the text stands for a secret, rather than being one.
pub(super) fn is_placeholder(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    WORDS.iter().any(|word| lower.contains(word))
        || lower.starts_with(['$', '%', '{'])
        || lower.contains("${")
        || lower.contains("{{")
        || bytes.windows(RUN).any(|run| run.iter().all(|byte| *byte == run[0]))
        || lower.contains("12345678901234567890")
        || lower.contains("abcdefghijklmnop")
}

/// Bits of a character, by Shannon.
pub(super) fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    #[expect(clippy::cast_precision_loss, reason = "texts are short")]
    let all = text.len() as f64;
    let bits = counts.iter().filter(|count| **count > 0).map(|count| {
        let share = f64::from(*count) / all;
        -share * share.log2()
    });
    bits.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_randomness() {
        for text in [
            "<token>",
            "changeMe!!",
            "your-token-here",
            "xxxxxxxx",
            "aaaaaaaaab",
            "${TOKEN}",
            "$TOKEN",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        assert!(!is_placeholder("q8Zr1LmW0cVtYbN5"));
        assert!((entropy("aaaa") - 0.0).abs() < 1e-9);
        assert!((entropy("abcd") - 2.0).abs() < 1e-9);
        assert!(entropy("").abs() < 1e-9);
    }
}
