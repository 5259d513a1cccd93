//! Names: digests, references, tags, commits, patterns. What parses prints as it was written, and a
//! pattern matches what it says.

use std::{fmt::Display, str::FromStr};

use pitlane_release::{
    CarKind, Commit, Digest, ImageRef, PinnedImage, Platform, ReleaseTag, RepoName, Repository,
    matcher::{Matcher, Pattern},
    policy::Glob,
};
use regex_lite::Regex;

use super::text;
use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "names",
        run: names,
        more: &[],
        words: &["@sha256:", ":5000", "localhost/", "[::1]", "..", "__", ".lock", "/", "linux/"],
        max: 600,
    },
    Target { name: "glob", run: glob, more: &[], words: &["**", "*", "*/*", "/", "\n"], max: 120 },
    Target {
        name: "policy-pattern",
        run: pattern,
        more: &[],
        words: &[
            "^",
            "$",
            "|",
            "(?:",
            "(?i)",
            "(?x)",
            "(?m)",
            "(?s)",
            "(?U)",
            ")",
            "*",
            "+?",
            "{9}",
            "{1,999}",
            "[^/]",
            "\\z",
            "\\A",
            "\\b",
            "#",
            "\\n",
            "[[:alpha:]]",
            "\\d",
        ],
        max: 1_500,
    },
];

/// Parses, and checks that it prints the same again.
fn round<T: FromStr + Display>(text: &str) -> Reached
where
    T::Err: Display,
{
    let parsed = text.parse::<T>();
    if let Ok(value) = &parsed {
        assert_eq!(value.to_string(), text, "it prints another text than it was read from");
    }
    Reached::of(&parsed)
}

fn names(input: &[u8]) -> Reached {
    let text = text(input);
    let pinned = text.parse::<PinnedImage>();
    if let Ok(image) = &pinned {
        // A tag beside the digest is dropped; the digest decides.
        let again: PinnedImage = image.to_string().parse().unwrap();
        assert_eq!(&again, image);
        assert!(!image.repository.path().contains(".."), "{image}");
    }
    [
        round::<Digest>(text),
        round::<Repository>(text),
        round::<ImageRef>(text),
        round::<RepoName>(text),
        round::<Commit>(text),
        round::<ReleaseTag>(text),
        round::<CarKind>(text),
        round::<Platform>(text),
        Reached::of(&pinned),
    ]
    .into_iter()
    .reduce(Reached::and)
    .unwrap()
}

/// First line: the pattern; the rest: a name.
fn glob(input: &[u8]) -> Reached {
    let (pattern, name) = text(input).split_once('\n').unwrap_or_default();
    let parsed = pattern.parse::<Glob>();
    if let Ok(glob) = &parsed {
        let found = glob.matches(name);
        let short = pattern.bytes().filter(|b| *b == b'*').count() < 7 && name.len() < 60;
        if short {
            let pattern = glob.to_string();
            assert_eq!(found, by_trying(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        return Reached::accepted(if found { "match" } else { "other" });
    }
    Reached::of(&parsed)
}

/// The meaning of a pattern, by trying everything.
fn by_trying(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=name.len()).any(|n| by_trying(rest, &name[n..])),
        [b'*', rest @ ..] => {
            let most = name.iter().position(|b| *b == b'/').unwrap_or(name.len());
            (0..=most).any(|n| by_trying(rest, &name[n..]))
        }
        [byte, rest @ ..] => name.first() == Some(byte) && by_trying(rest, &name[1..]),
    }
}

/// First line: a regular expression; the rest: a text. A pattern that matches is found by whoever
/// searches; what a search finds from the first byte to the last, matches.
fn pattern(input: &[u8]) -> Reached {
    let (source, rest) = text(input).split_once('\n').unwrap_or_default();
    let parsed = Pattern::new(source);
    let Ok(parsed) = parsed else { return Reached::of(&parsed.map(|_| ())) };
    let search = Regex::new(source).expect("a pattern is sound on its own");
    let plain = source.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/');
    // Flags, and signs that repeat an anchor, are not looked at by `is_anchored`.
    let anchored = parsed.is_anchored() && !source.contains("(?") && !source.contains('\\');
    let anchored =
        anchored && !["^*", "^?", "^+", "^{"].iter().any(|start| source.starts_with(start));
    let whole = Matcher::Pattern(parsed);
    let mut matched = 0;
    let longer = ["a", "\n", "/"].map(|more| [format!("{rest}{more}"), format!("{more}{rest}")]);
    for text in std::iter::once(rest).chain(longer.iter().flatten().map(String::as_str)) {
        let fits = whole.matches(text);
        let found = search.find(text);
        assert!(!fits || found.is_some(), "`{source}` is not in {text:?}");
        let all = found.is_some_and(|found| found.start() == 0 && found.end() == text.len());
        assert!(fits || !all, "`{source}` is all of {text:?}");
        assert!(!plain || fits == (source == text), "`{source}` is not {text:?}");
        assert!(!anchored || fits == found.is_some(), "`{source}` is not anchored: {text:?}");
        matched += usize::from(fits);
    }
    Reached::accepted(["never", "once", "often"][matched.min(2)])
}
