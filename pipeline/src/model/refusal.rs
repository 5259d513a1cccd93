//! `ModelRefusal`: why a model does not go into a release, with a code that stays.

use std::fmt;

/// Longest piece of a model's own text that a message repeats (characters).
const MAX_SHOWN: usize = 80;

/// Why a model is refused. The text names the node or tensor and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum ModelRefusal {
    #[error(
        "this is a Git LFS pointer, not the model: fetch the file with `git lfs pull`, or turn on \
         LFS for this repository in the pipeline file"
    )]
    LfsPointer,
    #[error("{bytes} bytes, the contract allows {max}: use a smaller network, or raise `maxBytes`")]
    TooLarge { bytes: u64, max: u64 },
    #[error("not an ONNX file ({why}): export the model to ONNX again")]
    NotOnnx { why: String },
    #[error("refused before unpacking: {why}; export the model again without repeated structure")]
    Unpacked { why: String },
    #[error(
        "field {field} of message {message} is not in the ONNX specification up to IR version 10: \
         export with an older IR version"
    )]
    UnknownField { message: String, field: u64 },
    #[error("{found} graphs, want exactly 1: export the model again")]
    GraphCount { found: u32 },
    #[error(
        "IR version {found}, the contract allows 3 to {max}: export with an older IR version, or \
         raise `irVersionMax`"
    )]
    IrVersion { found: i64, max: i64 },
    #[error("{found} imports of the standard operator set, want exactly 1: export the model again")]
    OpsetImports { found: usize },
    #[error(
        "operator set {found}, the contract allows {min} to {max}: export with opset_version={max}"
    )]
    Opset { found: i64, min: i64, max: i64 },
    #[error(
        "{at} uses operator domain {domain}: export with standard operators, or add it to `domains`"
    )]
    Domain { at: String, domain: String },
    #[error(
        "the file defines functions of its own ({at}): inline them before you export \
         (onnx.inliner.inline_local_functions)"
    )]
    Functions { at: String },
    #[error("the file holds training graphs: export for inference")]
    Training,
    #[error(
        "tensor {tensor} keeps its data outside of the file ({location}): save the model as one \
         file (onnx.save with save_as_external_data=False)"
    )]
    ExternalData { tensor: String, location: String },
    #[error(
        "node {node} is a {operator}: control flow is never allowed, how long it runs cannot be \
         known; export the unrolled network"
    )]
    ControlFlow { node: String, operator: String },
    #[error(
        "node {node} uses operator {operator}, which the contract does not list: use another \
         layer, or add it to `operators`"
    )]
    Operator { node: String, operator: String },
    #[error("attribute {attribute} of node {node} holds a subgraph: export a plain network")]
    Subgraph { node: String, attribute: String },
    #[error("{nodes} nodes, the contract allows {max}: use a smaller network, or raise `maxNodes`")]
    TooManyNodes { nodes: u64, max: u64 },
    #[error(
        "more than {max} elements in all weights together (reached at tensor {tensor}): use a \
         smaller network, or raise `maxElements`"
    )]
    TooManyElements { tensor: String, max: u64 },
    #[error("tensor {tensor} is sparse: export dense weights")]
    Sparse { tensor: String },
    #[error("tensor {tensor}: {why}; export the model again")]
    Tensor { tensor: String, why: String },
    #[error("{what} {name}: {why}; export the model with plain names")]
    Name { what: &'static str, name: String, why: &'static str },
    #[error("two values are called {name}: names must be unique, export the model again")]
    Duplicate { name: String },
    #[error("{reader} reads {name}, which nothing before it makes: export the model again")]
    Dangling { reader: String, name: String },
    #[error("{bytes} bytes of metadata, at most {max} are kept: strip it before you export")]
    Metadata { bytes: usize, max: usize },
    #[error("input: {why}; correct the model card, or export the model to fit it")]
    Input { why: String },
    #[error("outputs: {why}; correct the model card, or export the model to fit it")]
    Output { why: String },
}

impl ModelRefusal {
    /// The code that scripts and reports rely on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::LfsPointer => "model-lfs-pointer",
            Self::TooLarge { .. } => "model-too-large",
            Self::NotOnnx { .. } => "model-not-onnx",
            Self::Unpacked { .. } => "model-unpacked-size",
            Self::UnknownField { .. } => "model-unknown-field",
            Self::GraphCount { .. } => "model-graph-count",
            Self::IrVersion { .. } => "model-ir-version",
            Self::OpsetImports { .. } => "model-opset-imports",
            Self::Opset { .. } => "model-opset",
            Self::Domain { .. } => "model-domain",
            Self::Functions { .. } => "model-functions",
            Self::Training => "model-training",
            Self::ExternalData { .. } => "model-external-data",
            Self::ControlFlow { .. } => "model-control-flow",
            Self::Operator { .. } => "model-operator",
            Self::Subgraph { .. } => "model-subgraph",
            Self::TooManyNodes { .. } => "model-too-many-nodes",
            Self::TooManyElements { .. } => "model-too-many-elements",
            Self::Sparse { .. } => "model-sparse",
            Self::Tensor { .. } => "model-tensor",
            Self::Name { .. } => "model-name",
            Self::Duplicate { .. } => "model-duplicate-name",
            Self::Dangling { .. } => "model-dangling",
            Self::Metadata { .. } => "model-metadata",
            Self::Input { .. } => "model-input",
            Self::Output { .. } => "model-output",
        }
    }
}

/// A model's own text, quoted and made harmless for terminals and logs: escaped and cut.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::from("`");
    out.extend(text.chars().take(MAX_SHOWN).flat_map(char::escape_debug));
    out.push_str(if text.chars().nth(MAX_SHOWN).is_some() { "…`" } else { "`" });
    out
}

/// A list for people: `a, b`.
pub(super) fn listed<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
