//! The request of a conversion: what framework the model is of, and what the ONNX file must look like.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Newest operator set (docs/model.md: what ONNX Runtime 1.12 and newer run), and the oldest that
/// all exporters in use write.
const OPSETS: std::ops::RangeInclusive<u32> = 13..=17;
/// Most samples; each is a run of both models.
const MAX_SAMPLES: u32 = 1000;
/// Most numbers of a picture.
const MAX_ELEMENTS: u64 = 4 << 20;
/// Most outputs; longest name.
const MAX_OUTPUTS: usize = 64;
const MAX_NAME: usize = 128;
/// Largest request as JSON.
pub(crate) const MAX_REQUEST: usize = 64 * 1024;

/// What is to be converted, version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// `pitlane.dev/v1`.
    pub api_version: ApiVersion,
    /// `ConversionRequest`.
    pub kind: RequestKind,
    /// Where the model comes from.
    pub framework: Framework,
    /// What is fed in.
    pub input: Input,
    /// The names of the outputs, in order. More names than the model has outputs: its one output is
    /// split, a number for each name.
    pub outputs: Vec<String>,
    /// The standard operator set, 13 to 17.
    pub opset: u32,
    /// What original and file are compared on.
    pub samples: Samples,
    /// Largest difference of any output on any sample.
    pub tolerance: f64,
}

/// The version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// Version 1.
    #[serde(rename = "pitlane.dev/v1")]
    V1,
}

/// The word in `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequestKind {
    /// A request.
    ConversionRequest,
}

/// A framework, with what only its models need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "lowercase",
    rename_all_fields = "camelCase",
    tag = "kind",
    deny_unknown_fields
)]
pub enum Framework {
    /// Torch's weights without the network (`torch.save(model.state_dict())`).
    Pytorch {
        /// The network: `module.Class`, from the code that goes with the request.
        class: String,
        /// Its arguments by name.
        #[serde(default)]
        arguments: BTreeMap<String, serde_json::Value>,
    },
    /// Torch's network and weights (`torch.jit.save`).
    Torchscript {},
    /// Keras, `.keras` or `.h5`.
    Keras {},
    /// TensorFlow Lite.
    Tflite {},
    /// scikit-learn, a pickle (`pickle` or `joblib`).
    Sklearn {},
}

/// The input tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Its name in the file.
    pub name: String,
    /// Its shape; the first number is the batch, 1. A model that takes rows gets the picture as one.
    pub shape: Vec<u32>,
}

/// Pictures made from a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Samples {
    /// How many, 1 to 1000.
    pub count: u32,
    /// The seed.
    pub seed: u32,
    /// Smallest number in a picture.
    pub low: f64,
    /// Largest number in a picture.
    pub high: f64,
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct RequestFault {
    /// The field.
    pub field: &'static str,
    /// What is wrong.
    pub why: String,
}

impl Request {
    /// Checks what the types leave open.
    pub fn check(&self) -> Result<(), RequestFault> {
        let fail = |field, why: &str| Err(RequestFault { field, why: why.to_owned() });
        if let Framework::Pytorch { class, .. } = &self.framework {
            // Modules of the request, one or more, and a class: no path, no code.
            let parts: Vec<&str> = class.split('.').collect();
            if parts.len() < 2 || !parts.iter().all(|part| is_name(part)) {
                return fail("framework.class", "write module.Class");
            }
        }
        let shape = &self.input.shape;
        let elements = shape.iter().try_fold(1_u64, |all, &n| all.checked_mul(u64::from(n)));
        let fits = elements.is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n));
        if shape.first() != Some(&1) || !(2..=5).contains(&shape.len()) || !fits {
            return fail(
                "input.shape",
                "2 to 5 numbers, the first is 1, all together at most 4194304",
            );
        }
        let mut names: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        names.push(&self.input.name);
        if names.iter().any(|name| name.len() > MAX_NAME || !is_name(name)) {
            return fail("outputs", "names of letters, digits and _ with at most 128 characters");
        }
        names.sort_unstable();
        names.dedup();
        if names.len() != self.outputs.len() + 1 || !(1..=MAX_OUTPUTS).contains(&self.outputs.len())
        {
            return fail("outputs", "1 to 64 names, each once, and none of them the input's");
        }
        if !OPSETS.contains(&self.opset) {
            return fail("opset", "13 to 17");
        }
        let Samples { count, low, high, .. } = self.samples;
        let finite = low.is_finite() && high.is_finite();
        if !((1..=MAX_SAMPLES).contains(&count) && finite && low < high) {
            return fail("samples", "count is 1 to 1000, and low less than high");
        }
        if !(self.tolerance.is_finite() && self.tolerance >= 0.0) {
            return fail("tolerance", "a number, not negative");
        }
        Ok(())
    }
}

/// A name in Python and in ONNX.
pub(crate) fn is_name(text: &str) -> bool {
    let mut rest = text.chars();
    rest.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && rest.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
