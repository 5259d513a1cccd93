//! Names with values that look random: `api_key = "…"`, and lines of `.env` files. Pure, and by
//! hand: words like `token` are frequent in source code, and a regular expression at each is slow.

use super::placeholder::{entropy, is_placeholder};

/// Longest rest of a name after the word that was found (bytes): `token_for_the_registry`.
const MAX_NAME: usize = 40;
/// Longest value that is looked at (bytes).
const MAX_VALUE: usize = 256;
/// Shortest value of a key or token, and of a password (bytes).
const MIN_KEY: usize = 16;
const MIN_PASSWORD: usize = 8;
/// Bits of a character of a key or token, and of a password, at least.
const MIN_KEY_BITS: f64 = 3.5;
const MIN_PASSWORD_BITS: f64 = 2.75;
/// What stands for a password in addresses of manuals.
const WORDS: [&str; 8] =
    ["pass", "passwd", "password", "secret", "token", "user", "username", "test"];
/// Files whose values stand without quotes.
const UNQUOTED: [&str; 12] = [
    ".env",
    ".ini",
    ".cfg",
    ".conf",
    ".properties",
    ".yaml",
    ".yml",
    ".toml",
    ".tfvars",
    ".netrc",
    ".sh",
    "Dockerfile",
];

/// Whether values without quotes are values in this file, and not code.
pub(super) fn takes_unquoted(path: &str) -> bool {
    UNQUOTED.iter().any(|ending| path.ends_with(ending)) || is_env(path)
}

/// Whether it is a file of environment variables, and no template of one.
pub(super) fn is_env(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let template = ["example", "sample", "template", "dist", "defaults"];
    let env = name == ".env" || name.starts_with(".env.") || name.strip_suffix(".env").is_some();
    env && !template.iter().any(|word| name.contains(word))
}

/// The value after a name: where it begins and ends in `text`, which begins within the name, at
/// the word that was found.
pub(super) fn value(text: &[u8], password: bool, unquoted: bool) -> Option<(usize, usize)> {
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(*byte, b'_' | b'-' | b'.');
    let mut at = text.iter().take(MAX_NAME + 1).position(|byte| !named(byte))?;
    // The name's own quote or bracket: `"token": …`, `headers['token'] = …`.
    at += text[at..].iter().take(2).take_while(|b| matches!(b, b'"' | b'\'' | b']')).count();
    at += spaces(&text[at..]);
    let sign =
        [&b":="[..], b"=>", b"=", b":"].into_iter().find(|sign| text[at..].starts_with(sign))?;
    at += sign.len();
    if text.get(at) == Some(&b'=') {
        // A comparison.
        return None;
    }
    at += spaces(&text[at..]);
    let quote = text.get(at).copied().filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    if quote.is_none() && !unquoted {
        return None;
    }
    at += usize::from(quote.is_some());
    let rest = &text[at..text.len().min(at + MAX_VALUE + 1)];
    let ends = |byte: &u8| match quote {
        Some(quote) => *byte == quote || *byte == b'\n',
        None => byte.is_ascii_whitespace() || matches!(*byte, b',' | b';' | b'#' | b'"' | b'\''),
    };
    let length = rest.iter().position(ends).or((rest.len() <= MAX_VALUE).then_some(rest.len()))?;
    let value = std::str::from_utf8(&rest[..length]).ok()?;
    looks_secret(value, password).then_some((at, at + length))
}

fn spaces(text: &[u8]) -> usize {
    text.iter().take(8).take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

/// Whether a value looks like a secret: long, random, of more than letters, in one word.
fn looks_secret(value: &str, password: bool) -> bool {
    let (least, bits) = match password {
        true => (MIN_PASSWORD, MIN_PASSWORD_BITS),
        false => (MIN_KEY, MIN_KEY_BITS),
    };
    let plain = |byte: u8| byte.is_ascii_graphic();
    let digit = value.bytes().any(|byte| byte.is_ascii_digit());
    let letter = value.bytes().any(|byte| byte.is_ascii_alphabetic());
    // Calls, paths and addresses are code or places.
    let place = value.contains("://") || value.starts_with(['/', '.', '~']) || value.contains('(');
    value.len() >= least
        && value.bytes().all(plain)
        && digit
        && letter
        && !place
        && !is_placeholder(value)
        && entropy(value) >= bits
}

/// The password of an address: where it begins and ends in `text`, which begins at `://`. By hand,
/// too: most addresses have none, and each file has many.
pub(super) fn password(text: &[u8]) -> Option<(usize, usize)> {
    let rest = &text[3..text.len().min(3 + MAX_VALUE)];
    // RFC 3986, section 3.2.1, without what templates are made of.
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"/@:\"'<>{}$?#\\`".contains(byte);
    let user = rest.iter().position(|byte| !plain(byte)).filter(|at| (1..=64).contains(at))?;
    let secret = rest[user..].strip_prefix(b":")?;
    let length = secret.iter().position(|byte| !plain(byte)).filter(|at| (4..=128).contains(at))?;
    let host = secret[length..].strip_prefix(b"@")?;
    let ends = |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(*byte, b'.' | b'-');
    let host = &host[..host.iter().position(ends).unwrap_or(host.len())];
    let host = std::str::from_utf8(host).ok()?.to_ascii_lowercase();
    // RFC 2606: hosts of examples.
    let labels: Vec<&str> = host.rsplit('.').take(2).collect();
    let example = labels.iter().any(|label| matches!(*label, "example" | "invalid"));
    let value = std::str::from_utf8(&secret[..length]).ok()?;
    let lower = value.to_ascii_lowercase();
    let word = WORDS.contains(&lower.as_str()) || is_placeholder(value);
    let from = 3 + user + 1;
    (!host.is_empty() && !example && !word).then_some((from, from + length))
}

/// The value of a line of a `.env` file, if its name says that it is a secret: where it begins
/// and ends in the line.
pub(super) fn env_value(line: &str) -> Option<(usize, usize)> {
    let (name, rest) = line.split_once('=')?;
    let name = name.trim().trim_start_matches("export ").trim().to_ascii_uppercase();
    let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty();
    let words = ["SECRET", "TOKEN", "PASS", "PWD", "KEY", "CREDENTIAL"];
    if !named || !words.iter().any(|word| name.contains(word)) || name.contains("PUBLIC") {
        return None;
    }
    let value = rest.trim().trim_matches(['"', '\'']);
    let place = value.starts_with(['/', '.', '~']);
    if value.len() < MIN_PASSWORD || value.len() > 4096 || place || is_placeholder(value) {
        return None;
    }
    let from = line.len() - rest.len() + rest.find(value)?;
    Some((from, from + value.len()))
}
