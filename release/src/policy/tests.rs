//! The format: what parses, and what is refused by name.

use super::*;

fn text(edit: &[(&str, &str)]) -> String {
    let key = crate::policy::tests::pem().replace('\n', "\n          ");
    let mut text = format!(
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: demo
spec:
  images:
    - glob: \"r.example/team/**\"
  authorities:
    - name: release
      key:
        data: |
          {}
drive:
  sources:
    - repository: team/donkeycar
      carKinds: [donkeycar]
  minimumCounter: 3
  laps:
    tracks: [generated_track]
    minLaps: 3
",
        key.trim_end()
    );
    for (from, to) in edit {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    text
}

pub(crate) fn pem() -> String {
    let pair = sigstore_crypto::KeyPair::generate_ecdsa_p256().unwrap();
    PublicKey::from_spki(pair.public_key_der().unwrap().as_bytes()).unwrap().to_pem()
}

#[test]
fn a_policy_parses() {
    let policy = Policy::parse(&text(&[]), &|_: &str| None).unwrap();
    assert!(policy.covers(&"r.example/team/donkeycar:v1".parse().unwrap()));
    assert!(!policy.covers(&"r.example/other/donkeycar:v1".parse().unwrap()));
    assert_eq!(policy.keys().count(), 1);
    assert_eq!(policy.drive.unwrap().minimum_counter, 3);
}

#[test]
fn a_named_key_is_resolved_or_missed_by_name() {
    let plain = text(&[]);
    let data = plain.find("        data:").unwrap();
    let drive = plain.find("drive:").unwrap();
    let named =
        format!("{}        secretRef: {{ name: lab-key }}\n{}", &plain[..data], &plain[drive..]);
    let error = Policy::parse(&named, &|_: &str| None).unwrap_err();
    assert_eq!(error, PolicyError::KeyMissing("lab-key".into()));
    let pem = pem();
    assert!(Policy::parse(&named, &|n: &str| (n == "lab-key").then(|| pem.clone())).is_ok());
}

#[test]
fn what_is_not_understood_is_refused() {
    for (from, to, want) in [
        ("kind: ClusterImagePolicy", "kind: Policy", "Policy"),
        ("v1beta1", "v9", "v9"),
        ("  images:", "  image:", "image"),
        ("drive:", "drives:", "drives"),
        ("minLaps", "minimumLaps", "minimumLaps"),
        ("      key:", "      keyless: {}\n      key:", "exactly one of key, keyless"),
        ("BEGIN PUBLIC", "BEGIN PRIVATE", "key.data"),
        ("r.example/team/**", "r.example/$(x)", "glob"),
        ("metadata:\n  name: demo", "metadata:\n  name: \"\"", "metadata.name"),
        ("  authorities:", "  mode: maybe\n  authorities:", "mode"),
        ("minLaps: 3", "minLaps: 0", "minLaps"),
        ("  minimumCounter", "  model: { pilots: [] }\n  minimumCounter", "drive.model.pilots"),
        ("  minimumCounter", "  model: { pilots: [rnn] }\n  minimumCounter", "rnn"),
        (
            "  minimumCounter",
            "  model: { operators: [] }\n  minimumCounter",
            "drive.model.operators",
        ),
        ("  minimumCounter", "  model: { maxBytes: }\n  minimumCounter", "without a value"),
        ("  minimumCounter", "  golden: { frames: [] }\n  minimumCounter", "drive.golden.frames"),
        ("  minimumCounter", "  golden: { maxTolerance: 0 }\n  minimumCounter", "maxTolerance"),
        ("  minimumCounter", "  golden: { tolerance: 1 }\n  minimumCounter", "tolerance"),
        ("  minimumCounter", "  golden:\n  minimumCounter", "without a value"),
        ("carKinds: [donkeycar]", "carKinds: []", "carKinds"),
        (
            "    - name: release\n",
            "    - name: release\n      attestations: [{ name: a, predicateType: b }]\n",
            "spec.authorities",
        ),
        (
            "    - name: release\n",
            "    - { name: no, static: { action: fail } }\n    - name: release\n",
            "spec.authorities",
        ),
        ("spec:", "spec:\n  policy: {type: cue, data: x}", "policy"),
    ] {
        let error = Policy::parse(&text(&[(from, to)]), &|_: &str| None).unwrap_err().to_string();
        assert!(error.contains(want), "{to}: {error}");
    }
}

/// What is there without a value is no demand by oversight: it is refused, with its line.
#[test]
fn a_field_without_a_value_is_refused() {
    for (from, to) in [
        ("    - name: release\n", "    - name: release\n      ctlog:\n"),
        ("    - name: release\n", "    - name: release\n      rfc3161timestamp:\n"),
        ("    - name: release\n", "    - name: release\n      attestations:\n"),
        ("    - name: release\n", "    - name: release\n      attestations: []\n"),
        ("    - name: release\n", "    - name: release\n      keyless:\n"),
        ("  minimumCounter: 3\n", "  provenance:\n"),
        ("  minimumCounter: 3\n", "  workflow:\n"),
        ("  minimumCounter: 3\n", "  maxAgeDays:\n"),
        ("  minimumCounter: 3\n", "  platforms:\n"),
        ("  minimumCounter: 3\n", "  evidence: []\n"),
        ("    minLaps: 3\n", "    minLaps: 3\n    seeds:\n"),
        ("    minLaps: 3\n", "    minLaps: 3\n    seeds: []\n"),
        ("    minLaps: 3\n", "    minLaps: 3\n    authorities: []\n"),
        ("    minLaps: 3\n", "    minLaps: 3\n    maxAbsCteM:\n"),
        ("  laps:\n    tracks: [generated_track]\n    minLaps: 3\n", "  laps:\n"),
        ("spec:", "spec:\n  mode:"),
    ] {
        let error = Policy::parse(&text(&[(from, to)]), &|_: &str| None).unwrap_err().to_string();
        assert!(error.contains("without a"), "{to}: {error}");
    }
    let whole = text(&[]);
    let empty = whole[..whole.find("drive:").unwrap()].to_owned() + "drive:\n";
    assert!(Policy::parse(&empty, &|_: &str| None).is_err());
    // Written out, defaults are meant.
    let given = text(&[("  minimumCounter: 3\n", "  provenance: {}\n")]);
    assert!(Policy::parse(&given, &|_: &str| None).unwrap().drive.unwrap().provenance.is_some());
    let given = text(&[("    - name: release\n", "    - name: release\n      ctlog: {}\n")]);
    let policy = Policy::parse(&given, &|_: &str| None).unwrap();
    let AuthorityRule::Key(rule) = &policy.authorities[0].rule else { panic!("a key") };
    assert!(rule.witness.as_ref().is_some_and(|(witness, _)| witness.log));
}

#[test]
fn services_of_several_instances_need_one_root() {
    let keyless = |url: &str, log: &str| {
        let name = "    - name: release\n";
        let with = format!(
            "    - name: other\n      keyless:\n        url: {url}\n        identities: \
             [{{ subject: a, issuer: b }}]\n      ctlog: {{ url: {log} }}\n{name}"
        );
        Policy::parse(&text(&[(name, &with)]), &|_: &str| None)
    };
    assert!(keyless("https://fulcio.sigstore.dev", "https://rekor.sigstore.dev/").is_ok());
    for (url, log) in [
        ("https://fulcio.a.example", "https://rekor.b.example"),
        ("https://fulcio.sigstore.dev", "https://rekor.b.example"),
        ("https://fulcio.a.example", "https://rekor.sigstore.dev"),
    ] {
        let error = keyless(url, log).unwrap_err().to_string();
        assert!(error.contains("trustRootRef"), "{url} {log}: {error}");
    }
    let missing = keyless("https://one.example", "https://one.example").unwrap_err();
    assert_eq!(missing, PolicyError::RootMissing("https://one.example".into()));
}
