//! The first look at the bytes: is this the ONNX wire format, and how large would it unpack?
//!
//! Two bytes of protobuf can ask for a message of hundreds of bytes in memory, so a file within
//! its size limit could still unpack to gigabytes. This pass walks the fields without allocating,
//! adds up what unpacking would cost beyond the file itself, and stops at a budget. It also
//! refuses fields that the ONNX IR specification does not have: what we cannot read, another
//! reader might obey.

use super::{ModelRefusal, onnx};

/// What unpacking may cost beyond the file's own size (bytes): names and structure of the largest
/// networks that people drive with take well under a tenth of it.
const MAX_GROWTH: u64 = 64 << 20;
/// Deepest nesting of messages. A model without subgraphs needs 7; the decoder stops at 100.
const MAX_DEPTH: u32 = 24;
/// A list that grows holds its elements twice over, and once more while it moves.
const GROWING: usize = 3;
/// What one element of a repeated text costs (bytes).
const TEXT_COST: u64 = 96;

/// The messages that contain others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    OperatorSet,
    Pair,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dim,
    /// Known by the specification, not read by the inspection, skipped by the decoder.
    Opaque,
}

impl Kind {
    /// What one message costs in memory (bytes).
    const fn cost(self) -> u64 {
        let size = match self {
            Self::Model => size_of::<onnx::Model>(),
            Self::OperatorSet => size_of::<onnx::OperatorSet>(),
            Self::Pair => size_of::<onnx::Pair>(),
            Self::Graph => size_of::<onnx::Graph>(),
            Self::Node => size_of::<onnx::Node>(),
            Self::Attribute => size_of::<onnx::Attribute>(),
            Self::Tensor => size_of::<onnx::Tensor>(),
            Self::SparseTensor => size_of::<onnx::SparseTensor>(),
            Self::ValueInfo => size_of::<onnx::ValueInfo>(),
            Self::Type => size_of::<onnx::Type>(),
            Self::TensorType => size_of::<onnx::TensorType>(),
            Self::Shape => size_of::<onnx::Shape>(),
            Self::Dim => size_of::<onnx::Dim>(),
            // Counted, and some hold one byte in a list.
            Self::Opaque => 8,
        };
        (size * GROWING) as u64
    }
}

/// What the specification says of a field.
enum Field {
    Message(Kind),
    /// Numbers; when packed, each byte may become this many.
    Number(u64),
    /// Text or bytes.
    Text,
    /// Known and skipped by the decoder, so that it costs nothing.
    Skipped,
}

/// The fields of `onnx.proto3`; none for a field that is not there.
#[expect(clippy::match_same_arms, reason = "a table in the order of the specification")]
fn field(kind: Kind, number: u64) -> Option<Field> {
    use Field::{Message, Number, Skipped, Text};
    Some(match (kind, number) {
        (Kind::Opaque, _) => Skipped,
        (Kind::Model, 1) => Number(8),
        (Kind::Model, 2 | 3) => Text,
        (Kind::Model, 4..=6) => Skipped,
        (Kind::Model, 7) => Message(Kind::Graph),
        (Kind::Model, 8) => Message(Kind::OperatorSet),
        (Kind::Model, 14) => Message(Kind::Pair),
        (Kind::Model, 20 | 25) => Message(Kind::Opaque),
        (Kind::OperatorSet, 1) => Text,
        (Kind::OperatorSet, 2) => Number(8),
        (Kind::Pair, 1 | 2) => Text,
        (Kind::Graph, 1) => Message(Kind::Node),
        (Kind::Graph, 2 | 10 | 13 | 14 | 16) => Skipped,
        (Kind::Graph, 5) => Message(Kind::Tensor),
        (Kind::Graph, 11 | 12) => Message(Kind::ValueInfo),
        (Kind::Graph, 15) => Message(Kind::SparseTensor),
        (Kind::Node, 1..=4 | 7) => Text,
        (Kind::Node, 5) => Message(Kind::Attribute),
        (Kind::Node, 6 | 8 | 9) => Skipped,
        (Kind::Attribute, 1 | 21) => Text,
        (Kind::Attribute, 2 | 3 | 4 | 7 | 8 | 9 | 13 | 14 | 15 | 20) => Skipped,
        (Kind::Attribute, 5 | 10) => Message(Kind::Tensor),
        (Kind::Attribute, 6 | 11) => Message(Kind::Graph),
        (Kind::Attribute, 22 | 23) => Message(Kind::SparseTensor),
        (Kind::Tensor, 1 | 7 | 11) => Number(8),
        (Kind::Tensor, 2 | 5 | 14) => Number(4),
        (Kind::Tensor, 3) => Message(Kind::Opaque),
        (Kind::Tensor, 4 | 10) => Number(1),
        (Kind::Tensor, 6 | 8) => Text,
        // Raw elements are a view of the file's own bytes.
        (Kind::Tensor, 9 | 12 | 16) => Skipped,
        (Kind::Tensor, 13) => Message(Kind::Pair),
        (Kind::SparseTensor, 1 | 2) => Message(Kind::Tensor),
        (Kind::SparseTensor, 3) => Skipped,
        (Kind::ValueInfo, 1) => Text,
        (Kind::ValueInfo, 2) => Message(Kind::Type),
        (Kind::ValueInfo, 3 | 4) => Skipped,
        (Kind::Type, 1) => Message(Kind::TensorType),
        (Kind::Type, 4..=9) => Skipped,
        (Kind::TensorType, 1) => Number(4),
        (Kind::TensorType, 2) => Message(Kind::Shape),
        (Kind::Shape, 1) => Message(Kind::Dim),
        (Kind::Dim, 1) => Number(8),
        (Kind::Dim, 2) => Text,
        (Kind::Dim, 3) => Skipped,
        _ => return None,
    })
}

