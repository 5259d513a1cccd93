//! One case for each line of the checklist: a change to the good model, and the code it earns.

use bytes::Bytes;

use super::build::{
    bytes, card, dim, external, good, graph, node, shape_of, tensor_of, value, weight,
};
use crate::model::onnx::*;
use crate::model::{Contract, ModelRefusal, inspect};

type Change = fn(&mut Model);

fn attribute(name: &str) -> Attribute {
    Attribute { name: name.into(), ..Attribute::default() }
}

fn with_attribute(model: &mut Model, attribute: Attribute) {
    graph(model).node[0].attribute.push(attribute);
}

fn outside() -> Graph {
    Graph { initializer: vec![external("../../etc/passwd")], ..Graph::default() }
}

const CASES: &[(&str, Change, &str)] = &[
    // the head of the file
    ("old format", |m| m.ir_version = 2, "model-ir-version"),
    ("new format", |m| m.ir_version = 99, "model-ir-version"),
    ("new operators", |m| m.opset_import[0].version = 99, "model-opset"),
    ("old operators", |m| m.opset_import[0].version = 6, "model-opset"),
    ("no operators", |m| m.opset_import.clear(), "model-opset-imports"),
    (
        "two versions of the operators",
        |m| m.opset_import.push(OperatorSet { domain: "ai.onnx".into(), version: 9 }),
        "model-opset-imports",
    ),
    (
        "a domain of somebody",
        |m| m.opset_import.push(OperatorSet { domain: "evil.example".into(), version: 1 }),
        "model-domain",
    ),
    (
        "a domain that was not imported",
        |m| graph(m).node[0].domain = "com.microsoft".into(),
        "model-domain",
    ),
    ("functions", |m| m.functions.push(Opaque {}), "model-functions"),
    (
        "an attribute of a function",
        |m| with_attribute(m, Attribute { reference: "alpha".into(), ..attribute("axis") }),
        "model-functions",
    ),
    ("training", |m| m.training.push(Opaque {}), "model-training"),
    (
        "metadata as a stowaway",
        |m| m.metadata.push(Pair { key: "x".into(), value: "y".repeat(70_000) }),
        "model-metadata",
    ),
    ("no graph", |m| m.graph = None, "model-graph-count"),
    // data outside of the file
    (
        "traversal",
        |m| graph(m).initializer.push(external("../../etc/passwd")),
        "model-external-data",
    ),
    ("absolute", |m| graph(m).initializer.push(external("/etc/passwd")), "model-external-data"),
    ("sibling", |m| graph(m).initializer.push(external("w.bin")), "model-external-data"),
    (
        "a location alone",
        |m| graph(m).initializer[0].external_data = external("w.bin").external_data,
        "model-external-data",
    ),
    ("the mark alone", |m| graph(m).initializer[0].data_location = 1, "model-external-data"),
    ("an unknown place", |m| graph(m).initializer[0].data_location = 2, "model-external-data"),
    (
        "outside, sparse values",
        |m| {
            let values = Some(external("w.bin"));
            graph(m).sparse_initializer.push(SparseTensor { values, indices: None });
        },
        "model-external-data",
    ),
    (
        "outside, sparse indices",
        |m| {
            let indices = Some(external("w.bin"));
            graph(m).sparse_initializer.push(SparseTensor { values: None, indices });
        },
        "model-external-data",
    ),
    (
        "outside, constant",
        |m| {
            with_attribute(
                m,
                Attribute { tensor: Some(Box::new(external("w"))), ..attribute("value") },
            );
        },
        "model-external-data",
    ),
    (
        "outside, constants",
        |m| with_attribute(m, Attribute { tensors: vec![external("w")], ..attribute("values") }),
        "model-external-data",
    ),
    (
        "outside, sparse constant",
        |m| {
            let sparse = SparseTensor { values: Some(external("w")), indices: None };
            with_attribute(
                m,
                Attribute { sparse_tensor: Some(Box::new(sparse)), ..attribute("value") },
            );
        },
        "model-external-data",
    ),
    (
        "outside, subgraph",
        |m| with_attribute(m, Attribute { graph: Some(Box::new(outside())), ..attribute("body") }),
        "model-external-data",
    ),
    (
        "outside, subgraph in subgraphs",
        |m| {
            let inner = Attribute { graphs: vec![outside()], ..attribute("then") };
            let mut branch = node("if", "If", &[], &[]);
            branch.attribute.push(inner);
            let body = Graph { node: vec![branch], ..Graph::default() };
            with_attribute(m, Attribute { graph: Some(Box::new(body)), ..attribute("body") });
        },
        "model-external-data",
    ),
    // nodes
    ("loop", |m| graph(m).node[0].op_type = "Loop".into(), "model-control-flow"),
    ("scan", |m| graph(m).node[0].op_type = "Scan".into(), "model-control-flow"),
    ("if", |m| graph(m).node[0].op_type = "If".into(), "model-control-flow"),
    ("bomb", |m| graph(m).node[0].op_type = "ConstantOfShape".into(), "model-operator"),
    ("no operator", |m| graph(m).node[0].op_type = String::new(), "model-operator"),
    (
        "subgraph",
        |m| with_attribute(m, Attribute { graph: Some(Box::default()), ..attribute("body") }),
        "model-subgraph",
    ),
    (
        "sparse constant",
        |m| {
            let sparse_tensor = Some(Box::default());
            with_attribute(m, Attribute { sparse_tensor, ..attribute("value") });
        },
        "model-sparse",
    ),
    (
        "sparse weight",
        |m| graph(m).sparse_initializer.push(SparseTensor::default()),
        "model-sparse",
    ),
    (
        "many nodes",
        |m| {
            let nodes = (0..10_001).map(|i| node("", "Relu", &["flat"], &[&format!("r{i}")]));
            graph(m).node.extend(nodes);
        },
        "model-too-many-nodes",
    ),
    // weights
    ("overflowing shape", |m| graph(m).initializer[0].dims = vec![i64::MAX, 3], "model-tensor"),
    ("overflowing size", |m| graph(m).initializer[0].dims = vec![1 << 62, 3], "model-tensor"),
    ("negative shape", |m| graph(m).initializer[0].dims = vec![-72, -1], "model-tensor"),
    ("bytes missing", |m| graph(m).initializer[0].dims = vec![72, 2], "model-tensor"),
    ("bytes left over", |m| graph(m).initializer[0].dims = vec![71, 1], "model-tensor"),
    (
        "bytes of half an element",
        |m| graph(m).initializer[1].raw_data = Bytes::from_static(b"xyz"),
        "model-tensor",
    ),
    ("no bytes", |m| graph(m).initializer[0].raw_data = Bytes::new(), "model-tensor"),
    ("twice", |m| graph(m).initializer[1].float_data = vec![1.0], "model-tensor"),
    ("another field", |m| graph(m).initializer[1].int64_data = vec![1], "model-tensor"),
    (
        "text beside numbers",
        |m| graph(m).initializer[1].string_data = vec![Bytes::from_static(b"x")],
        "model-tensor",
    ),
    ("text", |m| graph(m).initializer[1].data_type = 8, "model-tensor"),
    ("no type", |m| graph(m).initializer[1].data_type = 0, "model-tensor"),
    ("unknown type", |m| graph(m).initializer[1].data_type = -5, "model-tensor"),
    ("segment", |m| graph(m).initializer[1].segment = Some(Opaque {}), "model-tensor"),
    ("many dimensions", |m| graph(m).initializer[1].dims = vec![1; 9], "model-tensor"),
    (
        "constant with bytes missing",
        |m| {
            let mut constant = weight("c", &[2]);
            constant.dims = vec![200_000, 200_000];
            with_attribute(m, Attribute { tensor: Some(Box::new(constant)), ..attribute("value") });
        },
        "model-tensor",
    ),
    // names
    ("two weights", |m| graph(m).initializer[1].name = "w0".into(), "model-duplicate-name"),
    ("two inputs", |m| graph(m).input.push(value("img_in", &[1])), "model-duplicate-name"),
    ("two makers", |m| graph(m).node[1].output[0] = "flat".into(), "model-duplicate-name"),
    ("maker of a weight", |m| graph(m).node[1].output[0] = "w1".into(), "model-duplicate-name"),
    ("two outputs", |m| graph(m).output[1].name = "n_outputs0".into(), "model-duplicate-name"),
    ("reader of nothing", |m| graph(m).node[0].input[0] = "ghost".into(), "model-dangling"),
    ("out of order", |m| graph(m).node.swap(0, 1), "model-dangling"),
    ("output of nothing", |m| graph(m).output[1].name = "ghost".into(), "model-dangling"),
    ("escape code", |m| graph(m).initializer[1].name = "\u{1b}[2J".into(), "model-name"),
    ("long name", |m| graph(m).initializer[1].name = "w".repeat(513), "model-name"),
    ("no name", |m| graph(m).initializer[1].name = String::new(), "model-name"),
    // the edge
    ("two inputs in use", |m| graph(m).input.push(value("more", &[1])), "model-input"),
    ("bytes in", |m| tensor_of(&mut graph(m).input[0]).elem_type = 2, "model-input"),
    ("another height", |m| shape_of(&mut graph(m).input[0])[1] = dim(5), "model-input"),
    ("another layout", |m| shape_of(&mut graph(m).input[0]).swap(1, 3), "model-input"),
    ("batch of two", |m| shape_of(&mut graph(m).input[0])[0] = dim(2), "model-input"),
    ("negative batch", |m| shape_of(&mut graph(m).input[0])[0] = dim(-1), "model-input"),
    ("open height", |m| shape_of(&mut graph(m).input[0])[1] = Dim::default(), "model-input"),
    ("rank", |m| shape_of(&mut graph(m).input[0]).truncate(3), "model-input"),
    ("no shape", |m| tensor_of(&mut graph(m).input[0]).shape = None, "model-input"),
    ("not a tensor", |m| graph(m).input[0].kind = None, "model-input"),
    (
        "other outputs",
        |m| {
            graph(m).output[1].name = "other".into();
            graph(m).node[2].output[0] = "other".into();
        },
        "model-output",
    ),
    ("outputs swapped", |m| graph(m).output.swap(0, 1), "model-output"),
    ("one output", |m| graph(m).output.truncate(1), "model-output"),
    ("fifteen bins", |m| shape_of(&mut graph(m).output[0])[1] = dim(15), "model-output"),
    ("open width", |m| shape_of(&mut graph(m).output[0])[1] = Dim::default(), "model-output"),
    (
        "whole numbers",
        |m| tensor_of(&mut graph(m).output[0]).elem_type = element::INT64,
        "model-output",
    ),
];

