//! A small good model in the wire form of ONNX, written by hand, to be spoilt. Field numbers are
//! those of `onnx.proto3` in the ONNX IR specification.

/// A protobuf field with bytes in it.
pub(super) fn field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(tag << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

/// A protobuf field with a number in it.
pub(super) fn number(tag: u64, value: i64) -> Vec<u8> {
    let mut out = varint(tag << 3);
    out.extend(varint(value.cast_unsigned()));
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        out.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return out;
        }
    }
}

/// A node.
pub(super) fn node(name: &str, kind: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    let mut out: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    out.extend(outputs.iter().flat_map(|output| field(2, output.as_bytes())));
    out.extend(field(3, name.as_bytes()));
    out.extend(field(4, kind.as_bytes()));
    out
}

/// A weight of this element type with raw bytes.
pub(super) fn weight(name: &str, shape: &[i64], kind: i64, raw: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = shape.iter().flat_map(|size| number(1, *size)).collect();
    out.extend(number(2, kind));
    out.extend(field(8, name.as_bytes()));
    out.extend(field(9, raw));
    out
}

/// An input or output of this element type.
pub(super) fn value(name: &str, shape: &[i64], kind: i64) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|size| field(1, &number(1, *size))).collect();
    let tensor = [number(1, kind), field(2, &dims)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// A model in parts. Two dense layers over the flattened image.
pub(super) struct Net {
    pub(super) ir: i64,
    /// Domain and version.
    pub(super) opsets: Vec<(&'static str, i64)>,
    pub(super) nodes: Vec<Vec<u8>>,
    pub(super) weights: Vec<Vec<u8>>,
    pub(super) inputs: Vec<Vec<u8>>,
    pub(super) outputs: Vec<Vec<u8>>,
    /// More fields of the graph, and of the model.
    pub(super) graph_more: Vec<u8>,
    pub(super) more: Vec<u8>,
}

impl Net {
    pub(super) fn good() -> Self {
        let float = |name: &str, shape: &[i64]| {
            let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
            weight(name, shape, 1, &vec![0; 4 * count])
        };
        Self {
            ir: 8,
            opsets: vec![("", 13)],
            nodes: vec![
                node("flatten", "Flatten", &["img_in"], &["flat"]),
                node("steering", "Gemm", &["flat", "w0", "b0"], &["n_outputs0"]),
                node("throttle", "Gemm", &["flat", "w1", "b1"], &["n_outputs1"]),
            ],
            weights: vec![
                float("w0", &[72, 1]),
                float("b0", &[1]),
                float("w1", &[72, 1]),
                float("b1", &[1]),
            ],
            inputs: vec![value("img_in", &[1, 4, 6, 3], 1)],
            outputs: vec![value("n_outputs0", &[1, 1], 1), value("n_outputs1", &[1, 1], 1)],
            graph_more: Vec::new(),
            more: Vec::new(),
        }
    }

    pub(super) fn graph(&self) -> Vec<u8> {
        let all = |tag, parts: &[Vec<u8>]| -> Vec<u8> {
            parts.iter().flat_map(|part| field(tag, part)).collect()
        };
        [
            all(1, &self.nodes),
            field(2, b"tiny"),
            all(5, &self.weights),
            all(11, &self.inputs),
            all(12, &self.outputs),
            self.graph_more.clone(),
        ]
        .concat()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let opsets: Vec<u8> = self
            .opsets
            .iter()
            .flat_map(|(domain, version)| {
                field(8, &[field(1, domain.as_bytes()), number(2, *version)].concat())
            })
            .collect();
        [number(1, self.ir), field(2, b"hand"), field(7, &self.graph()), opsets, self.more.clone()]
            .concat()
    }
}
