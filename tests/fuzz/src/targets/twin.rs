//! What the twin hears from its client: framing, and messages with numbers as text.

use pitlane_twin::{
    view::camera::{Camera, MAX_HEIGHT, MAX_WIDTH, MIN_SIDE},
    wire::{
        framing::{Framer, FramingError, MAX_MESSAGE},
        inbound::{Inbound, parse},
    },
};

use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "twin-wire",
    run: wire,
    more: &[],
    words: &[
        "\"msg_type\":\"control\"",
        "\"steering\":\"1e999\"",
        "\"throttle\":\"-nan\"",
        "\"msg_type\":\"cam_config\"",
        "\"img_w\":\"99999999999\"",
        "\"img_h\":\"-1\"",
        "\"fov\":\"inf\"",
        "\"msg_type\":\"set_position\"",
        "\"msg_type\":\"node_position\"",
        "\"index\":\"-0.5\"",
        "\"msg_type\":\"regen_road\"",
        "\"Qw\":0",
        "\\\"",
        "}{",
    ],
    max: 40_000,
}];

fn framed(input: &[u8], at_once: usize) -> (Vec<Vec<u8>>, Option<FramingError>) {
    let (mut framer, mut out) = (Framer::new(), Vec::new());
    for piece in input.chunks(at_once) {
        if let Err(error) = framer.push(piece, &mut out) {
            return (out, Some(error));
        }
    }
    (out, None)
}

fn wire(input: &[u8]) -> Reached {
    let (messages, error) = framed(input, 1 << 20);
    let slow = framed(input, 7);
    assert_eq!((&messages, &error), (&slow.0, &slow.1), "the cuts of a stream mattered");
    let mut reached = match &error {
        Some(error) => Reached::refused(error),
        None => Reached::refused("framed"),
    };
    for message in &messages {
        assert!(message.len() <= MAX_MESSAGE);
        let parsed = parse(message);
        match &parsed {
            Ok(Inbound::Control(control)) => {
                for value in [control.steering, control.throttle, control.brake] {
                    assert!((-1.0..=1.0).contains(&value), "{control:?}");
                }
            }
            Ok(Inbound::Camera { request, .. }) => {
                let camera = Camera::with(request);
                assert!((MIN_SIDE..=MAX_WIDTH).contains(&camera.width), "{camera:?}");
                assert!((MIN_SIDE..=MAX_HEIGHT).contains(&camera.height), "{camera:?}");
                let numbers = [camera.fov, camera.right, camera.up, camera.ahead, camera.tilt];
                assert!(numbers.into_iter().all(f64::is_finite), "{camera:?}");
            }
            Ok(Inbound::SetPosition { at, yaw }) => {
                assert!(at.x.abs() <= 1e3 && at.z.abs() <= 1e3, "{at:?}");
                assert!(yaw.is_none_or(f64::is_finite));
            }
            _ => {}
        }
        let kind = parsed.as_ref().map(|message| {
            let shown = format!("{message:?}");
            shown.split([' ', '(']).next().unwrap_or("").to_owned()
        });
        reached = reached.and(match kind {
            Ok(kind) => Reached::accepted(kind),
            Err(error) => Reached::refused(error),
        });
    }
    reached
}
