//! Every check of the admission core, each proven by evidence that it must refuse.

mod legacy;
mod mutations;
mod world;

use serde_json::{Value, json};

use super::*;
use crate::{
    Floor,
    facts::MODEL,
    golden::GOLDEN,
    lap::LAP,
    provenance::PROVENANCE,
    statement::{COSIGN_SIGN, RELEASE},
};
use world::{Signer, World, statement};

#[test]
fn a_good_release_is_admitted_on_both_platforms() {
    let mut world = World::new();
    for platform in Platform::ALL {
        world.platform = platform;
        let verdict = world.judge(&world.evidence());
        let verified = verdict.answer.unwrap();
        assert_eq!(verified.image().digest, Digest::of(&world.manifests[&platform]));
        assert_eq!(verified.counter(), Counter::new(7));
        let names: Vec<_> = verdict.checks.iter().map(|check| check.check).collect();
        assert_eq!(
            names.join(" "),
            "policy digest statement source kind platform counter time manifest config model lap \
             provenance model contract golden frames"
        );
    }
}

/// Changes before signing: what an honest signer would never sign, or an old release says.
#[test]
fn releases_that_say_the_wrong_thing() {
    type Edit = fn(&mut World);
    let table: &[(&str, Edit)] = &[
        ("no-policy", |w| w.image = "r.example/other/car:v1".parse().unwrap()),
        ("wrong-source", |w| w.release["source"]["repository"] = "other/car".into()),
        ("wrong-kind", |w| w.release["carKind"] = "jetbot".into()),
        ("rollback", |w| w.release["counter"] = 6.into()),
        ("rollback", |w| {
            w.floor = Floor(0);
            w.release["counter"] = 1.into();
        }),
        ("expired", |w| w.now = "2027-01-01T00:00:00Z"),
        ("expired", |w| w.release["expiresAt"] = Value::Null),
        ("not-yet-valid", |w| w.now = "2025-12-31T23:54:00Z"),
        ("wrong-platform", |w| {
            let x86 = Platform::LinuxAmd64;
            w.manifests.insert(Platform::LinuxArm64, w.manifests[&x86].clone());
            w.release["platforms"]["linux/arm64"] = w.release["platforms"]["linux/amd64"].clone();
        }),
        ("too-old", |w| w.policy.push_str("  maxAgeDays: 100\n")),
        ("no-attestation", |w| w.policy.push_str("  evidence: ['https://cyclonedx.org/bom']\n")),
        ("lap-failed", |w| w.policy = w.policy.replace("0.4 }", "0.4, seeds: [1, 77] }")),
        ("lap-failed", |w| w.policy = w.policy.replace("0.4 }", "0.4, maxMeanAbsCteM: 0.001 }")),
        ("wrong-provenance", |w| {
            w.policy = w.policy.replace("pitlane] }", "pitlane], sources: [git+https://x] }");
        }),
        ("wrong-platform", |w| w.policy.push_str("  platforms: [linux/amd64]\n")),
        ("model-mismatch", |w| w.release["model"]["layer"] = json!(Digest::of("x"))),
        ("lap-of-another-image", |w| w.lap["sharesModel"] = json!({})),
        ("lap-of-another-image", |w| w.lap["model"] = json!(Digest::of("x"))),
        ("lap-of-another-image", |w| w.lap["manifest"] = json!(Digest::of("x"))),
        ("lap-failed", |w| w.lap["result"] = "FAILED".into()),
        ("lap-failed", |w| w.lap["failedTests"] = json!(["b"])),
        ("lap-failed", |w| w.lap["drives"] = json!([])),
        ("lap-failed", |w| w.lap["drives"][0]["laps"] = 2.into()),
        ("lap-failed", |w| w.lap["drives"][0]["track"] = "square".into()),
        ("lap-failed", |w| w.lap["drives"][0]["offRoad"] = true.into()),
        ("lap-failed", |w| w.lap["drives"][0]["hits"] = 1.into()),
        ("lap-failed", |w| w.lap["drives"][0]["passed"] = false.into()),
        ("lap-failed", |w| w.lap["drives"][0]["lockStep"] = false.into()),
        ("lap-failed", |w| w.lap["drives"][0]["maxAbsCteM"] = 0.41.into()),
        ("altered-statement", |w| w.lap["drives"][0]["maxAbsCteM"] = Value::Null),
        ("wrong-provenance", |w| w.provenance["buildDefinition"]["buildType"] = "x".into()),
        ("wrong-provenance", |w| {
            w.provenance["runDetails"]["builder"]["id"] = "https://evil.example".into();
        }),
        ("wrong-provenance", |w| {
            let parameters = &mut w.provenance["buildDefinition"]["externalParameters"];
            parameters["source"]["ref"] = "refs/tags/v2".into();
        }),
        ("wrong-provenance", |w| {
            let parameters = &mut w.provenance["buildDefinition"]["externalParameters"];
            parameters["source"]["repository"] = "other/car".into();
        }),
        ("wrong-provenance", |w| w.release["source"]["commit"] = "2".repeat(40).into()),
        ("altered-statement", |w| {
            let parameters = &mut w.provenance["buildDefinition"]["externalParameters"];
            parameters["surprise"] = 1.into();
        }),
        ("altered-statement", |w| w.release["surprise"] = 1.into()),
        ("model-contract", |w| w.model["facts"]["digest"] = json!(Digest::of("x"))),
        ("model-contract", |w| w.model["facts"]["bytes"] = 901.into()),
        ("model-contract", |w| w.model["facts"]["parameters"] = 91.into()),
        ("model-contract", |w| w.model["facts"]["opset"] = 14.into()),
        ("model-contract", |w| w.model["facts"]["operators"]["Loop"] = 1.into()),
        ("model-contract", |w| w.model["card"]["input"]["shape"] = json!([1, 66, 200, 3])),
        ("model-contract", |w| w.model["card"]["license"] = Value::Null),
        ("model-contract", |w| w.model["card"]["license"] = "GPL-3.0-only".into()),
        ("altered-statement", |w| w.model["card"]["pilot"] = "rnn".into()),
        ("altered-statement", |w| w.model["surprise"] = 1.into()),
        ("golden-frames", |w| w.golden["model"] = json!(Digest::of("x"))),
        ("golden-frames", |w| w.golden["tolerance"] = 0.01.into()),
        ("golden-frames", |w| w.golden["tolerance"] = 0.into()),
        ("golden-frames", |w| w.golden["frames"][0]["name"] = "white".into()),
        ("golden-frames", |w| w.golden["frames"] = json!([])),
        ("golden-frames", |w| {
            w.golden["frames"][0]["outputs"][0]["values"] = json!([null]);
        }),
        ("altered-statement", |w| w.golden["surprise"] = 1.into()),
    ];
    for (number, (want, edit)) in table.iter().enumerate() {
        let mut world = World::new();
        edit(&mut world);
        assert_eq!(&world.code(&world.evidence()), want, "case {number}");
    }
}

