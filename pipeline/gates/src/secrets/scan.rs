//! The bytes of a file → secrets in them. Pure.

use aho_corasick::{AhoCorasick, MatchKind};
use regex_lite::Regex;
use sha2::{Digest as _, Sha256};

use super::{
    assignment::{env_value, is_env, password, takes_unquoted, value},
    pem::{self, Block},
    placeholder::{entropy, is_placeholder},
    rules::{COSIGN, Check, ENV, RULES, Rule},
};

/// Most of what follows an anchor that a pattern sees (bytes): the longest JWT.
const WINDOW: usize = 8192;
/// Most secrets that are told of one file; a file of secrets is known after that many.
pub const MAX_PER_FILE: usize = 100;
/// Bits of a character of what must look random.
const RANDOM: f64 = 3.8;
/// How often a guessable secret is hashed for its fingerprint.
const ROUNDS: u32 = 20_000;

/// A secret that was found. The secret itself is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Which rule found it.
    pub rule: &'static str,
    /// From 1.
    pub line: u64,
    /// Its first characters.
    pub shown: String,
    /// The same as long as rule, path and secret are: 16 hexadecimal digits.
    pub fingerprint: String,
}

/// Looks for secrets; made once.
#[derive(Debug)]
pub struct Scanner {
    anchors: AhoCorasick,
    /// Anchor → its rule.
    rules: Vec<usize>,
    patterns: Vec<Option<Regex>>,
}

/// A secret's place in the file.
struct Span {
    rule: &'static Rule,
    from: usize,
    to: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// Makes the tables.
    #[expect(clippy::expect_used, reason = "the rules are ours, and a test makes them")]
    pub fn new() -> Self {
        let anchors = RULES.iter().enumerate();
        let anchors: Vec<(usize, &str)> = anchors
            .flat_map(|(number, rule)| rule.anchors.iter().map(move |anchor| (number, *anchor)))
            .collect();
        let patterns = RULES.iter().map(|rule| match rule.pattern {
            "" => None,
            pattern => Some(Regex::new(pattern).expect("a pattern of ours")),
        });
        Self {
            rules: anchors.iter().map(|(number, _)| *number).collect(),
            anchors: AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(anchors.iter().map(|(_, anchor)| *anchor))
                .expect("a few short anchors"),
            patterns: patterns.collect(),
        }
    }

    /// The secrets of a file, in order; its path is that in the checkout.
    pub fn scan(&self, path: &str, bytes: &[u8]) -> Vec<Secret> {
        let unquoted = takes_unquoted(path);
        let mut spans: Vec<Span> = Vec::new();
        for found in self.anchors.find_iter(bytes) {
            let number = self.rules[found.pattern().as_usize()];
            let pattern = self.patterns[number].as_ref();
            spans.extend(at(&RULES[number], pattern, bytes, found.start(), unquoted));
            if spans.len() >= 4 * MAX_PER_FILE {
                break;
            }
        }
        if is_env(path) {
            spans.extend(env(bytes));
        }
        tell(path, bytes, spans)
    }
}