fn refused(bytes: &[u8], contract: &Contract, name: &str) -> ModelRefusal {
    inspect(bytes, &card(), contract).err().unwrap_or_else(|| panic!("{name}: passed"))
}

/// The refusals of the whole table.
pub(super) fn refusals() -> Vec<ModelRefusal> {
    let refuse = |(name, change, _): &(&str, Change, &str)| {
        let mut model = good();
        change(&mut model);
        refused(&bytes(&model), &Contract::default(), name)
    };
    CASES.iter().map(refuse).collect()
}

#[test]
fn each_hostile_model_earns_its_code() {
    let wrong: Vec<String> = CASES
        .iter()
        .zip(refusals())
        .filter(|((_, _, want), got)| got.code() != *want)
        .map(|((name, _, want), got)| format!("{name}: want {want}, got {} ({got})", got.code()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn limits_of_the_contract_are_kept() {
    let file = bytes(&good());
    let limit = |change: fn(&mut Contract)| {
        let mut contract = Contract::default();
        change(&mut contract);
        refused(&file, &contract, "limit").code()
    };
    assert_eq!(limit(|c| c.max_bytes = 600), "model-too-large");
    assert_eq!(limit(|c| c.max_nodes = 2), "model-too-many-nodes");
    assert_eq!(limit(|c| c.max_elements = 145), "model-too-many-elements");
    assert_eq!(limit(|c| c.opset_max = 12), "model-opset");
    assert_eq!(limit(|c| c.ir_version_max = 7), "model-ir-version");
    assert_eq!(limit(|c| c.domains.clear()), "model-domain");
    assert_eq!(limit(|c| assert!(c.operators.remove("Gemm"))), "model-operator");
}

#[test]
fn control_flow_is_refused_even_where_the_contract_lists_it() {
    let mut contract = Contract::default();
    contract.operators.insert("Loop".into());
    let mut model = good();
    graph(&mut model).node[0].op_type = "Loop".into();
    assert_eq!(refused(&bytes(&model), &contract, "loop").code(), "model-control-flow");
}

#[test]
fn files_that_are_no_models() {
    let file = bytes(&good());
    let mut nested = vec![];
    for _ in 0..2000 {
        // a graph in an attribute of a node of a graph, from the inside out
        for tag in [0x32_u8, 0x2a, 0x0a] {
            let mut outer = vec![tag];
            prost::encode_length_delimiter(nested.len(), &mut outer).unwrap();
            outer.append(&mut nested);
            nested = outer;
        }
    }
    let mut deep = vec![0x3a];
    prost::encode_length_delimiter(nested.len(), &mut deep).unwrap();
    deep.append(&mut nested);
    // 60 MB of empty nodes: 2 bytes each in the file, hundreds in memory
    let mut swarm = vec![0x3a];
    prost::encode_length_delimiter(60_000_000, &mut swarm).unwrap();
    swarm.resize(swarm.len() + 60_000_000, 0);
    let swarm_start = swarm.len() - 60_000_000;
    for (i, byte) in swarm[swarm_start..].iter_mut().enumerate() {
        *byte = if i % 2 == 0 { 0x0a } else { 0 };
    }
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3268120\n";
    for (name, bytes, want) in [
        ("pointer", &pointer[..], "model-lfs-pointer"),
        ("empty", b"", "model-graph-count"),
        ("text", b"hello, this is not a model", "model-unknown-field"),
        ("pickle", b"\x80\x04\x95\x10\x00\x00\x00\x00", "model-unknown-field"),
        ("cut off", &file[..file.len() - 1], "model-not-onnx"),
        ("half", &file[..file.len() / 2], "model-not-onnx"),
        ("trailing", &[&file[..], &[0x08]].concat(), "model-not-onnx"),
        ("a field of the future", &[&file[..], &[0x92, 0x03, 0]].concat(), "model-unknown-field"),
        ("two graphs", &[&file[..], &[0x3a, 0]].concat(), "model-graph-count"),
        ("name that is not text", &[&file[..], &[0x12, 1, 0xff]].concat(), "model-not-onnx"),
        ("group", &[&file[..], &[0x0b]].concat(), "model-not-onnx"),
        ("deep", &deep, "model-unpacked-size"),
        ("swarm", &swarm, "model-unpacked-size"),
    ] {
        let got = refused(bytes, &Contract::default(), name);
        assert_eq!(got.code(), want, "{name}: {got}");
    }
}

#[test]
fn messages_repeat_a_models_text_harmlessly() {
    let mut model = good();
    graph(&mut model).node[0].op_type = format!("\u{1b}]0;owned\u{7}{}", "A".repeat(10_000));
    let text = refused(&bytes(&model), &Contract::default(), "escape").to_string();
    assert!(!text.chars().any(char::is_control) && text.len() < 400, "{text}");
    assert!(text.contains("flatten"), "names the node: {text}");
}

/// The most expensive files that still unpack: memory stays within the file and the budget.
#[test]
fn memory_stays_in_proportion() {
    let peak_mib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    // an empty node; an empty setting of one node; an empty weight; an empty name of a node's input
    for (outer, inner) in [(None, 0x0a_u8), (Some(0x0a_u8), 0x2a), (None, 0x2a), (Some(0x0a), 0x0a)]
    {
        let mut most = 0;
        for count in (10_000..2_000_000).step_by(50_000) {
            let mut body = [inner, 0].repeat(count);
            for tag in outer.into_iter().chain([0x3a]) {
                let mut around = vec![tag];
                prost::encode_length_delimiter(body.len(), &mut around).unwrap();
                around.append(&mut body);
                body = around;
            }
            body.extend([0x08, 8]);
            let refusal = refused(&body, &Contract::default(), "swarm");
            if refusal.code() == "model-unpacked-size" {
                break;
            }
            most = count;
        }
        assert!(most > 0 && most < 1_950_000, "the budget ends the growth of {inner:#x}: {most}");
    }
    assert!(peak_mib() < 250, "{} MiB", peak_mib());
}
