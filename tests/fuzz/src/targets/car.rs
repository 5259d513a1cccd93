//! What the runtime hears from a simulator: lines, messages, pictures.

use std::io::Read;

use pitlane_car::{
    camera::Camera,
    handshake::Handshake,
    lines::{Lines, MAX_LINE},
    protocol,
};
use pitlane_release::Digest;

use super::text;
use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "car-messages",
        run: messages,
        more: &[],
        words: &[
            "\"msg_type\":\"telemetry\"",
            "\"msg_type\":\"scene_names\"",
            "\"time\":1,25",
            "\"speed\":-0,5",
            "\"image\":\"",
            "\"scene_names\":[\"a{b}\"]",
            "\n",
            "{",
            "}",
            "\"msg_type\":\"car_loaded\"",
            "\"msg_type\":\"scene_selection_ready\"",
        ],
        max: 20_000,
    },
    Target {
        name: "car-picture",
        run: picture,
        more: &[],
        words: &["/9j/", "/8A", "/9oA", "/9k=", "/90A", "/+4A", "/+EA", "=", "AAAA"],
        max: 6_000,
    },
];

/// Gives a few bytes at a time: how a stream is cut must not matter.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(self.0.len()).min(out.len());
        out[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

fn lines(input: &[u8], at_once: usize) -> Vec<Vec<u8>> {
    let (mut lines, mut out) = (Lines::default(), Vec::new());
    let mut source = Slow(input, at_once);
    while lines.fill(&mut source).unwrap() > 0 {
        while let Some(line) = lines.line() {
            assert!(line.len() <= MAX_LINE && !line.contains(&b'\n'));
            out.push(line.to_vec());
        }
    }
    out
}

fn messages(input: &[u8]) -> Reached {
    let found = lines(input, usize::MAX);
    assert_eq!(found, lines(input, 61), "the cuts of a stream mattered");
    let mut talk = Handshake::new(None, (160, 120));
    let mut reached = Reached::refused("");
    for line in &found {
        let repaired = protocol::repair(line);
        assert_eq!(repaired.len(), line.len());
        for line in [line, &repaired] {
            let parsed = protocol::parse(line);
            reached = reached.and(Reached::of(&parsed));
            let Ok(message) = parsed else { continue };
            let _ = message.picture();
            let said = talk.hear(&message);
            reached = reached.and(Reached::of(&said));
            for text in said.unwrap_or_default() {
                // Simulators split messages at braces: what is sent has one pair, whatever was heard.
                assert_eq!(text.matches(['{', '}']).count(), 2, "{text}");
                assert!(!text.contains('\n'), "{text}");
            }
        }
    }
    reached
}

/// A picture in base64, decoded twice by one camera: the same answer, and no more than its size.
fn picture(input: &[u8]) -> Reached {
    let mut camera = Camera::new(32, 24);
    let first = camera.decode(text(input)).map(Digest::of);
    let second = camera.decode(text(input)).map(|rgb| (rgb.len(), Digest::of(rgb)));
    if let (Ok(first), Ok((length, second))) = (&first, &second) {
        assert_eq!((*length, first), (32 * 24 * 3, second));
    }
    assert_eq!(first.is_ok(), second.is_ok());
    Reached::of(&first)
}
