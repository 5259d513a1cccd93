//! Private keys in PEM: a header with the words, and a body; a header alone is a parser's. Pure.

/// Longest label of a header (bytes).
const MAX_LABEL: usize = 64;
/// How far after the header a body is looked for (bytes): encryption headers come before it.
const MAX_BEFORE: usize = 400;
/// Shortest run of base64 that is a body.
const MIN_BODY: usize = 32;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// A private key.
    Private,
    /// A key of cosign, by either of its labels.
    Cosign,
}

/// The block that begins here, and its first line of base64: what it is told apart by.
pub(super) fn block(from: &[u8]) -> Option<(Block, &[u8])> {
    let rest = from.strip_prefix(b"-----BEGIN ")?;
    let end = rest.iter().take(MAX_LABEL + 5).position(|byte| *byte == b'-')?;
    let label = std::str::from_utf8(&rest[..end]).ok()?;
    if !rest[end..].starts_with(b"-----") || !label.contains("PRIVATE KEY") {
        return None;
    }
    let known = label.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ');
    if !known {
        return None;
    }
    let after = &rest[end + 5..];
    let after = &after[..after.len().min(MAX_BEFORE)];
    let body = body(after)?;
    let cosign = label.contains("SIGSTORE") || label.contains("COSIGN");
    Some((if cosign { Block::Cosign } else { Block::Private }, body))
}

/// The first run of base64 that is long enough. A `\n` of JSON ends a run, as a line's end does.
fn body(text: &[u8]) -> Option<&[u8]> {
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let mut start = 0;
    for at in 0..=text.len() {
        let escaped = at > 0 && text[at - 1] == b'\\';
        if at < text.len() && base64(text[at]) && !escaped {
            continue;
        }
        if at - start >= MIN_BODY {
            return Some(&text[start..at]);
        }
        // The next block is not this one's body.
        if text[at..].starts_with(b"-----") {
            return None;
        }
        start = at + 1;
    }
    None
}
