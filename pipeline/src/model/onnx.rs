//! The part of the ONNX file format that the inspection reads, as protobuf messages.
//!
//! Field numbers follow `onnx.proto3` of the ONNX IR specification (IR versions 3 to 10); the
//! words are ours. Fields that no check looks at are left out here and known by number in
//! [`super::wire`], which refuses every field that the specification does not have.

use bytes::Bytes;
use prost::Message;

/// The whole file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    /// Version of the file format.
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    /// The program that wrote the file.
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub(super) producer_version: String,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<Graph>,
    /// The operator sets that the nodes are written against.
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSet>,
    /// Free text of whoever wrote the file.
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata: Vec<Pair>,
    /// Graphs for training; only their number matters here.
    #[prost(message, repeated, tag = "20")]
    pub(super) training: Vec<Opaque>,
    /// Operators defined in the file; only their number matters here.
    #[prost(message, repeated, tag = "25")]
    pub(super) functions: Vec<Opaque>,
}

/// A message whose inside is not read, because its presence alone decides.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Opaque {}

/// One imported operator set.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct OperatorSet {
    /// Empty for the standard operators.
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    /// The version of the set.
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

/// A key and a value: metadata, or a part of the address of external data.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Pair {
    /// The key.
    #[prost(string, tag = "1")]
    pub(super) key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// Nodes in topological order, with the constants they read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    /// The computation.
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    /// The weights.
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<Tensor>,
    /// What is fed in (before IR 4, the weights are named here too).
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfo>,
    /// What comes out.
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfo>,
    /// Weights in coordinate form.
    #[prost(message, repeated, tag = "15")]
    pub(super) sparse_initializer: Vec<SparseTensor>,
}

/// One operator at work.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    /// Names of the values it reads; empty where an optional one is left out.
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    /// Names of the values it makes.
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    /// Its name, for people.
    #[prost(string, tag = "3")]
    pub(super) name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    /// Its settings.
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<Attribute>,
    /// The operator's domain.
    #[prost(string, tag = "7")]
    pub(super) domain: String,
}

/// One setting of a node. Plain numbers are not read: no check needs them. What is rarely there
/// is boxed, since a file may hold many settings.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// A constant.
    #[prost(message, optional, boxed, tag = "5")]
    pub(super) tensor: Option<Box<Tensor>>,
    /// A subgraph.
    #[prost(message, optional, boxed, tag = "6")]
    pub(super) graph: Option<Box<Graph>>,
    /// Constants.
    #[prost(message, repeated, tag = "10")]
    pub(super) tensors: Vec<Tensor>,
    /// Subgraphs.
    #[prost(message, repeated, tag = "11")]
    pub(super) graphs: Vec<Graph>,
    /// The name of an attribute of the enclosing function.
    #[prost(string, tag = "21")]
    pub(super) reference: String,
    /// A constant in coordinate form.
    #[prost(message, optional, boxed, tag = "22")]
    pub(super) sparse_tensor: Option<Box<SparseTensor>>,
    /// Constants in coordinate form.
    #[prost(message, repeated, tag = "23")]
    pub(super) sparse_tensors: Vec<SparseTensor>,
}

