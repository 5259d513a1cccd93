//! Texts of others, made short and harmless for one line.

/// At most `most` characters; what is cut ends in `…`.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// One line of at most `most` characters: control characters become spaces, and what is invisible
/// or turns the direction of writing goes, so that what is read is what is there.
pub(crate) fn line(text: &str, most: usize) -> String {
    let seen = text.chars().filter(|c| !is_invisible(*c));
    let line: String = seen.map(|c| if is_control(c) { ' ' } else { c }).collect();
    shorten(line.trim(), most)
}

/// Unicode's line and paragraph separators end lines, too.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Zero width, direction, fillers, variation selectors and tags (Unicode's default ignorable
/// code points, as far as they are used to deceive).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

/// An error with its causes, as a line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    line(&pitlane_release::causes(error), 500)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{About, Event, What};

    const IMAGE: &str = "127.0.0.1:5000/team/car@sha256:\
        403b300f1f7cbb6c5c0e1b4ac9a6a7f0e8a2d5d1b0c9f8e7d6c5b4a392817065";

    /// One of each kind, in the order of `Kind::ALL`.
    pub(crate) fn samples() -> Vec<Event> {
        let s = str::to_owned;
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let (amd64, arm64) = (digest("a"), digest("b"));
        let kinds = [
            What::RunQueued { rollback: false },
            What::StepFinished { step: s("prove"), duration_ms: 7943 },
            What::StepFailed {
                step: s("push"),
                code: s("push-failed"),
                message: s("127.0.0.1:5000: connection refused"),
                hint: s("look at the registry"),
                attempt: 2,
                again: true,
            },
            What::RunReleased {
                image: s(IMAGE),
                platforms: BTreeMap::from([(s("linux/amd64"), amd64), (s("linux/arm64"), arm64)]),
                duration_ms: 9530,
            },
            What::RunRefused {
                step: s("prove"),
                code: s("prove-off-road"),
                message: s("lap 2 of 3: off the road at t=31.25 s"),
                hint: s("look at the plot"),
            },
            What::TagMoved { was: "c1da3ed0".repeat(5), now: "af433fff".repeat(5) },
            What::Promoted {
                target: s("fleet/gitops"),
                commit: "0123abcd".repeat(5),
                from: None,
                to: s(IMAGE),
            },
            What::RolledBack { image: s(IMAGE) },
            What::GateFailed {
                gate: s("secrets"),
                message: s("1 finding of critical, at most 0"),
                findings: BTreeMap::from([(s("critical"), 1), (s("low"), 3)]),
            },
            What::CarConfirmed { car: s("car-7"), image: s(IMAGE) },
            What::CarRefused {
                car: s("car-7"),
                image: s(IMAGE),
                code: s("rollback"),
                message: s("counter 3, the floor is 5"),
            },
            What::CarBlocked {
                car: s("car-7"),
                image: s(IMAGE),
                code: s("registry-unreachable"),
                message: s("127.0.0.1:5000: no answer for 20 s"),
            },
        ];
        let about = About {
            run: Some(s("r12-5f3a9c01")),
            pipeline: Some(s("donkeycar")),
            repository: Some(s("team/car")),
            tag: Some(s("v1.0.0")),
            commit: Some("af433fff2d93aed104018193e87f5ad31ec80ab0".to_owned()),
            counter: Some(3),
            car_kind: Some(s("donkeycar")),
        };
        let time = "2026-11-21T09:24:59Z".parse().unwrap();
        let events = kinds.into_iter().map(|what| Event::new(what, about.clone(), "", time));
        events.map(|event| event.link("run", "https://pitlane.example/runs/r12-5f3a9c01")).collect()
    }

    #[test]
    fn lines_are_one_line_and_show_what_is_there() {
        for (text, most, want) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("a\nb\r\tc", 9, "a b  c"),
            ("v1\u{202e}gpj.exe\u{200b}", 99, "v1gpj.exe"),
            ("a\u{2028}b", 9, "a b"),
            ("\u{e0041}x", 9, "x"),
            (" \n", 9, ""),
        ] {
            assert_eq!(line(text, most), want, "{text:?}");
        }
    }
}