/// The secret at an anchor.
fn at(
    rule: &'static Rule,
    pattern: Option<&Regex>,
    bytes: &[u8],
    start: usize,
    unquoted: bool,
) -> Option<Span> {
    let window = &bytes[start..bytes.len().min(start + WINDOW)];
    if rule.check == Check::Pem {
        let (block, body) = pem::block(window)?;
        let rule = if block == Block::Cosign { &COSIGN } else { rule };
        // By its body: headers are all the same.
        let from = start + (body.as_ptr() as usize - window.as_ptr() as usize);
        return Some(Span { rule, from, to: from + body.len() });
    }
    if rule.check == Check::Assignment {
        let password = window[..5].eq_ignore_ascii_case(b"passw");
        let (from, to) = value(window, password, unquoted)?;
        return Some(Span { rule, from: start + from, to: start + to });
    }
    if rule.check == Check::Address {
        let (from, to) = password(window)?;
        return Some(Span { rule, from: start + from, to: start + to });
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = window.first().copied().is_some_and(word);
    // In the middle of a longer word it is something else.
    if first && start > 0 && word(bytes[start - 1]) {
        return None;
    }
    let line = window.iter().position(|byte| *byte == b'\n').unwrap_or(window.len());
    let line = &window[..line];
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&line[..error.valid_up_to()]).ok()?,
    };
    let groups = pattern?.captures(text)?;
    let whole = groups.get(0)?;
    let secret = groups.get(1).unwrap_or(whole);
    // A longer one is another thing: a hash, a file in base64.
    let longer = secret.end() == whole.end() && line.get(whole.end()).is_some_and(|b| word(*b));
    let text = secret.as_str();
    let holds = !is_placeholder(text)
        && match rule.check {
            Check::Digit => text.bytes().any(|byte| byte.is_ascii_digit()),
            Check::Random => entropy(text) >= RANDOM,
            Check::Jwt => is_jwt(text),
            Check::Real | Check::Pem | Check::Assignment | Check::Address => true,
        };
    let span = Span { rule, from: start + secret.start(), to: start + secret.end() };
    (holds && !longer).then_some(span)
}

/// Whether the first part is an object with an algorithm, as RFC 7515 wants it.
fn is_jwt(text: &str) -> bool {
    let header = text.split('.').next().and_then(base64url).unwrap_or_default();
    let header: Option<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_slice(&header).ok();
    header.is_some_and(|header| header.contains_key("alg"))
}

/// RFC 4648, section 5, without padding.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(digit)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    Some(bytes)
}

fn env(bytes: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut start = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        let text = std::str::from_utf8(line).unwrap_or_default();
        if let Some((from, to)) = env_value(text) {
            spans.push(Span { rule: &ENV, from: start + from, to: start + to });
        }
        start += line.len() + 1;
        if spans.len() >= MAX_PER_FILE {
            break;
        }
    }
    spans
}

/// Spans → what is told: in order, each place once, by the rule that knows it best.
fn tell(path: &str, bytes: &[u8], mut spans: Vec<Span>) -> Vec<Secret> {
    // The guesses come last.
    let rank = |span: &Span| match span.rule.id {
        "assignment" => 2,
        "env-file" => 1,
        _ => 0,
    };
    spans.sort_by_key(|span| (rank(span), span.from));
    let mut kept: Vec<Span> = Vec::new();
    for span in spans {
        if kept.iter().all(|other| span.to <= other.from || other.to <= span.from) {
            kept.push(span);
        }
        if kept.len() == MAX_PER_FILE {
            break;
        }
    }
    kept.sort_by_key(|span| span.from);
    let (mut line, mut counted) = (1, 0);
    let secrets = kept.into_iter().map(|span| {
        line += bytes[counted..span.from].split(|byte| *byte == b'\n').count() as u64 - 1;
        counted = span.from;
        let secret = &bytes[span.from..span.to];
        Secret {
            rule: span.rule.id,
            line,
            shown: shown(secret),
            fingerprint: fingerprint(span.rule, path, secret),
        }
    });
    secrets.collect()
}

/// So much of it that whoever knows it recognises it.
fn shown(secret: &[u8]) -> String {
    let text = String::from_utf8_lossy(secret);
    let most = if secret.len() >= 20 { 4 } else { 1 };
    text.chars().take(most).chain(['…']).collect()
}

fn fingerprint(rule: &Rule, path: &str, secret: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [b"pitlane secret v1", rule.id.as_bytes(), path.as_bytes(), secret] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut digest = hash.finalize();
    // Fingerprints are published; a short password could be guessed from one.
    if matches!(rule.id, "assignment" | "env-file" | "url-password") {
        for _ in 0..ROUNDS {
            digest = Sha256::digest(digest);
        }
    }
    hex::encode(&digest[..8])
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
