//! Policies, by the verifier that a car has: what it does not understand, or what would permit more
//! than it reads, decides nothing.

use std::fs;

use super::{
    Answer, Table, first_line,
    world::World,
    yaml::{Edit, bomb, with},
};
use crate::common::{cut, repository};

/// The policy with another authority, or none.
fn authority(text: &str, fields: &str) -> Vec<u8> {
    let line = if fields.is_empty() { String::new() } else { format!("    - {{ {fields} }}\n") };
    with(&cut(text, "    - name: release", "drive:"), "drive:", &format!("{line}drive:"))
}

const PLATFORMS: &str = "platforms: [linux/amd64, linux/arm64]";
const GOLDEN: &str = "golden: { frames: [black, white, noise], maxTolerance: 0.001 }";
/// A key as people write it, with nothing in it.
const NO_KEY: &str = "-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----";

/// What it is, the policy made of the good one, what is said.
const ROWS: &[(&str, Edit, &str)] = rows! {
    "nothing": |_| Vec::new()
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           unexpected end of input at line 1, column 1";
    "a bomb of anchors": bomb
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 1 column 1: unknown field `x0`";
    "deep lists": |text| format!("{text}x: {}\n", "[".repeat(4000)).into_bytes()
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 32 column 1: unknown field `x`";
    "a file of a megabyte": |text| format!("{text}#{}\n", "x".repeat(1 << 20)).into_bytes()
        => "error: DIR/config/hostile.yaml: the policy cannot be read: larger than 262144 bytes";
    "bytes that are no text": |text| [text.as_bytes(), b"# \xff\n"].concat()
        => "error: DIR/config/hostile.yaml: the policy cannot be read: stream did not contain \
           valid UTF-8";
    "two policies": |text| format!("{text}---\n{text}").into_bytes()
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 36 column 1: multiple YAML documents detected; use from_str_multiple or \
           from_str_multiple_with_options";
    "a key twice": |text| with(text, "drive:\n", "drive:\n  requireExpiry: false\n")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 23 column 3: duplicate mapping key: requireExpiry, set DuplicateKeyPolicy \
           in Options if acceptable";
    "a field nobody knows": |text| with(text, "drive:\n", "drive:\n  allowAll: true\n")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 18 column 3: unknown field `allowAll`";
    "another kind": |text| with(text, "kind: ClusterImagePolicy", "kind: Policy")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 5 column 7: unknown variant `Policy`";
    "a version of tomorrow": |text| with(text, "sigstore.dev/v1beta1", "sigstore.dev/v9")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 4 column 13: unknown variant `policy.sigstore.dev/v9`";
    "a pattern that is a variable": |text| {
        with(text, "glob: \"127.0.0.1:*/team/**\"", "glob: \"$(x)\"")
    } => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): field \
           `spec.images[].glob`: `$(x)`: want letters, digits and - _ : / . @ * **";
    "no images": |text| cut(text, "  images:", "  authorities:").into_bytes()
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 9 column 3: missing field `images`";
    "nobody who vouches": |text| authority(text, "")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): field `spec`: \
           want at least one image pattern and one authority";
    "everybody vouches": |text| authority(text, "name: any, static: { action: pass }")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): field \
           `spec.authorities`: with `drive:` every authority signs bundles (key or keyless), \
           without `attestations`: what must be proven is said in `drive:`";
    "a key that is none": |text| {
        authority(text, &format!("name: a, key: {{ data: \"{NO_KEY}\" }}"))
    } => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): field \
           `spec.authorities[0].key.data`: not a usable public key: Invalid key: Invalid SPKI: \
           ASN.1 error: unknown/unsupported ASN.1 DER tag: 0x00; want a PEM block `PUBLIC KEY` \
           (ECDSA P-256/384, Ed25519 or RSA)";
    "a key elsewhere": |text| authority(text, "name: a, key: { kms: \"awskms:///x\" }")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 12 column 30: `key.kms` is not asked here, where there may be no network: \
           export its public key (`cosign public-key --key KMS-URI`) into `key.data`";
    "a key and an identity": |text| {
        authority(text, "name: a, key: { secretRef: { name: release } }, keyless: {}")
    } => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): field \
           `spec.authorities[0]`: want exactly one of key, keyless and static";
    "a program as policy": |text| {
        with(text, "spec:\n", "spec:\n  policy: { type: rego, data: \"package x\" }\n")
    } => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 9 column 11: `policy` (CUE, Rego) is not run here: an attestation is \
           asked for by its predicateType alone; what laps, provenance and model must say is \
           asked for in `drive:`";
    "a mode nobody knows": |text| with(text, "spec:\n", "spec:\n  mode: off\n")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): field \
           `spec.mode`: `off`, want enforce or warn";
    "no kinds of car": |text| with(text, "carKinds: [donkeycar]", "carKinds: []")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): field \
           `drive.sources[].carKinds`: it is empty";
    "a platform nobody drives": |text| with(text, PLATFORMS, "platforms: [linux/s390x]")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 21 column 15: `linux/s390x` is not a platform: want linux/amd64 or \
           linux/arm64";
    "a demand without a value": |text| with(text, GOLDEN, "golden:")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 29 column 9: it is there without a value: write one (`{}` where the \
           defaults are meant), or remove the line";
    "a tolerance of nothing": |text| with(text, "maxTolerance: 0.001", "maxTolerance: -1")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): field \
           `drive.golden.maxTolerance`: want a number above 0 and up to 1";
    "a counter below nothing": |text| with(text, "drive:\n", "drive:\n  minimumCounter: -1\n")
        => "error: DIR/config/hostile.yaml: not a usable policy (docs/policy.md): not a policy: \
           error: line 18 column 19: invalid u64";
};

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
            let said = first_line(&ran.stderr);
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
