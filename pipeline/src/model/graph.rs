//! Checks of the network itself: external data, nodes and operators, weights, names.

use std::collections::{BTreeMap, HashSet};

use super::contract::{Contract, is_standard};
use super::onnx::{Attribute, Graph, Node, OperatorSet, SparseTensor, Tensor, element};
use super::refusal::{listed, shown};
use super::{ModelRefusal, onnx};

/// Most dimensions of a weight; convolutions over video have 5.
const MAX_RANK: usize = 8;
/// Longest name (bytes); exporters that spell out whole module paths stay far below.
const MAX_NAME: usize = 512;

/// What a pass over the graph adds up.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) operators: BTreeMap<String, u64>,
    pub(super) parameters: u64,
}

/// Refuses data outside of the file anywhere, subgraphs and sparse tensors included: a library
/// that loads the model by path would read those files.
pub(super) fn no_external_data(graph: &Graph) -> Result<(), ModelRefusal> {
    graph.initializer.iter().try_for_each(internal)?;
    graph.sparse_initializer.iter().try_for_each(internal_sparse)?;
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        attribute.tensor.as_deref().into_iter().chain(&attribute.tensors).try_for_each(internal)?;
        let sparse =
            attribute.sparse_tensor.as_deref().into_iter().chain(&attribute.sparse_tensors);
        sparse.into_iter().try_for_each(internal_sparse)?;
        // The depth is bounded by the wire check and by the decoder.
        attribute
            .graph
            .as_deref()
            .into_iter()
            .chain(&attribute.graphs)
            .try_for_each(no_external_data)?;
    }
    Ok(())
}

fn internal_sparse(sparse: &SparseTensor) -> Result<(), ModelRefusal> {
    sparse.values.iter().chain(&sparse.indices).try_for_each(internal)
}

fn internal(tensor: &Tensor) -> Result<(), ModelRefusal> {
    if tensor.data_location == 0 && tensor.external_data.is_empty() {
        return Ok(());
    }
    let location = tensor.external_data.iter().find(|pair| pair.key == "location");
    let location = location.map_or_else(|| "no location".to_owned(), |pair| shown(&pair.value));
    Err(ModelRefusal::ExternalData { tensor: shown(&tensor.name), location })
}

/// Checks nodes, operators, weights and names, in the order of the file.
pub(super) fn check(
    graph: &Graph,
    imports: &[OperatorSet],
    contract: &Contract,
) -> Result<Found, ModelRefusal> {
    let nodes = graph.node.len() as u64;
    if nodes > contract.max_nodes {
        return Err(ModelRefusal::TooManyNodes { nodes, max: contract.max_nodes });
    }
    let mut found = Found::default();
    for (index, node) in graph.node.iter().enumerate() {
        operator(&called(node, index), node, imports, contract)?;
        *found.operators.entry(node.op_type.clone()).or_default() += 1;
    }
    let sparse = graph.sparse_initializer.first();
    if let Some(values) = sparse.map(|sparse| sparse.values.clone().unwrap_or_default()) {
        return Err(ModelRefusal::Sparse { tensor: shown(&values.name) });
    }
    let constants = graph.node.iter().flat_map(|node| &node.attribute);
    let constants =
        constants.flat_map(|a: &Attribute| a.tensor.as_deref().into_iter().chain(&a.tensors));
    let mut elements = 0_u64;
    for (weight, is_initializer) in
        graph.initializer.iter().map(|t| (t, true)).chain(constants.map(|t| (t, false)))
    {
        let count = tensor(weight)?;
        // Saturating is exact here: what saturates is over every limit.
        elements = elements.saturating_add(count);
        if elements > contract.max_elements {
            let (tensor, max) = (shown(&weight.name), contract.max_elements);
            return Err(ModelRefusal::TooManyElements { tensor, max });
        }
        if is_initializer {
            found.parameters += count;
        }
    }
    names(graph)?;
    Ok(found)
}

fn called(node: &Node, index: usize) -> String {
    if node.name.is_empty() { format!("#{index}") } else { shown(&node.name) }
}

fn operator(
    name: &str,
    node: &Node,
    imports: &[OperatorSet],
    contract: &Contract,
) -> Result<(), ModelRefusal> {
    let node_name = || name.to_owned();
    let imported = imports.iter().any(|set| {
        set.domain == node.domain || is_standard(&set.domain) && is_standard(&node.domain)
    });
    if !imported || !contract.allows_domain(&node.domain) {
        let domain = shown(&node.domain);
        return Err(ModelRefusal::Domain { at: format!("node {name}"), domain });
    }
    let operator = shown(&node.op_type);
    if matches!(node.op_type.as_str(), "Loop" | "Scan" | "If" | "SequenceMap") {
        return Err(ModelRefusal::ControlFlow { node: node_name(), operator });
    }
    if !contract.operators.contains(&node.op_type) {
        return Err(ModelRefusal::Operator { node: node_name(), operator });
    }
    for attribute in &node.attribute {
        let shown_name = || shown(&attribute.name);
        if attribute.graph.is_some() || !attribute.graphs.is_empty() {
            return Err(ModelRefusal::Subgraph { node: node_name(), attribute: shown_name() });
        }
        if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
            return Err(ModelRefusal::Sparse { tensor: shown_name() });
        }
        if !attribute.reference.is_empty() {
            // Only the body of a function may point at an attribute of its caller.
            let at = format!("attribute {} of node {name}", shown_name());
            return Err(ModelRefusal::Functions { at });
        }
    }
    Ok(())
}

