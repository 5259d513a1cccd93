//! `Record`: what a commit of Pitlane says of itself in its trailers. The only memory there is.

use std::fmt::Write as _;

use pitlane_release::{Counter, PinnedImage};

use crate::{Candidate, Environment, Target};

const COUNTER: &str = "Pitlane-Counter";
const IMAGE: &str = "Pitlane-Image";
const RUN: &str = "Pitlane-Run";
const TARGET: &str = "Pitlane-Target";
/// Longest run id that is written (bytes).
const MAX_RUN: usize = 128;

/// A promotion in the history of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The commit.
    pub commit: String,
    /// The release's counter.
    pub counter: Counter,
    /// The release's image.
    pub image: PinnedImage,
    /// The run that promoted it.
    pub run: String,
}

/// The trailers of a promotion.
pub(crate) fn trailers(candidate: &Candidate, environment: &Environment) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{COUNTER}: {}", candidate.counter);
    let _ = writeln!(text, "{IMAGE}: {}", candidate.image);
    // A word: what has a line end in it could be a trailer of its own.
    let word = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let run: String = candidate.run.chars().take(MAX_RUN).map(word).collect();
    let _ = writeln!(text, "{RUN}: {run}");
    text.push_str(&target_line(&environment.target));
    text.push('\n');
    text
}

/// The line that all promotions of a target have.
pub(crate) fn target_line(target: &Target) -> String {
    format!("{TARGET}: {target}")
}

/// The record in a commit's trailers, if it is a promotion of this target. Trailers that are there
/// twice (a squash of several) count by their last.
pub(crate) fn parse(commit: &str, trailers: &str, target: &Target) -> Option<Record> {
    let last = |key: &str| {
        let mut values = trailers.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name == key).then(|| value.trim())
        });
        values.next_back()
    };
    if last(TARGET)? != target.to_string() {
        return None;
    }
    Some(Record {
        commit: commit.to_owned(),
        counter: Counter::new(last(COUNTER)?.parse().ok()?)?,
        image: last(IMAGE)?.parse().ok()?,
        run: last(RUN)?.to_owned(),
    })
}

/// Reads `%x00%H%x00%(trailers:only,unfold)` of many commits.
pub(crate) fn parse_log(log: &str, target: &Target) -> Vec<Record> {
    let mut parts = log.split('\0').skip(1);
    let mut found = Vec::new();
    while let (Some(commit), Some(trailers)) = (parts.next(), parts.next()) {
        found.extend(parse(commit.trim(), trailers, target));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_records_of_this_target_count() {
        let target = Target::Compose { file: "c.yaml".into(), service: "car".into() };
        let image = format!("r.example/t/car@sha256:{}", "1".repeat(64));
        let good = format!(
            "Pitlane-Counter: 3\nPitlane-Image: {image}\nPitlane-Run: r\n\
             Pitlane-Target: compose c.yaml car\nSigned-off-by: Ana <a@b>\n"
        );
        let record = parse("c", &good, &target).unwrap();
        assert_eq!((record.counter.get(), record.run.as_str()), (3, "r"));
        // A squash of two: the last of each.
        let two = format!("{}{good}", good.replace("Counter: 3", "Counter: 2"));
        assert_eq!(parse("c", &two, &target).unwrap().counter.get(), 3);
        for (from, to) in [
            ("Counter: 3", "Counter: 0"),
            ("Counter: 3", "Counter: 99999999999999999999"),
            ("Counter: 3", "Counter: x"),
            ("@sha256:1", ":v1 sha256:1"),
            ("Pitlane-Run", "Pitlane-Ran"),
            ("c.yaml car", "c.yaml car2"),
            ("Target: compose", "Target: helm"),
            ("Pitlane-Target", "X-Pitlane-Target"),
        ] {
            let text = good.replace(from, to);
            assert_ne!(text, good);
            assert_eq!(parse("c", &text, &target), None, "{to}");
        }
        let log = format!("\0aa\0{good}\n\0bb\0\n\0cc\0{two}");
        let found: Vec<_> = parse_log(&log, &target).into_iter().map(|r| r.commit).collect();
        assert_eq!(found, ["aa", "cc"]);
    }
}