/// Walks the file once; nothing is kept.
pub(super) fn check(bytes: &[u8]) -> Result<(), ModelRefusal> {
    let mut walk = Walk { growth: 0, graphs: 0 };
    walk.message(Kind::Model, bytes, 0)?;
    if walk.graphs == 1 { Ok(()) } else { Err(ModelRefusal::GraphCount { found: walk.graphs }) }
}

struct Walk {
    growth: u64,
    /// Occurrences of the model's graph: a second one would be merged into the first.
    graphs: u32,
}

impl Walk {
    fn message(&mut self, kind: Kind, mut rest: &[u8], depth: u32) -> Result<(), ModelRefusal> {
        if depth > MAX_DEPTH {
            return Err(ModelRefusal::Unpacked { why: format!("nested deeper than {MAX_DEPTH}") });
        }
        while !rest.is_empty() {
            let key = varint(&mut rest)?;
            let (number, wire) = (key >> 3, key & 7);
            let found = field(kind, number).ok_or_else(|| ModelRefusal::UnknownField {
                message: format!("{kind:?}"),
                field: number,
            })?;
            let inside = match wire {
                0 => {
                    varint(&mut rest)?;
                    None
                }
                1 => {
                    take(&mut rest, 8)?;
                    None
                }
                2 => {
                    let length = varint(&mut rest)?;
                    Some(take(&mut rest, length)?)
                }
                5 => {
                    take(&mut rest, 4)?;
                    None
                }
                _ => return Err(garbage(&format!("wire type {wire}"))),
            };
            match (found, inside) {
                (Field::Message(child), Some(inside)) => {
                    if kind == Kind::Model && number == 7 {
                        self.graphs += 1;
                    }
                    self.grow(child.cost())?;
                    if child != Kind::Opaque {
                        self.message(child, inside, depth + 1)?;
                    }
                }
                (Field::Message(_), None) => {
                    return Err(garbage(&format!("a number where {kind:?} has a message")));
                }
                // Growing a list doubles it, hence twice the elements' size.
                (Field::Number(each), Some(packed)) => {
                    self.grow((packed.len() as u64).saturating_mul(2 * each))?;
                }
                (Field::Number(_), None) => self.grow(16)?,
                (Field::Text, _) => self.grow(TEXT_COST)?,
                (Field::Skipped, _) => {}
            }
        }
        Ok(())
    }

    fn grow(&mut self, by: u64) -> Result<(), ModelRefusal> {
        self.growth = self.growth.saturating_add(by);
        if self.growth > MAX_GROWTH {
            let why = format!("unpacks to more than {MAX_GROWTH} bytes beyond the file itself");
            return Err(ModelRefusal::Unpacked { why });
        }
        Ok(())
    }
}

fn garbage(why: &str) -> ModelRefusal {
    ModelRefusal::NotOnnx { why: why.to_owned() }
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], ModelRefusal> {
    let found = rest.len();
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (head, tail) = split.ok_or_else(|| {
        garbage(&format!("a field of {length} bytes with {found} bytes left: cut off?"))
    })?;
    *rest = tail;
    Ok(head)
}

fn varint(rest: &mut &[u8]) -> Result<u64, ModelRefusal> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let Some((byte, tail)) = rest.split_first() else {
            return Err(garbage("ends inside a number: cut off?"));
        };
        *rest = tail;
        if shift == 63 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(garbage("a number longer than 64 bits"))
}