/// A key for laps signs laps and nothing else; a key for releases signs no laps then.
#[test]
fn laps_can_have_a_key_of_their_own() {
    let mut world = World::new();
    world.policy = world.policy.replace(
        "maxAbsCteM: 0.4 }",
        "maxAbsCteM: 0.4, authorities: [{ name: twin, key: { secretRef: { name: laps } } }] }",
    );
    world.laps_by = Some(Signer::new());
    let good = world.evidence();
    assert_eq!(world.code(&good), "admitted");

    let lap_key = world.laps_by.replace(Signer::new()).unwrap();
    assert_eq!(world.code(&good), "wrong-signer", "a lap by another key");
    let ours = std::mem::replace(&mut world.ours, lap_key);
    let by_lap_key = world.evidence();
    world.laps_by = Some(std::mem::replace(&mut world.ours, ours));
    assert_eq!(world.code(&by_lap_key), "wrong-signer", "a release by the lap key");
}

/// A policy that only warns makes no permission; it says what would be refused.
#[test]
fn a_warning_is_no_permission() {
    let mut world = World::new();
    world.policy = world.policy.replace("spec:", "spec:\n  mode: warn");
    let mut evidence = world.evidence();
    assert!(world.judge(&evidence).answer.is_ok());
    evidence.statements.clear();
    let verdict = world.judge(&evidence);
    assert_eq!(verdict.answer.as_ref().unwrap_err().code(), "unsigned");
    assert!(verdict.allowed());
    let mut swapped = evidence.clone();
    swapped.manifest = Some(world.manifests[&Platform::LinuxAmd64].clone());
    assert!(!world.judge(&swapped).allowed(), "another platform's manifest in an unsigned index");
    evidence.top.push(b' ');
    assert!(!world.judge(&evidence).allowed(), "other bytes than those named");
    evidence.top.pop();
    let image = std::mem::replace(&mut world.image, "r.example/other/car:v1".parse().unwrap());
    assert!(!world.judge(&evidence).allowed(), "a policy that does not speak of it allows nothing");
    world.image = image;
    world.policy = world.policy.replace("mode: warn", "mode: enforce");
    assert!(!world.judge(&evidence).allowed());
}

