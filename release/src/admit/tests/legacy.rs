//! cosign's `.sig` and `.att` tags, signed with a key: what counts, and what does not.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::world::{Signer, World, statement};
use crate::{
    Digest,
    evidence::LegacyLayer,
    provenance::PROVENANCE,
    sigstore::DSSE_LAYER,
    simple::{SIMPLE_SIGNING, SimpleSigning},
};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

fn sig(signer: &Signer, payload: &[u8]) -> LegacyLayer {
    let signature = STANDARD.encode(signer.sign(payload));
    LegacyLayer {
        media_type: SIMPLE_SIGNING.into(),
        payload: payload.to_vec(),
        annotations: BTreeMap::from([(SIGNATURE.into(), signature)]),
    }
}

fn att(signer: &Signer, statement: &Value) -> LegacyLayer {
    let bundle: Value = serde_json::from_slice(&signer.bundle(statement)).unwrap();
    LegacyLayer {
        media_type: DSSE_LAYER.into(),
        payload: bundle["dsseEnvelope"].to_string().into_bytes(),
        annotations: BTreeMap::from([(SIGNATURE.into(), String::new())]),
    }
}

#[test]
fn signatures_under_tags() {
    let mut world = World::new();
    world.policy.truncate(world.policy.find("drive:").unwrap());
    let mut evidence = world.evidence();
    evidence.statements.clear();
    let payload = |digest: Digest| {
        serde_json::to_vec(&SimpleSigning::of(&world.image.repository, digest)).unwrap()
    };
    let good = payload(evidence.requested.digest);
    let altered = |edit: fn(&mut LegacyLayer)| {
        let mut layer = sig(&world.ours, &good);
        edit(&mut layer);
        layer
    };
    let text = String::from_utf8(good.clone()).unwrap();
    let other_type = text.replace("cosign container", "another container");
    let table = [
        ("admitted", sig(&world.ours, &good)),
        ("wrong-signer", sig(&world.stranger, &good)),
        ("other-image", sig(&world.ours, &payload(Digest::of("other")))),
        ("altered-statement", sig(&world.ours, other_type.as_bytes())),
        ("altered-statement", sig(&world.ours, b"{}")),
        ("wrong-signer", altered(|layer| layer.payload.push(b' '))),
        ("wrong-signer", altered(|layer| layer.annotations.clear())),
        (
            "wrong-signer",
            altered(|layer| {
                layer.annotations.insert(SIGNATURE.into(), "not base64".into());
            }),
        ),
        ("wrong-signer", altered(|layer| layer.media_type = "application/json".into())),
        ("wrong-signer", altered(|layer| layer.media_type = DSSE_LAYER.into())),
        ("attestation-only", att(&world.ours, &statement(PROVENANCE, &world.about(), json!({})))),
    ];
    for (number, (want, layer)) in table.iter().enumerate() {
        evidence.legacy = vec![layer.clone()];
        assert_eq!(&world.code(&evidence), want, "case {number}");
    }
    // Several signers under one tag: any place will do.
    evidence.legacy = vec![sig(&world.stranger, &good), sig(&world.ours, &good)];
    assert_eq!(world.code(&evidence), "admitted");

    let formats = |world: &mut World, format: &str| {
        let with = format!("ours }} }}, signatureFormat: {format}");
        world.policy = world.policy.replace("ours } }", &with);
    };
    formats(&mut world, "bundle");
    assert_eq!(world.code(&evidence), "wrong-signer", "the policy wants bundles");
    world.policy = world.policy.replace("signatureFormat: bundle", "signatureFormat: legacy");
    assert_eq!(world.code(&evidence), "admitted");
    evidence.bundles = vec![world.ours.bundle(&statement(
        crate::statement::COSIGN_SIGN,
        &world.about()[..1],
        json!({}),
    ))];
    evidence.legacy.clear();
    assert_eq!(world.code(&evidence), "wrong-signer", "the policy wants tags");
}

#[test]
fn attestations_under_tags() {
    let mut world = World::new();
    world.policy.truncate(world.policy.find("drive:").unwrap());
    world.policy = world.policy.replace(
        "ours } }",
        "ours } }, attestations: [{ name: p, predicateType: slsaprovenance1 }]",
    );
    let mut evidence = world.evidence();
    evidence.statements.clear();
    let about = world.about();
    for (want, layer) in [
        ("admitted", att(&world.ours, &statement(PROVENANCE, &about, json!({})))),
        ("wrong-signer", att(&world.stranger, &statement(PROVENANCE, &about, json!({})))),
        ("other-image", att(&world.ours, &statement(PROVENANCE, &about[1..], json!({})))),
        ("no-attestation", att(&world.ours, &statement("https://x.example/t", &about, json!({})))),
    ] {
        evidence.legacy = vec![layer];
        assert_eq!(world.code(&evidence), want);
    }
}
