//! `Contract`: what the operator of a pipeline accepts as a model. Data only, from the pipeline
//! file; the car repository has no say in it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits that a model must keep. Every field has a default that fits small driving networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Contract {
    /// Largest file, in bytes. 64 MiB by default: a 16-million-weight network.
    pub max_bytes: u64,
    /// Oldest standard operator set.
    pub opset_min: i64,
    /// Newest standard operator set. The default 17 is what ONNX Runtime 1.12 and newer run, so
    /// that cars with an older library keep up.
    pub opset_max: i64,
    /// Newest version of the file format.
    pub ir_version_max: i64,
    /// Operator domains; the empty one and `ai.onnx` are the same, the standard operators.
    pub domains: BTreeSet<String>,
    /// The operators a model may use. Loop, Scan and If are refused even when they stand here:
    /// how long they run is not known before they do.
    pub operators: BTreeSet<String>,
    /// Most nodes.
    pub max_nodes: u64,
    /// Most elements of all weights and constants together.
    pub max_elements: u64,
}

/// The standard operators that pilots are made of: convolution, pooling, dense layers,
/// normalisation, activations, arithmetic, and moving of axes. Left out on purpose: control flow,
/// randomness, strings, sequences, and operators that make large tensors out of small ones
/// (`ConstantOfShape`, `Expand`, `Range`, `Tile`, `Resize`).
const OPERATORS: &[&str] = &[
    "Abs",
    "Add",
    "ArgMax",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "Div",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Flatten",
    "Floor",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Pad",
    "Pow",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Selu",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

impl Default for Contract {
    fn default() -> Self {
        let own = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        Self {
            max_bytes: 64 << 20,
            opset_min: 7,
            opset_max: 17,
            ir_version_max: 10,
            domains: own(&["", "ai.onnx"]),
            operators: own(OPERATORS),
            max_nodes: 10_000,
            max_elements: 64 << 20,
        }
    }
}

impl Contract {
    /// Whether operators of this domain may be used.
    pub fn allows_domain(&self, domain: &str) -> bool {
        self.domains.contains(domain)
            || (is_standard(domain) && (self.domains.iter().any(|d| is_standard(d))))
    }
}

/// Whether a domain means the standard operators.
pub(super) fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}