/// A constant array. Its elements stand in exactly one of the data fields.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    /// The shape.
    #[prost(int64, repeated, tag = "1")]
    pub(super) dims: Vec<i64>,
    /// The element type ([`element`]).
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    /// Says that this is only a piece of a tensor.
    #[prost(message, optional, tag = "3")]
    pub(super) segment: Option<Opaque>,
    /// Elements of type float (and halves of complex ones).
    #[prost(float, repeated, tag = "4")]
    pub(super) float_data: Vec<f32>,
    /// Elements of the types of 32 bits and fewer.
    #[prost(int32, repeated, tag = "5")]
    pub(super) int32_data: Vec<i32>,
    /// Elements of type string.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(super) string_data: Vec<Bytes>,
    /// Elements of type int64.
    #[prost(int64, repeated, tag = "7")]
    pub(super) int64_data: Vec<i64>,
    /// Its name.
    #[prost(string, tag = "8")]
    pub(super) name: String,
    /// Elements as little-endian bytes.
    #[prost(bytes = "bytes", tag = "9")]
    pub(super) raw_data: Bytes,
    /// Elements of type double.
    #[prost(double, repeated, tag = "10")]
    pub(super) double_data: Vec<f64>,
    /// Elements of the types uint32 and uint64.
    #[prost(uint64, repeated, tag = "11")]
    pub(super) uint64_data: Vec<u64>,
    /// Where the elements lie outside of the file.
    #[prost(message, repeated, tag = "13")]
    pub(super) external_data: Vec<Pair>,
    /// 0: in this message, 1: outside.
    #[prost(int32, tag = "14")]
    pub(super) data_location: i32,
}

/// A constant in coordinate form.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SparseTensor {
    /// The elements that are not zero.
    #[prost(message, optional, tag = "1")]
    pub(super) values: Option<Tensor>,
    /// Where they are.
    #[prost(message, optional, tag = "2")]
    pub(super) indices: Option<Tensor>,
}

/// A named value with its type.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    /// The name.
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// The type.
    #[prost(message, optional, tag = "2")]
    pub(super) kind: Option<Type>,
}

/// The type of a value; only tensors are read, another kind shows as none.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Type {
    /// A tensor.
    #[prost(message, optional, tag = "1")]
    pub(super) tensor: Option<TensorType>,
}

/// The type of a tensor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorType {
    /// The element type ([`element`]).
    #[prost(int32, tag = "1")]
    pub(super) elem_type: i32,
    /// The shape; none is an unknown one.
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
}

/// The shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    /// Its dimensions.
    #[prost(message, repeated, tag = "1")]
    pub(super) dim: Vec<Dim>,
}

/// One dimension: a number, a name, or nothing (unknown).
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Dim {
    /// The number.
    #[prost(int64, optional, tag = "1")]
    pub(super) value: Option<i64>,
    /// The name.
    #[prost(string, optional, tag = "2")]
    pub(super) param: Option<String>,
}

/// Element types (`TensorProto.DataType`) and where their elements may stand.
pub(super) mod element {
    /// 32-bit floating point: what the runtime feeds and reads.
    pub(in crate::model) const FLOAT: i32 = 1;
    /// 64-bit integers: shapes and axes.
    #[cfg(test)]
    pub(in crate::model) const INT64: i32 = 7;

    /// The typed data field that an element type uses when its bytes are not raw.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::model) enum Field {
        /// `float_data`
        Float,
        /// `int32_data`
        Int32,
        /// `int64_data`
        Int64,
        /// `double_data`
        Double,
        /// `uint64_data`
        Uint64,
    }

    /// Name, bytes per element and typed field of the element types that a weight may have.
    /// Strings, complex numbers and the packed types below one byte are not among them.
    pub(in crate::model) const fn layout(code: i32) -> Option<(&'static str, u64, Field)> {
        Some(match code {
            1 => ("float32", 4, Field::Float),
            2 => ("uint8", 1, Field::Int32),
            3 => ("int8", 1, Field::Int32),
            4 => ("uint16", 2, Field::Int32),
            5 => ("int16", 2, Field::Int32),
            6 => ("int32", 4, Field::Int32),
            7 => ("int64", 8, Field::Int64),
            9 => ("bool", 1, Field::Int32),
            10 => ("float16", 2, Field::Int32),
            11 => ("float64", 8, Field::Double),
            12 => ("uint32", 4, Field::Uint64),
            13 => ("uint64", 8, Field::Uint64),
            16 => ("bfloat16", 2, Field::Int32),
            _ => return None,
        })
    }

    /// The name of an element type, for people.
    pub(in crate::model) fn name(code: i32) -> String {
        layout(code).map_or_else(|| format!("type {code}"), |(name, ..)| name.to_owned())
    }
}
