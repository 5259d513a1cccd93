//! The model as a component: CycloneDX's model card, from the card in the car repository and the
//! facts that the step `model` found in the file.

use std::collections::BTreeMap;

use pitlane_release::{
    Digest, ModelCard,
    model::{Meaning, Pilot},
};
use serde::Serialize;
use serde_json::Value;

use super::{Component, Licence, Property, property, sha256};
use crate::{
    model::{ModelFacts, TensorFacts},
    model_signing::{CARD_FILE, MODEL_FILE},
};

/// CycloneDX `modelCard`, as far as it is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Card {
    model_parameters: Parameters,
    properties: Vec<Property>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    task: &'static str,
    architecture_family: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datasets: Vec<Dataset>,
    inputs: Vec<Format>,
    outputs: Vec<Format>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Dataset {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    description: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Format {
    format: String,
}

/// The model with its card, and both files with their digests.
pub(super) fn component(card: &ModelCard, facts: &ModelFacts, card_file: Digest) -> Component {
    let file = |name: &str, digest: &Digest| Component {
        kind: "file",
        bom_ref: Some(format!("file:/models/{name}")),
        name: format!("/models/{name}"),
        hashes: sha256(digest),
        ..Component::default()
    };
    Component {
        kind: "machine-learning-model",
        bom_ref: Some(format!("model:{}", facts.digest)),
        name: card.name.clone(),
        version: Some(facts.digest.to_string()),
        description: Some("the network that drives, as ONNX".into()),
        hashes: sha256(&facts.digest),
        licenses: card.license.iter().map(|text| Licence { expression: text.clone() }).collect(),
        model_card: Some(model_card(card, facts)),
        components: vec![file(MODEL_FILE, &facts.digest), file(CARD_FILE, &card_file)],
        ..Component::default()
    }
}

fn model_card(card: &ModelCard, facts: &ModelFacts) -> Card {
    let family = match card.pilot {
        Pilot::Linear => "linear pilot",
    };
    let input = &card.input;
    let inputs = facts.inputs.iter().map(|tensor| {
        let (layout, channels) = (format!("{:?}", input.layout), format!("{:?}", input.channels));
        let (layout, channels) = (layout.to_uppercase(), channels.to_uppercase());
        let shape = shape(tensor);
        Format { format: format!("{shape}, {layout}, {channels}, bytes times {}", input.scale) }
    });
    let outputs = facts.outputs.iter().zip(&card.outputs).map(|(tensor, output)| {
        let meaning = match output.meaning {
            Meaning::Steering => "steering, -1 left to 1 right",
            Meaning::Throttle => "throttle, -1 reverse to 1 ahead",
        };
        Format { format: format!("{}, {meaning}", shape(tensor)) }
    });
    Card {
        model_parameters: Parameters {
            task: "end-to-end driving",
            architecture_family: family,
            datasets: datasets(&card.training),
            inputs: inputs.collect(),
            outputs: outputs.collect(),
        },
        properties: properties(card, facts),
    }
}

fn shape(tensor: &TensorFacts) -> String {
    format!("{} {}{:?}", tensor.name, tensor.element, tensor.shape)
}

/// What the card says of the training data.
fn datasets(training: &BTreeMap<String, Value>) -> Vec<Dataset> {
    let data = training.get("data").map(|value| Dataset {
        kind: "dataset",
        name: "training data".into(),
        description: text(value),
    });
    data.into_iter().collect()
}

fn properties(card: &ModelCard, facts: &ModelFacts) -> Vec<Property> {
    let rest = card.training.iter().filter(|(key, _)| *key != "data");
    let mut found: Vec<Property> =
        rest.map(|(key, value)| property(&format!("training:{key}"), &text(value))).collect();
    found.extend([
        property("onnx:opset", &facts.opset),
        property("onnx:irVersion", &facts.ir_version),
        property("onnx:parameters", &facts.parameters),
        property("onnx:producer", &facts.producer),
    ]);
    let operators = facts.operators.iter();
    found.extend(operators.map(|(name, count)| property(&format!("onnx:operator:{name}"), count)));
    found
}

/// A free value as people read it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
