//! The document follows from its inputs, and says what it does not know.

use std::collections::BTreeMap;

use pitlane_release::{Digest, ModelCard, Platform};
use serde_json::Value;

use super::{About, bom};
use crate::{
    assemble::{
        Blob, Built, Origin, Parts,
        crates::Crate,
        parts::{Part, PartKind},
    },
    model::{ModelFacts, TensorFacts},
};

const CARD: &str = include_str!("../../../release/tests/data/pilot.yaml");

fn built(manifest: &[u8]) -> Built {
    Built {
        manifest: Blob::inline("application/json", manifest),
        config: Blob::inline("application/json", b"{}"),
        layers: vec![],
        origin: Origin::Parts(Parts {
            base: Digest::of("base"),
            runtime: Digest::of("runtime"),
            base_parts: vec![],
            crates: vec![],
        }),
    }
}

fn facts() -> ModelFacts {
    let tensor = |name: &str| TensorFacts {
        name: name.into(),
        element: "float32".into(),
        shape: vec![1, 1],
    };
    ModelFacts {
        digest: Digest::of("model"),
        bytes: 5,
        ir_version: 8,
        opset: 13,
        operators: BTreeMap::from([("Conv".to_owned(), 5)]),
        parameters: 7,
        inputs: vec![tensor("img_in")],
        outputs: vec![tensor("n_outputs0"), tensor("n_outputs1")],
        producer: "tool 1".into(),
        conversion: None,
    }
}

fn document(built: &Built) -> Value {
    let (card, facts) = (ModelCard::parse(CARD).unwrap(), facts());
    let about = About {
        repository: &"r.example/team/car".parse().unwrap(),
        tag: "v1.0.0",
        platform: Platform::LinuxArm64,
        built,
        card: &card,
        card_file: Digest::of(CARD),
        facts: &facts,
        time: "2026-01-02T03:04:05Z".parse().unwrap(),
    };
    let (one, two) = (bom(&about), bom(&about));
    let bytes = serde_json::to_vec(&one).unwrap();
    assert_eq!(bytes, serde_json::to_vec(&two).unwrap(), "the same inputs give the same bytes");
    serde_json::from_slice(&bytes).unwrap()
}

fn aggregates(bom: &Value) -> Vec<&str> {
    let all = bom["compositions"].as_array().unwrap();
    all.iter().map(|one| one["aggregate"].as_str().unwrap()).collect()
}

#[test]
fn what_is_not_known_is_said() {
    let bom = document(&built(b"one"));
    // Whoever kept a document finds it again by this number.
    assert_eq!(bom["serialNumber"], "urn:uuid:c920ad0f-5bc5-8cb1-8c07-5872b813623e");
    assert_eq!(aggregates(&bom), ["incomplete", "unknown", "unknown"]);
    let names: Vec<&Value> =
        bom["components"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["base", "pitlane-car", "donkeycar-linear"]);
    assert!(bom["components"][1].get("version").is_none(), "nobody knows it");
    let other = document(&built(b"two"));
    assert_ne!(bom["serialNumber"], other["serialNumber"]);
    let purl = bom["metadata"]["component"]["purl"].as_str().unwrap();
    assert!(purl.starts_with("pkg:oci/car@sha256:"), "{purl}");
    assert!(
        purl.ends_with("?arch=arm64&repository_url=r.example%2Fteam%2Fcar&tag=v1.0.0"),
        "{purl}"
    );
}

#[test]
fn packages_and_crates_are_listed_with_what_they_use() {
    let one = |name: &str, source: &str, dependencies: &[usize], kind: Option<&str>| Crate {
        name: name.into(),
        version: "1.0.0".into(),
        source: source.into(),
        kind: kind.map(str::to_owned),
        dependencies: dependencies.to_vec(),
        root: name == "pitlane-car",
    };
    let mut built = built(b"one");
    let Origin::Parts(parts) = &mut built.origin else { panic!("of parts") };
    parts.crates = vec![
        one("pitlane-car", "local", &[1, 2, 3], None),
        one("own", "local", &[2], None),
        one("serde", "registry", &[], None),
        one("derive", "registry", &[], Some("build")),
    ];
    parts.base_parts = vec![Part {
        kind: PartKind::Wheel,
        name: "onnxruntime".into(),
        version: "1.2.3".into(),
        qualifiers: BTreeMap::from([("file_name".to_owned(), "o.whl".to_owned())]),
        digest: Digest::of("wheel"),
        files: BTreeMap::from([("usr/lib/o.so".to_owned(), Digest::of("library"))]),
    }];
    let bom = document(&built);
    assert_eq!(aggregates(&bom), ["incomplete", "incomplete", "unknown"]);
    let components = bom["components"].as_array().unwrap();
    let purls: Vec<&Value> = components.iter().map(|one| &one["purl"]).collect();
    let serde: Value = "pkg:cargo/serde@1.0.0".into();
    let wheel: Value = "pkg:pypi/onnxruntime@1.2.3?file_name=o.whl".into();
    assert_eq!(purls, [&wheel, &Value::Null, &Value::Null, &serde, &Value::Null]);
    assert_eq!(components[0]["components"][0]["name"], "/usr/lib/o.so");
    let runtime = components[1]["bom-ref"].clone();
    let uses = |of: &Value| {
        let mut all = bom["dependencies"].as_array().unwrap().iter();
        all.find(|one| one["ref"] == *of).unwrap_or(&Value::Null)["dependsOn"].clone()
    };
    assert_eq!(uses(&runtime), serde_json::json!(["crate:own@1.0.0", "crate:serde@1.0.0"]));
    assert_eq!(uses(&"crate:own@1.0.0".into()), serde_json::json!(["crate:serde@1.0.0"]));
    assert_eq!(uses(&"image".into()).as_array().unwrap().len(), 3);
    assert_eq!(uses(&"crate:derive@1.0.0".into()), Value::Null, "it only helped to build");
}
