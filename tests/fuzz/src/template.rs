//! Inputs of several documents that name each other by digest.
//!
//! A mutated digest is just a wrong digest, and the interesting code lies behind the right one.
//! So a seed says `{{d2}}` and `{{s2}}` for digest and size of document 2, and `{{name}}` for what
//! a target offers; they are filled in after mutating. Documents are separated by a line `%%`.

use pitlane_release::Digest;

/// Most documents of one input.
pub const MAX_DOCUMENTS: usize = 16;
/// Longest document after filling in (bytes).
const MAX_FILLED: usize = 1 << 20;

/// Cuts an input at lines of `%%`.
pub fn cut(input: &[u8]) -> Vec<&[u8]> {
    const LINE: &[u8] = b"\n%%\n";
    let (mut rest, mut out) = (input, Vec::new());
    while out.len() + 1 < MAX_DOCUMENTS {
        let Some(at) = rest.windows(LINE.len()).position(|window| window == LINE) else { break };
        out.push(&rest[..at]);
        rest = &rest[at + LINE.len()..];
    }
    out.push(rest);
    out
}

/// Replaces each `{{name}}` by what `value` gives; what is unknown stays.
pub fn fill(text: &[u8], value: &dyn Fn(&str) -> Option<Vec<u8>>) -> Vec<u8> {
    let (mut rest, mut out) = (text, Vec::with_capacity(text.len()));
    while let Some(at) = rest.windows(2).position(|window| window == b"{{") {
        out.extend_from_slice(&rest[..at]);
        let tail = &rest[at + 2..];
        let end = tail
            .iter()
            .take(24)
            .position(|b| *b == b'}')
            .filter(|end| tail.get(end + 1) == Some(&b'}'));
        let filled = end.and_then(|end| {
            let name = std::str::from_utf8(&tail[..end]).ok()?;
            Some((value(name)?, end + 2))
        });
        match filled {
            Some((bytes, used)) if out.len() + bytes.len() <= MAX_FILLED => {
                out.extend_from_slice(&bytes);
                rest = &tail[used..];
            }
            _ => {
                out.extend_from_slice(b"{{");
                rest = tail;
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// The documents of an input, filled in from the last to the first: each may name later ones.
/// `finish` may turn a document into what is stored of it (a sealed bundle).
pub fn documents(
    input: &[u8],
    value: &dyn Fn(&str) -> Option<Vec<u8>>,
    finish: &dyn Fn(Vec<u8>) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let texts = cut(input);
    let mut done: Vec<Vec<u8>> = vec![Vec::new(); texts.len()];
    for at in (0..texts.len()).rev() {
        let later = |name: &str| {
            let number: usize = name.get(1..)?.parse().ok()?;
            let other = done.get(number).filter(|_| number > at)?;
            match name.as_bytes()[0] {
                b'd' => Some(Digest::of(other).to_string().into_bytes()),
                b'h' => Some(Digest::of(other).hex().into_bytes()),
                b's' => Some(other.len().to_string().into_bytes()),
                _ => None,
            }
        };
        let filled = fill(texts[at], &|name| later(name).or_else(|| value(name)));
        done[at] = finish(filled);
    }
    done
}