/// Checks one tensor; gives its number of elements.
fn tensor(tensor: &onnx::Tensor) -> Result<u64, ModelRefusal> {
    let refuse = |why: String| Err(ModelRefusal::Tensor { tensor: shown(&tensor.name), why });
    let Some((kind, width, field)) = element::layout(tensor.data_type) else {
        return refuse(format!("element type {} is not allowed", tensor.data_type));
    };
    if tensor.segment.is_some() {
        return refuse("is only a segment".into());
    }
    let rank = tensor.dims.len();
    if rank > MAX_RANK {
        return refuse(format!("{rank} dimensions, at most {MAX_RANK}"));
    }
    let count = tensor.dims.iter().try_fold(1_u64, |product, &dim| {
        u64::try_from(dim).ok().and_then(|dim| product.checked_mul(dim))
    });
    let sized = count.and_then(|count| Some((count, count.checked_mul(width)?)));
    let Some((count, size)) = sized else {
        return refuse(format!("shape [{}] has no size", listed(tensor.dims.iter())));
    };
    let lists = [
        (element::Field::Float, tensor.float_data.len()),
        (element::Field::Int32, tensor.int32_data.len()),
        (element::Field::Int64, tensor.int64_data.len()),
        (element::Field::Double, tensor.double_data.len()),
        (element::Field::Uint64, tensor.uint64_data.len()),
    ];
    let typed = lists.iter().find(|(name, _)| *name == field).map_or(0, |(_, length)| *length);
    let foreign = lists.iter().any(|(name, length)| *name != field && *length > 0);
    if foreign || !tensor.string_data.is_empty() {
        return refuse(format!("keeps {kind} elements in the field of another type"));
    }
    let raw = tensor.raw_data.len();
    let fits = match (raw, typed) {
        (raw, 0) if raw > 0 => raw as u64 == size,
        (0, typed) => typed as u64 == count,
        _ => return refuse("has its elements twice, raw and typed".into()),
    };
    if !fits {
        let shape = listed(tensor.dims.iter());
        let why = format!(
            "shape [{shape}] of {kind} needs {count} elements ({size} bytes), the file has {typed} \
             typed elements and {raw} raw bytes"
        );
        return refuse(why);
    }
    Ok(count)
}

/// Every value has one maker, which stands before its readers, and a name that can be printed.
fn names(graph: &Graph) -> Result<(), ModelRefusal> {
    let mut made: HashSet<&str> = HashSet::new();
    let mut weights: HashSet<&str> = HashSet::new();
    for weight in &graph.initializer {
        printable("weight", &weight.name)?;
        if !weights.insert(&weight.name) {
            return Err(ModelRefusal::Duplicate { name: shown(&weight.name) });
        }
    }
    let mut inputs: HashSet<&str> = HashSet::new();
    for input in &graph.input {
        printable("input", &input.name)?;
        if !inputs.insert(&input.name) {
            return Err(ModelRefusal::Duplicate { name: shown(&input.name) });
        }
    }
    made.extend(&weights);
    made.extend(&inputs);
    for (index, node) in graph.node.iter().enumerate() {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if !made.contains(name.as_str()) {
                let reader = format!("node {}", called(node, index));
                return Err(ModelRefusal::Dangling { reader, name: shown(name) });
            }
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            printable("value", name)?;
            if !made.insert(name) {
                return Err(ModelRefusal::Duplicate { name: shown(name) });
            }
        }
    }
    let mut outputs: HashSet<&str> = HashSet::new();
    for output in &graph.output {
        printable("output", &output.name)?;
        if !outputs.insert(&output.name) {
            return Err(ModelRefusal::Duplicate { name: shown(&output.name) });
        }
        if !made.contains(output.name.as_str()) {
            let reader = "the list of outputs".to_owned();
            return Err(ModelRefusal::Dangling { reader, name: shown(&output.name) });
        }
    }
    Ok(())
}

fn printable(what: &'static str, name: &str) -> Result<(), ModelRefusal> {
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME {
        "is longer than 512 bytes"
    } else if name.chars().any(char::is_control) {
        "holds control characters"
    } else {
        return Ok(());
    };
    Err(ModelRefusal::Name { what, name: shown(name), why })
}
