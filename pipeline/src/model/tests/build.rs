//! A small good model and its card, to be spoilt by the tests.

use bytes::Bytes;
use pitlane_release::ModelCard;
use prost::Message as _;

use crate::model::onnx::*;

const CARD: &str = "
apiVersion: pitlane.dev/v1
kind: ModelCard
name: tiny
pilot: linear
input: { shape: [1, 4, 6, 3], layout: NHWC, channels: RGB, scale: 0.00392156862745098 }
outputs:
  - { name: n_outputs0, meaning: steering }
  - { name: n_outputs1, meaning: throttle }
";

pub(super) fn card() -> ModelCard {
    ModelCard::parse(CARD).unwrap()
}

pub(super) fn bytes(model: &Model) -> Vec<u8> {
    model.encode_to_vec()
}

/// Two dense layers over the flattened image.
pub(super) fn good() -> Model {
    let dense = |name: &str, weight: &str, bias: &str, output: &str| Node {
        input: vec!["flat".into(), weight.into(), bias.into()],
        ..node(name, "Gemm", &[], &[output])
    };
    let graph = Graph {
        node: vec![
            node("flatten", "Flatten", &["img_in"], &["flat"]),
            dense("steering", "w0", "b0", "n_outputs0"),
            dense("throttle", "w1", "b1", "n_outputs1"),
        ],
        initializer: vec![
            weight("w0", &[72, 1]),
            weight("b0", &[1]),
            weight("w1", &[72, 1]),
            weight("b1", &[1]),
        ],
        input: vec![value("img_in", &[1, 4, 6, 3])],
        output: vec![value("n_outputs0", &[1, 1]), value("n_outputs1", &[1, 1])],
        sparse_initializer: vec![],
    };
    Model {
        ir_version: 8,
        producer_name: "test".into(),
        producer_version: "1.0".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: 13 }],
        ..Model::default()
    }
}

pub(super) fn graph(model: &mut Model) -> &mut Graph {
    model.graph.as_mut().unwrap()
}

pub(super) fn node(name: &str, op_type: &str, input: &[&str], output: &[&str]) -> Node {
    let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Node {
        name: name.into(),
        op_type: op_type.into(),
        input: own(input),
        output: own(output),
        ..Node::default()
    }
}

/// A float32 weight with its elements raw.
pub(super) fn weight(name: &str, dims: &[i64]) -> Tensor {
    let size = usize::try_from(dims.iter().product::<i64>() * 4).unwrap();
    Tensor {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: element::FLOAT,
        raw_data: Bytes::from(vec![0; size]),
        ..Tensor::default()
    }
}

/// A weight whose elements lie in another file.
pub(super) fn external(location: &str) -> Tensor {
    Tensor {
        name: "outside".into(),
        dims: vec![1],
        data_type: element::FLOAT,
        external_data: vec![Pair { key: "location".into(), value: location.into() }],
        data_location: 1,
        ..Tensor::default()
    }
}

pub(super) fn value(name: &str, dims: &[i64]) -> ValueInfo {
    let shape = Shape { dim: dims.iter().map(|&value| dim(value)).collect() };
    let tensor = TensorType { elem_type: element::FLOAT, shape: Some(shape) };
    ValueInfo { name: name.into(), kind: Some(Type { tensor: Some(tensor) }) }
}

pub(super) fn dim(value: i64) -> Dim {
    Dim { value: Some(value), param: None }
}

pub(super) fn tensor_of(value: &mut ValueInfo) -> &mut TensorType {
    value.kind.as_mut().unwrap().tensor.as_mut().unwrap()
}

pub(super) fn shape_of(value: &mut ValueInfo) -> &mut Vec<Dim> {
    &mut tensor_of(value).shape.as_mut().unwrap().dim
}