/// Changes after signing: what an attacker between the signer and the car can do.
#[test]
fn evidence_that_was_tampered_with() {
    type Edit = fn(&World, &mut Evidence);
    fn replace_named(evidence: &mut Evidence, kind: &str, bytes: &dyn Fn(&[u8]) -> Vec<u8>) {
        for named in evidence.named.values_mut() {
            let bundle = crate::bundle::Bundle::parse(named).unwrap();
            if String::from_utf8_lossy(bundle.untrusted_payload()).contains(kind) {
                *named = bytes(named);
            }
        }
    }
    fn without(evidence: &mut Evidence, kind: &str) {
        evidence.named.retain(|_, named| {
            let bundle = crate::bundle::Bundle::parse(named).unwrap();
            !String::from_utf8_lossy(bundle.untrusted_payload()).contains(kind)
        });
    }
    let table: &[(&str, Edit)] = &[
        ("unsigned", |_, e| e.statements.clear()),
        ("unsigned", |_, e| e.statements = vec![b"junk".to_vec(); 9]),
        ("altered-manifest", |_, e| e.top.push(b' ')),
        ("altered-manifest", |_, e| e.manifest.as_mut().unwrap().push(b' ')),
        ("altered-manifest", |_, e| e.manifest = None),
        ("altered-manifest", |w, e| {
            e.manifest = Some(w.manifests[&Platform::LinuxAmd64].clone());
        }),
        ("altered-config", |_, e| e.config.as_mut().unwrap().push(b' ')),
        ("altered-config", |_, e| e.config = None),
        ("no-lap", |_, e| e.named.clear()),
        ("no-model-contract", |_, e| without(e, MODEL)),
        ("no-golden-frames", |_, e| without(e, GOLDEN)),
        ("altered-evidence", |_, e| replace_named(e, GOLDEN, &|bytes| [bytes, b" "].concat())),
        ("altered-evidence", |_, e| replace_named(e, MODEL, &|bytes| [bytes, b" "].concat())),
        ("altered-evidence", |_, e| {
            replace_named(e, LAP, &|bytes| [bytes, b" "].concat());
        }),
        ("wrong-signer", |w, e| {
            let payload = crate::bundle::Bundle::parse(&e.statements[0]).unwrap();
            let value = serde_json::from_slice(payload.untrusted_payload()).unwrap();
            e.statements = vec![w.stranger.bundle(&value)];
        }),
        ("altered-statement", |_, e| {
            let mut bundle: Value = serde_json::from_slice(&e.statements[0]).unwrap();
            bundle["dsseEnvelope"]["payload"] = "e30=".into();
            e.statements = vec![bundle.to_string().into_bytes()];
        }),
        ("other-image", |w, e| {
            let other = statement(RELEASE, &[Digest::of("o"), Digest::of("p")], {
                let mut release = w.release.clone();
                release["index"] = json!(Digest::of("o"));
                release["platforms"] = json!({"linux/arm64": Digest::of("p")});
                release
            });
            e.statements = vec![w.ours.bundle(&other)];
        }),
        ("attestation-only", |w, e| {
            let about = w.about();
            e.statements = vec![w.ours.bundle(&statement(LAP, &about, w.lap.clone()))];
        }),
    ];
    for (number, (want, edit)) in table.iter().enumerate() {
        let world = World::new();
        let mut evidence = world.evidence();
        edit(&world, &mut evidence);
        assert_eq!(&world.code(&evidence), want, "case {number}");
    }
}

