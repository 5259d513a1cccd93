//! The step `model`: is this file a network that a car may carry?
//!
//! The file comes from whoever can tag a car repository, so it is read as an attack: bounded
//! before it is unpacked, and refused on anything that could run without end, reach outside of
//! the file, or mean something else to the library that will run it. Nothing is executed here;
//! memory and time at run time are bounded by the step [`crate::prove`].
//!
//! # Modules
//! - the operator's word: [`Contract`]; the answer: [`ModelFacts`] or [`ModelRefusal`]
//! - reading: `onnx` (the format), `wire` (the look before unpacking)
//! - checking: `graph` (nodes, weights, names), `interface` (against the model card)
//!
//! See the ONNX IR specification for the format, and `docs/model.md` for people.

mod contract;
mod graph;
mod interface;
mod onnx;
mod refusal;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;
use pitlane_release::{Digest, ModelCard};
use prost::Message as _;

pub use contract::Contract;
pub use pitlane_release::facts::{ModelFacts, TensorFacts};
pub use refusal::ModelRefusal;
use refusal::shown;

/// Oldest version of the file format: operator sets are named from IR 3 on.
const IR_VERSION_MIN: i64 = 3;
/// Most metadata kept in a file (bytes): names and a licence fit, a hidden payload does not.
const MAX_METADATA: usize = 64 * 1024;
/// How a Git LFS pointer begins (Git LFS specification, "The Pointer").
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Inspects the bytes of a model against its card and the operator's contract.
///
/// The checks run from the cheapest to the deepest; the first that fails is the answer.
pub fn inspect(
    bytes: &[u8],
    card: &ModelCard,
    contract: &Contract,
) -> Result<ModelFacts, ModelRefusal> {
    inspect_owned(Bytes::copy_from_slice(bytes), card, contract)
}

/// The same for bytes that can be kept: weights are then looked at where they are, not copied.
#[expect(clippy::needless_pass_by_value, reason = "what is decoded shares the bytes")]
pub fn inspect_owned(
    bytes: Bytes,
    card: &ModelCard,
    contract: &Contract,
) -> Result<ModelFacts, ModelRefusal> {
    let size = bytes.len() as u64;
    if bytes.starts_with(LFS_POINTER) {
        return Err(ModelRefusal::LfsPointer);
    }
    if size > contract.max_bytes {
        return Err(ModelRefusal::TooLarge { bytes: size, max: contract.max_bytes });
    }
    wire::check(&bytes)?;
    let digest = Digest::of(&bytes);
    let model = onnx::Model::decode(bytes.clone())
        .map_err(|error| ModelRefusal::NotOnnx { why: error.to_string() })?;
    let opset = versions(&model, contract)?;
    let graph = model.graph.as_ref().ok_or(ModelRefusal::GraphCount { found: 0 })?;
    graph::no_external_data(graph)?;
    let found = graph::check(graph, &model.opset_import, contract)?;
    let inputs = interface::input(graph, card)?;
    let outputs = interface::outputs(graph, card)?;
    let producer = format!("{} {}", model.producer_name, model.producer_version);
    let producer = shown(producer.trim()).trim_matches('`').to_owned();
    Ok(ModelFacts {
        digest,
        bytes: size,
        ir_version: model.ir_version,
        opset,
        operators: found.operators,
        parameters: found.parameters,
        inputs,
        outputs,
        producer,
        conversion: None,
    })
}

/// The checks of the file's head; gives the version of the standard operator set.
fn versions(model: &onnx::Model, contract: &Contract) -> Result<i64, ModelRefusal> {
    if !(IR_VERSION_MIN..=contract.ir_version_max).contains(&model.ir_version) {
        let (found, max) = (model.ir_version, contract.ir_version_max);
        return Err(ModelRefusal::IrVersion { found, max });
    }
    if !model.functions.is_empty() {
        return Err(ModelRefusal::Functions { at: format!("{} of them", model.functions.len()) });
    }
    if !model.training.is_empty() {
        return Err(ModelRefusal::Training);
    }
    let metadata = model.metadata.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
    if metadata > MAX_METADATA {
        return Err(ModelRefusal::Metadata { bytes: metadata, max: MAX_METADATA });
    }
    if let Some(set) = model.opset_import.iter().find(|set| !contract.allows_domain(&set.domain)) {
        let domain = shown(&set.domain);
        return Err(ModelRefusal::Domain { at: "the file".into(), domain });
    }
    let standard: Vec<_> =
        model.opset_import.iter().filter(|set| contract::is_standard(&set.domain)).collect();
    let [set] = standard[..] else {
        return Err(ModelRefusal::OpsetImports { found: standard.len() });
    };
    let (min, max) = (contract.opset_min, contract.opset_max);
    if !(min..=max).contains(&set.version) {
        return Err(ModelRefusal::Opset { found: set.version, min, max });
    }
    Ok(set.version)
}
