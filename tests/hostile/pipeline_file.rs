//! Pipeline files and the service's configuration, by `pitlane config check`: what would be obeyed
//! otherwise than it reads, or lead out of its place, is refused with the field.

use std::{fs, process::Command};

use super::{
    Answer, Table, first_line, unnumbered,
    world::World,
    yaml::{Edit, bomb, with},
};
use crate::common::{bin, cut, repository, run};

/// The good file with a line more after this one.
fn after(text: &str, line: &str, more: &str) -> Vec<u8> {
    with(text, &format!("{line}\n"), &format!("{line}\n{more}\n"))
}

/// The good configuration of a service with a field more.
fn service(text: &str, field: &str) -> Vec<u8> {
    with(text, "\"listen\":{", &format!("{field},\"listen\":{{"))
}

const PLATFORMS: &str = "platforms: [linux/amd64, linux/arm64]";
const MODEL: &str = "path: models/pilot.onnx";

/// What it is, the file made of the good one, what is said.
const ROWS: &[(&str, Edit, &str)] = rows! {
    "nothing": |_| Vec::new()
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           unexpected end of input at line 1, column N";
    "a bomb of anchors": bomb
        => "error: DIR/config/hostile.yaml: cannot be read: error: line 41 column N: budget \
           breached: Nodes { nodes: 250001 }";
    "deep lists": |text| format!("{text}x: {}\n", "[".repeat(4000)).into_bytes()
        => "error: DIR/config/hostile.yaml: cannot be read: error: line 36 column N: recursion \
           limit exceeded";
    "a file of half a megabyte": |text| {
        format!("{text}#{}
", "x".repeat(500_000 - text.len() - 2)).into_bytes()
    } => "error: DIR/config/hostile.yaml: cannot be read: 500000 bytes, at most 262144 are read";
    "bytes that are no text": |text| [text.as_bytes(), b"# \xff\n"].concat()
        => "error: DIR/config/hostile.yaml: cannot be read: stream did not contain valid UTF-8";
    "two documents": |text| format!("{text}---\n{text}").into_bytes()
        => "error: DIR/config/hostile.yaml: cannot be read: error: line 39 column N: multiple \
           YAML documents detected; use from_str_multiple or from_str_multiple_with_options";
    "a key twice": |text| after(text, "  carKind: donkeycar", "  carKind: truck")
        => "error: DIR/config/hostile.yaml: cannot be read: error: line 9 column N: duplicate \
           mapping key: carKind, set DuplicateKeyPolicy in Options if acceptable";
    "a field nobody knows": |text| after(text, "spec:", "  skipChecks: true")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 8 column N: unknown field `skipChecks`";
    "a field in another case": |text| with(text, "  carKind:", "  CarKind:")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 8 column N: unknown field `CarKind`";
    "another version": |text| with(text, "pitlane.dev/v1", "pitlane.dev/v2")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 3 column N: unknown variant `pitlane.dev/v2`";
    "another kind": |text| with(text, "kind: Pipeline", "kind: ModelCard")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 4 column N: unknown variant `ModelCard`";
    "a name with a slash": |text| with(text, "  name: donkeycar", "  name: ../donkeycar")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 6 column N: `../donkeycar` is not a car kind (at most 63 lower-case \
           letters, digits and -)";
    "a car kind in capitals": |text| with(text, "carKind: donkeycar", "carKind: DonkeyCar")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 8 column N: `DonkeyCar` is not a car kind (at most 63 lower-case letters, \
           digits and -)";
    "a repository that climbs": |text| {
        with(text, "repository: team/donkeycar\n    url", "repository: team/../etc\n    url")
    } => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 10 column N: `team/../etc` is not a repository name (OWNER/NAME: letters, \
           digits and . _ -)";
    "a model that climbs": |text| with(text, MODEL, "path: ../../etc/passwd")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.model`: `../../etc/passwd` must be a plain path inside the repository";
    "a model from the root": |text| with(text, MODEL, "path: /etc/passwd")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.model`: `/etc/passwd` must be a plain path inside the repository";
    "a model in git's own folder": |text| with(text, MODEL, "path: .git/config")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.model`: `.git/config` must be a plain path inside the repository";
    "a card that climbs": |text| after(text, "    path: models/pilot.onnx", "    card: a/../../b")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.model`: `a/../../b` must be a plain path inside the repository";
    "a password in the address": |text| {
        let at = text.find("    url: ").unwrap();
        let end = at + text[at..].find('\n').unwrap();
        let url = "    url: https://me:secret@h.example/a.git";
        [&text[..at], url, &text[end..]].concat().into_bytes()
    } => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.source.url`: the URL of https://…@h.example carries credentials: use ssh \
           keys, or a credential helper";
    "no platforms": |text| with(text, PLATFORMS, "platforms: []")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.platforms` is empty: name linux/amd64, linux/arm64 or both";
    "a platform nobody builds": |text| with(text, PLATFORMS, "platforms: [plan9/mips]")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 17 column N: `plan9/mips` is not a platform: want linux/amd64 or \
           linux/arm64";
    "a platform without a runtime": |text| {
        cut(text, "    linux/arm64:", "  registry:").into_bytes()
    } => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.runtime` has no binary for linux/arm64";
    "an image with a digest as repository": |text| {
        with(text, "/team/donkeycar\n", "/team/donkeycar:v1\n")
    } => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 24 column N: `REGISTRY/team/donkeycar:v1` is no repository name: \
           lower-case letters, digits and . _ - between slashes";
    "a key and a program that signs": |text| after(text, "  sign:", "    command: [/bin/true]")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.sign`: it has both `key` and `command`; want one";
    "nobody who signs": |text| cut(text, "    key:", "    builder:").into_bytes()
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.sign`: it has neither `key` nor `command` nor `socket`; want one";
    "old tags without a key": |text| {
        let text = cut(text, "    key:", "    builder:");
        after(&text, "  sign:", "    sigTags: true\n    keyless: {}")
    } => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.sign.sigTags`: they are signed with a key, and `keyless` has none";
    "an attestation nobody makes": |text| after(text, "  sign:", "    attest: [everything]")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 26 column N: unknown variant `everything`";
    "a GitOps file that climbs": |text| {
        with(text, "file: car/kustomization.yaml", "file: ../kustomization.yaml")
    } => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.promote`: `../kustomization.yaml` must be a plain path inside the \
           repository";
    "a GitOps branch that is an option": |text| with(text, "branch: main", "branch: --force")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           field `spec.promote`: `branch`: `--force` is no name of a branch";
    "days below nothing": |text| with(text, "expireDays: 365", "expireDays: -1")
        => "error: DIR/config/hostile.yaml: not a usable pipeline file (docs/pipeline-file.md): \
           error: line 29 column N: invalid u32";
    "a policy that is not there": |text| with(text, "config/policy.yaml", "config/nowhere.yaml")
        => "error: DIR/config/nowhere.yaml: the policy cannot be read: No such file or directory \
           (os error 2)";
    "a base that is not there": |text| with(text, "target/base/layout", "target/base/nowhere")
        => "error: HERE/target/base/nowhere is no OCI image layout; run `make base`: \
           HERE/target/base/nowhere/index.json: No such file or directory (os error 2)";
};

/// The same for the service's configuration.
const SERVICES: &[(&str, Edit, &str)] = rows! {
    "a listener that is no address": |text| {
        with(text, "\"webhook\":\"127.0.0.1", "\"webhook\":\"localhost")
    } => "error: DIR/config/hostile.yaml: not a service configuration: error: line 1 column N: \
           invalid socket address syntax";
    "a listener nobody knows": |text| {
        with(text, "\"listen\":{", "\"listen\":{\"admin\":\"0.0.0.0:1\",")
    } => "error: DIR/config/hostile.yaml: not a service configuration: error: line 1 column N: \
           unknown field `admin`";
    "secrets in the file": |text| service(text, "\"webhookSecret\":\"s3cret\"")
        => "error: DIR/config/hostile.yaml: not a service configuration: error: line 1 column N: \
           unknown field `webhookSecret`";
    "no pipelines": |text| with(text, "\"pipelines\":", "\"pipeline\":")
        => "error: DIR/config/hostile.yaml: not a service configuration: error: line 1 column N: \
           unknown field `pipeline`";
    "runs below nothing": |text| service(text, "\"concurrent\":-1")
        => "error: DIR/config/hostile.yaml: not a service configuration: error: line 1 column N: \
           invalid u64";
    "nothing is kept": |text| service(text, "\"keep\":{\"days\":0}")
        => "error: DIR/config/hostile.yaml: not a service configuration: field `keep.days`: 0; \
           want 1 to 36500";
    "a registry of no size": |text| service(text, "\"registry\":{\"quotaGib\":0}")
        => "error: DIR/config/hostile.yaml: not a service configuration: field \
           `registry.quotaGib`: 0; want 1 to 1048576";
};

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
            let said = first_line(&ran.stderr);
            // Columns depend on where this lane's folder is.
            Answer::new(code, unnumbered(&world.tame(said, &more), "column "))
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
