//! From seeds to inputs: small changes, several at once, that keep most of the format intact.

use fastrand::Rng;

/// Most changes made to one input.
const CHANGES: [usize; 8] = [1, 1, 1, 2, 2, 3, 5, 9];
/// Most times a piece is repeated: deep nesting, long lists.
const REPEATS: [usize; 6] = [2, 3, 17, 130, 2_000, 60_000];
/// Words that mean something to many parsers.
const WORDS: [&[u8]; 44] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b":",
    b",",
    b"\n",
    b"\r\n\r\n",
    b"/",
    b"..",
    b"\0",
    b"%",
    b"*",
    b"&a",
    b"<<: *a",
    b"!!binary",
    b"---\n",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"-0.0",
    b"9223372036854775807",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967296",
    b"99999999999999999999999999",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x9a\x97",
    b"=",
    b"AAAA",
    b"sha256:",
    b"sha512:",
    b"[[[[",
    b"{\"a\":",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
];
/// Bytes at the edges of ranges.
const EDGES: [u8; 9] = [0, 1, 0x20, 0x2f, 0x7f, 0x80, 0xc0, 0xfe, 0xff];

/// An input made of one or two of the corpus.
pub fn mutate(rng: &mut Rng, corpus: &[Vec<u8>], words: &[&str], max: usize) -> Vec<u8> {
    let mut input = pick(rng, corpus).clone();
    for _ in 0..*pick(rng, &CHANGES) {
        change(rng, &mut input, corpus, words, max);
        input.truncate(max);
    }
    input
}

fn pick<'a, T>(rng: &mut Rng, list: &'a [T]) -> &'a T {
    &list[rng.usize(..list.len())]
}

/// A place to insert at.
fn gap(rng: &mut Rng, input: &[u8]) -> usize {
    rng.usize(..=input.len())
}

/// A piece: short most of the time.
fn piece(rng: &mut Rng, input: &[u8]) -> std::ops::Range<usize> {
    let from = gap(rng, input);
    let left = input.len() - from;
    let most = if rng.u8(..4) == 0 { left } else { left.min(24) };
    from..from + rng.usize(..=most)
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str], max: usize) {
    match rng.u8(..14) {
        0 if !input.is_empty() => {
            let at = rng.usize(..input.len());
            input[at] ^= 1 << rng.u8(..8);
        }
        1 if !input.is_empty() => {
            let at = rng.usize(..input.len());
            input[at] = if rng.bool() { rng.u8(..) } else { *pick(rng, &EDGES) };
        }
        2 => drop(input.drain(piece(rng, input))),
        3 => {
            let copy = input[piece(rng, input)].to_vec();
            insert(input, gap(rng, input), &copy);
        }
        4 => {
            // Deep nesting and long lists, within the largest input.
            let short = piece(rng, input);
            let copy = input[short.start..short.end.min(short.start + 40)].to_vec();
            let room = max.saturating_sub(input.len()) / copy.len().max(1);
            let times = (*pick(rng, &REPEATS)).min(room);
            insert(input, gap(rng, input), &copy.repeat(times));
        }
        5 => input.truncate(gap(rng, input)),
        6 => {
            // The head of one and the tail of another.
            let other = pick(rng, corpus);
            input.truncate(gap(rng, input));
            input.extend_from_slice(&other[gap(rng, other)..]);
        }
        7 => {
            let other = pick(rng, corpus);
            let copy = other[piece(rng, other)].to_vec();
            insert(input, gap(rng, input), &copy);
        }
        8 => {
            let bytes: Vec<u8> = (0..rng.usize(1..12)).map(|_| rng.u8(..)).collect();
            insert(input, gap(rng, input), &bytes);
        }
        9 => number(rng, input),
        10 => {
            // One piece in place of another: fields change places.
            let copy = input[piece(rng, input)].to_vec();
            input.splice(piece(rng, input), copy);
        }
        _ => {
            let known = words.len() + WORDS.len();
            let at = rng.usize(..known);
            // Half of the words are the format's own.
            let word = if !words.is_empty() && rng.bool() {
                pick(rng, words).as_bytes()
            } else {
                WORDS[at % WORDS.len()]
            };
            if rng.bool() {
                insert(input, gap(rng, input), word);
            } else {
                input.splice(piece(rng, input), word.iter().copied());
            }
        }
    }
}

/// Puts another number in the place of one.
fn number(rng: &mut Rng, input: &mut Vec<u8>) {
    let start = gap(rng, input);
    let Some(from) = input[start..].iter().position(u8::is_ascii_digit).map(|at| start + at) else {
        return;
    };
    let length = input[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let other = match rng.u8(..6) {
        0 => "0".to_owned(),
        1 => format!("-{}", rng.u8(..)),
        2 => u64::MAX.to_string(),
        3 => (1_u64 << rng.u8(..64)).to_string(),
        4 => "9".repeat(rng.usize(1..40)),
        _ => rng.u16(..).to_string(),
    };
    input.splice(from..from + length, other.into_bytes());
}
