//! The edge of the network against the model card: one image in, the card's numbers out.

use std::collections::HashSet;

use pitlane_release::ModelCard;

use super::onnx::{Graph, ValueInfo, element};
use super::refusal::{listed, shown};
use super::{ModelRefusal, TensorFacts};

/// Checks the one input: float32, and the card's shape.
pub(super) fn input(graph: &Graph, card: &ModelCard) -> Result<Vec<TensorFacts>, ModelRefusal> {
    let refuse = |why: String| ModelRefusal::Input { why };
    // Before IR 4 every weight is listed as an input with a default value.
    let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let fed: Vec<_> =
        graph.input.iter().filter(|input| !weights.contains(input.name.as_str())).collect();
    let [input] = fed[..] else {
        let names = listed(fed.iter().take(8).map(|input| shown(&input.name)));
        return Err(refuse(format!("the model has {} ({names}), the card has 1", fed.len())));
    };
    tensor(input, &card.input.shape).map(|facts| vec![facts]).map_err(refuse)
}

/// Checks the outputs: the card's names in the card's order, each one float32 number.
pub(super) fn outputs(graph: &Graph, card: &ModelCard) -> Result<Vec<TensorFacts>, ModelRefusal> {
    let refuse = |why: String| ModelRefusal::Output { why };
    let same = graph.output.len() == card.outputs.len()
        && graph
            .output
            .iter()
            .zip(&card.outputs)
            .all(|(of, card)| bare(&of.name) == bare(&card.name));
    if !same {
        let found = listed(graph.output.iter().take(8).map(|output| shown(&output.name)));
        let wanted = listed(card.outputs.iter().map(|output| shown(&output.name)));
        return Err(refuse(format!("the model gives {found}, the card lists {wanted}, in order")));
    }
    graph.output.iter().map(|output| tensor(output, &[1, 1]).map_err(refuse)).collect()
}

/// A tensor's name without the suffix that converters from `TensorFlow` append.
fn bare(name: &str) -> &str {
    name.strip_suffix(":0").unwrap_or(name)
}

fn tensor(value: &ValueInfo, want: &[u32]) -> Result<TensorFacts, String> {
    let name = shown(&value.name);
    let Some(kind) = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref()) else {
        return Err(format!("{name} is not a tensor"));
    };
    let element = element::name(kind.elem_type);
    if kind.elem_type != element::FLOAT {
        return Err(format!("{name} is {element}, want float32"));
    }
    let Some(shape) = &kind.shape else {
        return Err(format!("{name} has no shape, want [{}]", listed(want.iter())));
    };
    let fits = shape.dim.len() == want.len()
        && shape.dim.iter().zip(want).enumerate().all(|(axis, (dim, &want))| {
            // Only the batch may be left open: the runtime sets it to 1.
            dim.value.map_or(axis == 0, |value| value == i64::from(want))
        });
    if !fits {
        let found = listed(shape.dim.iter().take(10).map(|dim| {
            let open = || dim.param.as_deref().map_or_else(|| "?".to_owned(), shown);
            dim.value.map_or_else(open, |value| value.to_string())
        }));
        return Err(format!("{name} is [{found}], the card wants [{}]", listed(want.iter())));
    }
    Ok(TensorFacts { name: value.name.clone(), element, shape: want.to_vec() })
}
