//! `Matcher`: how a policy compares a text of a certificate, exactly or by pattern.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

/// Longest pattern (bytes).
const MAX_PATTERN: usize = 1024;
/// Largest compiled pattern (bytes), against `(a{1000}){1000}`.
const MAX_COMPILED: usize = 64 * 1024;
/// Longest text compared with a pattern (bytes); matching is linear in both.
const MAX_TEXT: usize = 4096;

/// Compares a text.
#[derive(Clone, Debug)]
pub enum Matcher {
    /// Byte for byte.
    Exact(String),
    /// By a regular expression that must match the whole text.
    Pattern(Pattern),
}

impl Matcher {
    /// Whether the text is one that is meant.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(want) => want == text,
            Self::Pattern(pattern) => pattern.matches(text),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Pattern(pattern) => write!(f, "/{}/", pattern.source),
        }
    }
}

/// A regular expression over the whole text.
///
/// cosign and policy-controller find a pattern anywhere in the text, so that
/// `https://github.com/team/` also lets in `https://evil.example/https://github.com/team/`. Here
/// it has to match from the first byte to the last: never more is admitted than they admit.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    whole: Regex,
}

impl Pattern {
    /// Compiles a pattern: RE2's syntax without Unicode classes.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.is_empty() || source.len() > MAX_PATTERN {
            return Err(format!("want a pattern of 1 to {MAX_PATTERN} bytes"));
        }
        // On its own first: `a)|(b` would become sound by what is put around it.
        let build = |text: &str| {
            RegexBuilder::new(text).size_limit(MAX_COMPILED).build().map_err(|e| e.to_string())
        };
        build(source).map_err(|error| format!("`{source}` is no regular expression: {error}"))?;
        let whole = build(&format!(r"\A(?:{source})\z"))?;
        Ok(Self { source: source.to_owned(), whole })
    }

    /// The pattern as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it says by itself where the text begins and ends, and so means the same to tools
    /// that search.
    pub fn is_anchored(&self) -> bool {
        // Where flags or a quantifier change what an anchor means, it is not one.
        let plain = |rest: &str| !rest.starts_with(['?', '*', '+', '{']);
        let begin = self.source.strip_prefix('^').or_else(|| self.source.strip_prefix(r"\A"));
        let end = self.source.strip_suffix('$').or_else(|| self.source.strip_suffix(r"\z"));
        let escapes = |text: &str| text.bytes().rev().take_while(|byte| *byte == b'\\').count();
        begin.is_some_and(plain)
            && end.is_some_and(|text| escapes(text) % 2 == 0)
            && !self.source.contains("(?")
            && !self.alternates()
    }

    /// Whether it has alternatives outside of groups: then anchors hold for one of them alone.
    fn alternates(&self) -> bool {
        let (mut depth, mut class, mut escaped) = (0u32, false, false);
        for c in self.source.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '[' => class = true,
                ']' => class = false,
                '(' if !class => depth += 1,
                ')' if !class => depth = depth.saturating_sub(1),
                '|' if !class && depth == 0 => return true,
                _ => {}
            }
        }
        false
    }

    fn matches(&self, text: &str) -> bool {
        text.len() <= MAX_TEXT && self.whole.is_match(text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, want) in [
            ("https://github\\.com/team/.*", "https://github.com/team/car", true),
            ("https://github\\.com/team/.*", "https://evil/https://github.com/team/car", false),
            ("^a|b$", "a", true),
            ("^a|b$", "ax", false),
            ("^a|b$", "xb", false),
            ("a", "A", false),
            ("a$", "a\n", false),
            ("(?i)a", "A", true),
            (".*", "", true),
            (".*kubernetes.default.*", "https://kubernetes.default.svc", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(text), want, "{pattern} {text:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "(", "a)|(b", "(a{1000}){1000}", "(?=a)", "[", "*"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
        assert!(Pattern::new(&"a".repeat(MAX_PATTERN + 1)).is_err());
        assert!(!Pattern::new("a*").unwrap().matches(&"a".repeat(MAX_TEXT + 1)));
    }

    #[test]
    fn anchors_are_recognised() {
        for (pattern, want) in [
            ("^a$", true),
            (r"\Aa\z", true),
            ("a", false),
            ("^a", false),
            (r"^a\$", false),
            ("^a|b$", false),
            ("^(a|b)[|]$", true),
            (r"^a\|b$", true),
            (r"^a\\z", false),
            ("^?a$", false),
            ("^(?m)a$", false),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().is_anchored(), want, "{pattern}");
        }
    }
}
