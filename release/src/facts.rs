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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