#[test]
fn the_newest_statement_counts_and_junk_does_not_hide_it() {
    let mut world = World::new();
    let mut evidence = world.evidence();
    world.release["counter"] = 9.into();
    let newer = world.evidence();
    evidence.named.extend(newer.named);
    evidence.statements.extend(newer.statements);
    evidence.statements.extend(vec![b"{}".to_vec(); 50]);
    let stranger = world.stranger.bundle(&statement(RELEASE, &world.about(), json!({})));
    evidence.statements.insert(0, stranger);
    world.floor = Floor(8);
    assert_eq!(world.judge(&evidence).answer.unwrap().counter(), Counter::new(9));
}

#[test]
fn a_cosign_signature_suffices_where_nothing_more_is_asked() {
    let mut world = World::new();
    let drive = world.policy.find("drive:").unwrap();
    world.policy.truncate(drive);
    let mut evidence = world.evidence();
    let about = world.about();
    let signature = |signer: &Signer, kind: &str, about: &[Digest]| {
        signer.bundle(&statement(kind, about, json!({})))
    };
    let table: &[(&str, Vec<Vec<u8>>)] = &[
        ("admitted", vec![signature(&world.ours, COSIGN_SIGN, &about[..1])]),
        ("unsigned", vec![]),
        ("unsigned", vec![b"junk".to_vec()]),
        ("wrong-signer", vec![signature(&world.stranger, COSIGN_SIGN, &about[..1])]),
        ("other-image", vec![signature(&world.ours, COSIGN_SIGN, &about[1..])]),
        ("attestation-only", vec![signature(&world.ours, PROVENANCE, &about)]),
        ("attestation-only", vec![signature(&world.ours, RELEASE, &about)]),
    ];
    for (number, (want, bundles)) in table.iter().enumerate() {
        evidence.bundles.clone_from(bundles);
        assert_eq!(&world.code(&evidence), want, "case {number}");
    }
    world.policy = world.policy.replace(
        "ours } }",
        "ours } }, attestations: [{ name: p, predicateType: https://slsa.dev/provenance/v1 }]",
    );
    evidence.bundles = vec![signature(&world.ours, COSIGN_SIGN, &about[..1])];
    assert_eq!(world.code(&evidence), "no-attestation");
    evidence.bundles.push(signature(&world.stranger, PROVENANCE, &about));
    assert_eq!(world.code(&evidence), "no-attestation");
    evidence.bundles.push(signature(&world.ours, PROVENANCE, &about[1..]));
    assert_eq!(world.code(&evidence), "no-attestation");
    evidence.bundles.push(signature(&world.ours, PROVENANCE, &about));
    assert_eq!(world.code(&evidence), "admitted");
    evidence.config.as_mut().unwrap().push(b' ');
    assert_eq!(world.code(&evidence), "altered-config");
}
