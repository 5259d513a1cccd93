//! Pipeline files and the service's configuration, by `pitlane config check`: what would be obeyed
//! otherwise than it reads, or lead out of its place, is refused with the field.

use std::{fmt::Write as _, fs, process::Command};

use super::{Answer, Table, world::World};
use crate::common::{bin, cut, repository, run, swap};

type Edit = fn(&str) -> Vec<u8>;

fn with(text: &str, from: &str, to: &str) -> Vec<u8> {
    swap(text, from, to).into_bytes()
}

fn bomb(text: &str) -> Vec<u8> {
    let mut text = format!("x0: &x0 [{}]\n", ["y"; 9].join(",")) + text;
    for n in 1..12 {
        writeln!(text, "x{n}: &x{n} [{}]", vec![format!("*x{}", n - 1); 9].join(",")).unwrap();
    }
    text.into_bytes()
}

/// What it is, the file made of the good one, what is said.
const ROWS: &[(&str, Edit, &str)] = &[
    ("nothing", |_| Vec::new(), ""),
    ("a bomb of anchors", bomb, ""),
    ("deep lists", |text| format!("{text}x: {}\n", "[".repeat(4000)).into_bytes(), ""),
    (
        "a file of half a megabyte",
        |text| format!("{text}#{}\n", "x".repeat(500_000)).into_bytes(),
        "",
    ),
    ("bytes that are no text", |text| [text.as_bytes(), b"# \xff\n"].concat(), ""),
    ("two documents", |text| format!("{text}---\n{text}").into_bytes(), ""),
    (
        "a key twice",
        |text| with(text, "  carKind: donkeycar\n", "  carKind: donkeycar\n  carKind: truck\n"),
        "",
    ),
    ("a field nobody knows", |text| with(text, "  carKind:", "  skipChecks: true\n  carKind:"), ""),
    ("a field in another case", |text| with(text, "  carKind:", "  CarKind:"), ""),
    ("another version", |text| with(text, "pitlane.dev/v1", "pitlane.dev/v2"), ""),
    ("another kind", |text| with(text, "kind: Pipeline", "kind: ModelCard"), ""),
    ("a name with a slash", |text| with(text, "  name: donkeycar", "  name: ../donkeycar"), ""),
    ("a car kind in capitals", |text| with(text, "carKind: donkeycar", "carKind: DonkeyCar"), ""),
    (
        "a repository that climbs",
        |text| {
            with(text, "repository: team/donkeycar\n    url", "repository: team/../etc\n    url")
        },
        "",
    ),
    (
        "a model that climbs",
        |text| with(text, "path: models/pilot.onnx", "path: ../../etc/passwd"),
        "",
    ),
    (
        "a model from the root",
        |text| with(text, "path: models/pilot.onnx", "path: /etc/passwd"),
        "",
    ),
    (
        "a model in git's own folder",
        |text| with(text, "path: models/pilot.onnx", "path: .git/config"),
        "",
    ),
    (
        "a card that climbs",
        |text| {
            with(text, "path: models/pilot.onnx", "path: models/pilot.onnx\n    card: a/../../b")
        },
        "",
    ),
    (
        "a password in the address",
        |text| {
            let at = text.find("    url: ").unwrap();
            let end = at + text[at..].find('\n').unwrap();
            format!("{}    url: https://me:secret@h.example/a.git{}", &text[..at], &text[end..])
                .into_bytes()
        },
        "",
    ),
    (
        "no platforms",
        |text| with(text, "platforms: [linux/amd64, linux/arm64]", "platforms: []"),
        "",
    ),
    (
        "a platform nobody builds",
        |text| with(text, "platforms: [linux/amd64, linux/arm64]", "platforms: [plan9/mips]"),
        "",
    ),
    (
        "a platform without a runtime",
        |text| cut(text, "    linux/arm64:", "  registry:").into_bytes(),
        "",
    ),
    (
        "an image with a digest as repository",
        |text| with(text, "/team/donkeycar\n", "/team/donkeycar:v1\n"),
        "",
    ),
    (
        "a key and a program that signs",
        |text| with(text, "  sign:\n", "  sign:\n    command: [/bin/true]\n"),
        "",
    ),
    ("nobody who signs", |text| cut(text, "    key:", "    builder:").into_bytes(), ""),
    (
        "old tags without a key",
        |text| {
            let text = cut(text, "    key:", "    builder:");
            with(&text, "  sign:\n", "  sign:\n    sigTags: true\n    keyless: {}\n")
        },
        "",
    ),
    (
        "an attestation nobody makes",
        |text| with(text, "  sign:\n", "  sign:\n    attest: [everything]\n"),
        "",
    ),
    (
        "a GitOps file that climbs",
        |text| with(text, "file: car/kustomization.yaml", "file: ../kustomization.yaml"),
        "",
    ),
    ("a GitOps branch that is an option", |text| with(text, "branch: main", "branch: --force"), ""),
    ("days below nothing", |text| with(text, "expireDays: 365", "expireDays: -1"), ""),
    (
        "a policy that is not there",
        |text| with(text, "config/policy.yaml", "config/nowhere.yaml"),
        "",
    ),
    (
        "a base that is not there",
        |text| with(text, "target/base/layout", "target/base/nowhere"),
        "",
    ),
];

/// The same for the service's configuration.
const SERVICES: &[(&str, Edit, &str)] = &[
    (
        "a listener that is no address",
        |text| with(text, "\"webhook\":\"127.0.0.1", "\"webhook\":\"localhost"),
        "",
    ),
    (
        "a listener nobody knows",
        |text| with(text, "\"listen\":{", "\"listen\":{\"admin\":\"0.0.0.0:1\","),
        "",
    ),
    (
        "secrets in the file",
        |text| with(text, "\"listen\":{", "\"webhookSecret\":\"s3cret\",\"listen\":{"),
        "",
    ),
    ("no pipelines", |text| with(text, "\"pipelines\":", "\"pipeline\":"), ""),
    ("runs below nothing", |text| with(text, "\"listen\":{", "\"concurrent\":-1,\"listen\":{"), ""),
];

#[test]
fn pipeline_files() {
    let world = World::new();
    let mut table = Table::default();
    let good = fs::read_to_string(world.lane.path("config/donkeycar.yaml")).unwrap();
    let service = fs::read_to_string(world.lane.path("config/service.yaml")).unwrap();
    let check = |table: &mut Table, what: &str, bytes: Vec<u8>| {
        let file = world.lane.path("config/hostile.yaml");
        fs::write(&file, bytes).unwrap();
        world.unchanged(table, what, || {
            let mut command = Command::new(bin("pitlane"));
            command.args(["--log", "error", "config", "check"]).arg(&file);
            let ran = run(command.env_remove("COSIGN_PASSWORD"));
            let code = ran.code.map_or("killed".to_owned(), |code| code.to_string());
            let base = repository();
            let more = [(base.to_str().unwrap(), "HERE")];
            // Below the first line a reader of YAML shows the place.
            let said = ran.stderr.lines().next().unwrap_or_default();
            Answer::new(code, world.tame(said, &more))
        })
    };
    for (text, rows) in [(&good, ROWS), (&service, SERVICES)] {
        for (what, edit, says) in rows {
            let got = check(&mut table, what, edit(text));
            table.row(what, &got, "1", says);
        }
    }
    // Both are good as they are.
    for text in [good, service] {
        assert_eq!(check(&mut table, "good", text.into_bytes()).code, "0");
    }
    table.end(ROWS.len() + SERVICES.len());
}
