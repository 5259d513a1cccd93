//! What was found in a model: attested with a release, so that a car's policy can hold the model
//! to a contract of its own without reading the network itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, ModelCard};

/// Predicate type of the statement about a release's model.
pub const MODEL: &str = "https://pitlane.dev/model/v1";

/// The statement about a release's model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttestedModel {
    /// What was found in the file.
    pub facts: ModelFacts,
    /// What its makers say of it: how it is fed, and what its answers mean.
    pub card: ModelCard,
}

/// What was found in a model file that the pipeline accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelFacts {
    /// The digest of the file.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// Version of the file format.
    pub ir_version: i64,
    /// Version of the standard operator set.
    pub opset: i64,
    /// How often each operator is used.
    pub operators: BTreeMap<String, u64>,
    /// Elements of all weights.
    pub parameters: u64,
    /// What is fed in.
    pub inputs: Vec<TensorFacts>,
    /// What comes out.
    pub outputs: Vec<TensorFacts>,
    /// The program that wrote the file, by its own account.
    pub producer: String,
    /// How it became ONNX, where the repository has a model of another framework.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
}

/// How a model of another framework became ONNX. What the converter says of it (`maxDifference`,
/// `versions`) could be forged by a model that is a program; the laps are not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conversion {
    /// `pytorch`, `torchscript`, `keras`, `tflite` or `sklearn`.
    pub framework: String,
    /// The network's class, where the file holds weights alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Digest of the file in the repository.
    pub original: Digest,
    /// Module → digest, of the code that went with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub code: BTreeMap<String, Digest>,
    /// The id of the converter's image.
    pub converter: String,
    /// On how many pictures original and file were compared.
    pub samples: u32,
    /// Largest difference of any output on them, by the converter's word.
    pub max_difference: f64,
    /// The largest that the operator allows.
    pub tolerance: f64,
    /// Library → version, by the converter's word.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
}

/// A named tensor at the edge of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TensorFacts {
    /// The name in the file.
    pub name: String,
    /// The element type.
    pub element: String,
    /// The shape, with 1 for a batch that the file leaves open.
    pub shape: Vec<u32>,
}
