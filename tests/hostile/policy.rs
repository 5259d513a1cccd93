//! Policies, by the verifier that a car has: what it does not understand, or what would permit more
//! than it reads, decides nothing.

use std::{fmt::Write as _, fs};

use super::{Answer, Table, world::World};
use crate::common::{cut, repository, swap};

type Edit = fn(&str) -> Vec<u8>;

fn with(text: &str, from: &str, to: &str) -> Vec<u8> {
    swap(text, from, to).into_bytes()
}

/// The policy with other authorities.
fn authorities(text: &str, lines: &str) -> Vec<u8> {
    swap(&cut(text, "    - name: release", "drive:"), "drive:", &format!("{lines}drive:"))
        .into_bytes()
}

fn bomb(text: &str) -> Vec<u8> {
    let mut text = format!("x0: &x0 [{}]\n", ["y"; 9].join(",")) + text;
    for n in 1..12 {
        writeln!(text, "x{n}: &x{n} [{}]", vec![format!("*x{}", n - 1); 9].join(",")).unwrap();
    }
    text.into_bytes()
}

/// What it is, the policy made of the good one, what is said.
const ROWS: &[(&str, Edit, &str)] = &[
    ("nothing", |_| Vec::new(), ""),
    ("a bomb of anchors", bomb, ""),
    ("deep lists", |text| format!("{text}x: {}\n", "[".repeat(4000)).into_bytes(), ""),
    ("a file of a megabyte", |text| format!("{text}#{}\n", "x".repeat(1 << 20)).into_bytes(), ""),
    ("bytes that are no text", |text| [text.as_bytes(), b"# \xff\n"].concat(), ""),
    ("two policies", |text| format!("{text}---\n{text}").into_bytes(), ""),
    ("a key twice", |text| with(text, "drive:\n", "drive:\n  requireExpiry: false\n"), ""),
    ("a field nobody knows", |text| with(text, "drive:\n", "drive:\n  allowAll: true\n"), ""),
    ("another kind", |text| with(text, "kind: ClusterImagePolicy", "kind: Policy"), ""),
    ("a version of tomorrow", |text| with(text, "sigstore.dev/v1beta1", "sigstore.dev/v9"), ""),
    (
        "a pattern of everything and more",
        |text| with(text, "glob: \"127.0.0.1:*/team/**\"", "glob: \"$(x)\""),
        "",
    ),
    ("no images", |text| cut(text, "  images:", "  authorities:").into_bytes(), ""),
    ("nobody who vouches", |text| authorities(text, ""), ""),
    (
        "everybody vouches",
        |text| authorities(text, "    - { name: any, static: { action: pass } }\n"),
        "",
    ),
    (
        "a key that is none",
        |text| {
            authorities(
                text,
                "    - name: release\n      key: { data: \"-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----\" }\n",
            )
        },
        "",
    ),
    (
        "a key elsewhere",
        |text| {
            authorities(text, "    - name: release\n      key: { kms: \"awskms:///alias/x\" }\n")
        },
        "",
    ),
    (
        "a key nobody gave",
        |text| with(text, "          name: release", "          name: other"),
        "",
    ),
    (
        "a key and an identity",
        |text| {
            authorities(
                text,
                "    - name: release\n      key: { secretRef: { name: release } }\n      keyless: {}\n",
            )
        },
        "",
    ),
    (
        "a program as policy",
        |text| with(text, "spec:\n", "spec:\n  policy: { type: rego, data: \"package x\" }\n"),
        "",
    ),
    ("a mode nobody knows", |text| with(text, "spec:\n", "spec:\n  mode: off\n"), ""),
    ("no kinds of car", |text| with(text, "carKinds: [donkeycar]", "carKinds: []"), ""),
    (
        "a platform nobody drives",
        |text| with(text, "platforms: [linux/amd64, linux/arm64]", "platforms: [linux/s390x]"),
        "",
    ),
    (
        "a demand without a value",
        |text| {
            with(text, "golden: { frames: [black, white, noise], maxTolerance: 0.001 }", "golden:")
        },
        "",
    ),
    ("a tolerance of nothing", |text| with(text, "maxTolerance: 0.001", "maxTolerance: -1"), ""),
    (
        "a counter below nothing",
        |text| with(text, "drive:\n", "drive:\n  minimumCounter: -1\n"),
        "",
    ),
];

#[test]
fn policies() {
    let world = World::new();
    let mut table = Table::default();
    let good = fs::read_to_string(repository().join("policies/donkeycar.yaml")).unwrap();
    let check = |table: &mut Table, what: &str, bytes: Vec<u8>| {
        let file = world.lane.path("config/hostile.yaml");
        fs::write(&file, bytes).unwrap();
        world.unchanged(table, what, || {
            let ran = world.lane.check_by(&file, "release", &world.image, &[]);
            assert!(ran.code == Some(10) || ran.stdout.is_empty(), "{what}: {}", ran.stdout);
            let code = ran.code.map_or("killed".to_owned(), |code| code.to_string());
            // Below the first line a reader of YAML shows the place.
            let said = ran.stderr.lines().next().unwrap_or_default();
            Answer::new(code, world.tame(said, &[]))
        })
    };
    for (what, edit, says) in ROWS {
        let got = check(&mut table, what, edit(&good));
        table.row(what, &got, "1", says);
    }
    // As it is, it decides: this release drove no lap.
    assert_eq!(check(&mut table, "good", good.into_bytes()).code, "10");
    table.end(ROWS.len());
}
