//! Hostile models, each refused with its own code; and no bytes at all that panic or balloon.

mod build;
mod hostile;
mod properties;

use std::{collections::BTreeMap, path::Path};

use pitlane_release::ModelCard;
use prost::Message as _;

use super::*;
use build::{bytes, card, good};

#[test]
fn a_good_model_passes_and_its_facts_are_right() {
    let bytes = bytes(&good());
    let facts = inspect(&bytes, &card(), &Contract::default()).unwrap();
    assert_eq!(facts.digest, Digest::of(&bytes));
    assert_eq!((facts.bytes, facts.ir_version, facts.opset), (bytes.len() as u64, 8, 13));
    assert_eq!(facts.operators, BTreeMap::from([("Flatten".into(), 1), ("Gemm".into(), 2)]));
    assert_eq!(facts.parameters, 2 * (72 + 1));
    assert_eq!(facts.producer, "test 1.0");
    assert_eq!(facts.inputs[0].shape, [1, 4, 6, 3]);
    let names: Vec<_> = facts.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["n_outputs0", "n_outputs1"]);
}

#[test]
fn harmless_differences_pass() {
    use build::{dim, shape_of};
    type Change = fn(&mut onnx::Model);
    let cases: &[(&str, Change)] = &[
        ("open batch", |m| {
            *shape_of(&mut build::graph(m).input[0]) =
                vec![onnx::Dim { value: None, param: Some("N".into()) }, dim(4), dim(6), dim(3)];
        }),
        ("unknown batch of an output", |m| {
            *shape_of(&mut build::graph(m).output[0]) = vec![onnx::Dim::default(), dim(1)];
        }),
        ("suffix of a converter", |m| {
            let graph = build::graph(m);
            graph.output[0].name = "n_outputs0:0".into();
            graph.node[1].output[0] = "n_outputs0:0".into();
        }),
        ("weights listed as inputs", |m| {
            let weight = build::value("w0", &[72, 1]);
            build::graph(m).input.push(weight);
        }),
        ("the standard domain by its long name", |m| m.opset_import[0].domain = "ai.onnx".into()),
        ("typed elements", |m| {
            let weight = &mut build::graph(m).initializer[1];
            weight.raw_data = Bytes::new();
            weight.float_data = vec![0.5];
        }),
        ("an optional input left out", |m| build::graph(m).node[0].input.push(String::new())),
    ];
    for (name, change) in cases {
        let mut model = good();
        change(&mut model);
        let answer = inspect(&bytes(&model), &card(), &Contract::default());
        assert!(answer.is_ok(), "{name}: {answer:?}");
    }
}

#[test]
fn a_contract_reads_strictly_and_fills_its_gaps() {
    let contract: Contract = serde_json::from_str(r#"{"opsetMax": 21}"#).unwrap();
    assert_eq!(contract, Contract { opset_max: 21, ..Contract::default() });
    assert!(serde_json::from_str::<Contract>(r#"{"opset_max": 21}"#).is_err());
    let mut extra = Contract::default();
    extra.domains.insert("com.microsoft".into());
    assert!(
        extra.allows_domain("com.microsoft") && !Contract::default().allows_domain("com.microsoft")
    );
}

/// The real models of this repository, where they are checked in.
#[test]
fn the_models_of_the_examples_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    for (model, card) in [
        ("examples/donkeycar/models/pilot.onnx", "examples/donkeycar/models/pilot.yaml"),
        ("car-image/tests/data/tiny.onnx", "car-image/tests/data/tiny.yaml"),
    ] {
        let (Ok(bytes), Ok(card)) =
            (std::fs::read(root.join(model)), std::fs::read_to_string(root.join(card)))
        else {
            continue;
        };
        let card = ModelCard::parse(&card).unwrap();
        let facts = inspect(&bytes, &card, &Contract::default()).unwrap_or_else(|error| {
            panic!("{model}: {} {error}", error.code());
        });
        assert!(facts.parameters > 0, "{model}");
        seen += 1;
    }
    eprintln!("{seen} real models inspected");
}

/// A loop without end, as a real exporter and a real library accept it.
#[test]
fn the_endless_model_of_the_runtimes_tests_is_refused() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../car-image/tests/data");
    let bytes = std::fs::read(data.join("endless.onnx")).unwrap();
    let card = ModelCard::parse(&std::fs::read_to_string(data.join("endless.yaml")).unwrap());
    let refusal = inspect(&bytes, &card.unwrap(), &Contract::default()).unwrap_err();
    assert_eq!(refusal.code(), "model-control-flow", "{refusal}");
}

#[test]
fn every_refusal_says_what_to_do_and_has_a_code_of_its_own() {
    for refusal in hostile::refusals() {
        let text = refusal.to_string();
        assert!(!text.ends_with('.') && text.len() > 30, "{text}");
        assert!(refusal.code().starts_with("model-"), "{}", refusal.code());
    }
}

#[test]
fn the_decoder_agrees_with_the_wire_check_on_the_good_model() {
    let bytes = bytes(&good());
    wire::check(&bytes).unwrap();
    assert_eq!(onnx::Model::decode(Bytes::from(bytes)).unwrap(), good());
}
