//! Model cards, which are YAML of whoever can tag: bombs, tricks of the format, and contradictions.

use std::fs;

use super::{Table, first_line, repository::Maker, world::World};

type Edit = fn(&str) -> String;

fn with(card: &str, from: &str, to: &str) -> String {
    crate::common::swap(card, from, to)
}

/// Nine of nine of nine …, where free keys are allowed.
fn bomb(card: &str) -> String {
    let mut text = with(card, "  seed: 1\n", "  seed: 1\n  a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for n in 1..12 {
        let line = format!("  a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","));
        text = with(&text, "license:", &format!("{line}license:"));
    }
    text
}

/// What it is, the card made of the good one, the code, the words.
const ROWS: &[(&str, Edit, &str, &str)] = rows! {
    "nothing": |_| String::new()
        => "model-failed", "models/pilot.yaml: not a model card: unexpected end of input at line \
           1, column 1";
    "a list": |_| "- a\n- b\n".to_owned()
        => "model-failed", "models/pilot.yaml: not a model card: error: line 1 column 1: \
           expected mapping start";
    "a bomb of anchors": bomb
        => "model-failed", "models/pilot.yaml: not a model card: error: line 22 column 20: \
           budget breached: Nodes { nodes: 250001 }";
    "an anchor of itself": |_| "name: &a [*a]\n".to_owned()
        => "model-failed", "models/pilot.yaml: not a model card: error: line 1 column 10: \
           expected string scalar";
    "four thousand lists": |_| format!("name: {}", "[".repeat(4000))
        => "model-failed", "models/pilot.yaml: not a model card: error: line 1 column 7: \
           expected string scalar";
    "a key twice": |card| format!("{card}name: other\n")
        => "model-failed", "models/pilot.yaml: not a model card: error: line 18 column 1: \
           duplicate mapping key: name, set DuplicateKeyPolicy in Options if acceptable";
    "a field nobody knows": |card| format!("{card}command: reboot\n")
        => "model-failed", "models/pilot.yaml: not a model card: error: line 18 column 1: \
           unknown field `command`";
    "a tag of a language": |card| {
        with(card, "name: donkeycar-linear", "name: !!python/object/apply:os.system [reboot]")
    } => "model-failed", "models/pilot.yaml: not a model card: error: line 3 column 39: \
           expected string scalar";
    "two documents": |card| format!("{card}---\nkind: ModelCard\n")
        => "model-failed", "models/pilot.yaml: not a model card: error: line 19 column 1: \
           multiple YAML documents detected; use from_str_multiple or \
           from_str_multiple_with_options";
    "another version": |card| with(card, "pitlane.dev/v1", "pitlane.dev/v9")
        => "model-failed", "models/pilot.yaml: not a model card: error: line 1 column 13: \
           unknown variant `pitlane.dev/v9`";
    "another kind": |card| with(card, "kind: ModelCard", "kind: Pipeline")
        => "model-failed", "models/pilot.yaml: not a model card: error: line 2 column 7: unknown \
           variant `Pipeline`";
    "another pilot": |card| with(card, "pilot: linear", "pilot: rnn")
        => "model-failed", "models/pilot.yaml: not a model card: error: line 4 column 8: unknown \
           variant `rnn`";
    "a batch of two": |card| with(card, "[1, 120", "[2, 120")
        => "model-failed", "models/pilot.yaml: field `input.shape`: the batch is 2, want 1";
    "a picture of no width": |card| with(card, "120, 160, 3", "120, 0, 3")
        => "model-failed", "models/pilot.yaml: field `input.shape`: sides must be 1..=4096";
    "a picture of a wall": |card| with(card, "120, 160, 3", "120, 5000, 3")
        => "model-failed", "models/pilot.yaml: field `input.shape`: sides must be 1..=4096";
    "a size below nothing": |card| with(card, "120, 160, 3", "-120, 160, 3")
        => "model-failed", "models/pilot.yaml: not a model card: error: line 6 column 14: \
           invalid u32";
    "no scale": |card| with(card, "0.00392156862745098", ".nan")
        => "model-failed", "models/pilot.yaml: field `input.scale`: want a finite number that is \
           not zero";
    "two that steer": |card| with(card, "meaning: throttle", "meaning: steering")
        => "model-failed", "models/pilot.yaml: field `outputs`: 2 outputs mean Steering; a \
           linear pilot has exactly one";
    "channels that do not fit": |card| with(card, "channels: RGB", "channels: GRAY")
        => "model-failed", "models/pilot.yaml: field `input.shape`: 3 channels, Gray has 1";
};

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
        let mut got = world.run_fails(&mut table, what, &pushed);
        // Below the first line the reader of YAML shows the place.
        got.says = first_line(&got.says).to_owned();
        table.row(what, &got, code, says);
    }
    table.end(ROWS.len());
}
