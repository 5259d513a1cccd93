//! Model cards, which are YAML of whoever can tag: bombs, tricks of the format, and contradictions.

use std::{fmt::Write as _, fs};

use super::{Table, repository::Maker, world::World};

type Edit = fn(&str) -> String;

fn with(card: &str, from: &str, to: &str) -> String {
    crate::common::swap(card, from, to)
}

/// Nine of nine of nine …
fn bomb(_: &str) -> String {
    let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for n in 1..12 {
        let inside = vec![format!("*a{}", n - 1); 9].join(",");
        writeln!(text, "a{n}: &a{n} [{inside}]").unwrap();
    }
    text
}

/// What it is, the card made of the good one, the code, the words.
const ROWS: &[(&str, Edit, &str, &str)] = &[
    ("nothing", |_| String::new(), "", ""),
    ("a list", |_| "- a\n- b\n".to_owned(), "", ""),
    ("a bomb of anchors", bomb, "", ""),
    ("an anchor of itself", |_| "name: &a [*a]\n".to_owned(), "", ""),
    ("four thousand lists", |_| format!("name: {}", "[".repeat(4000)), "", ""),
    ("a key twice", |card| format!("{card}name: other\n"), "", ""),
    ("a field nobody knows", |card| format!("{card}command: reboot\n"), "", ""),
    ("a tag of a language", |card| {
        with(card, "name: donkeycar-linear", "name: !!python/object/apply:os.system [reboot]")
    }, "", ""),
    ("two documents", |card| format!("{card}---\nkind: ModelCard\n"), "", ""),
    ("another version", |card| with(card, "pitlane.dev/v1", "pitlane.dev/v9"), "", ""),
    ("another kind", |card| with(card, "kind: ModelCard", "kind: Pipeline"), "", ""),
    ("another pilot", |card| with(card, "pilot: linear", "pilot: rnn"), "", ""),
    ("a batch of two", |card| with(card, "[1, 120", "[2, 120"), "", ""),
    ("a picture of no width", |card| with(card, "120, 160, 3", "120, 0, 3"), "", ""),
    ("a picture of a wall", |card| with(card, "120, 160, 3", "120, 5000, 3"), "", ""),
    ("a size below nothing", |card| with(card, "120, 160, 3", "-120, 160, 3"), "", ""),
    ("no scale", |card| with(card, "0.00392156862745098", ".nan"), "", ""),
    ("two that steer", |card| with(card, "meaning: throttle", "meaning: steering"), "", ""),
    ("channels that do not fit", |card| with(card, "channels: RGB", "channels: GRAY"), "", ""),
];

#[test]
fn cards() {
    let world = World::new();
    let mut table = Table::default();
    let maker = Maker::new(&world);
    let good = world.lane.tree("donkeycar").join("models/pilot.yaml");
    let good = fs::read_to_string(good).unwrap();
    for (what, edit, code, says) in ROWS {
        let card = maker.blob(edit(&good).as_bytes());
        let pushed = maker.tag(&maker.card("100644", &card));
        let got = world.run_fails(&mut table, what, &pushed);
        table.row(what, &got, code, says);
    }
    table.end(ROWS.len());
}
