//! Models: every refusal of the step `model`, by the running service, from a tag.

use pitlane_pipeline::model::{Contract, inspect};
use pitlane_release::ModelCard;

use super::{
    Answer, Table,
    onnx::{Net, field, node, number, value, weight},
    repository::Maker,
    world::World,
};

const FILE: &str = "100644";
const TINY: &str = "\
apiVersion: pitlane.dev/v1
kind: ModelCard
name: tiny
pilot: linear
input: { shape: [1, 4, 6, 3], layout: NHWC, channels: RGB, scale: 0.00392156862745098 }
outputs:
  - { name: n_outputs0, meaning: steering }
  - { name: n_outputs1, meaning: throttle }
";

type Bytes = fn() -> Vec<u8>;
type Limit = fn(&mut Contract);

fn spoilt(spoil: impl FnOnce(&mut Net)) -> Vec<u8> {
    let mut net = Net::good();
    spoil(&mut net);
    net.bytes()
}

/// The first node with an attribute of these fields more.
fn attribute(fields: &[Vec<u8>]) -> Vec<u8> {
    let attribute = [field(1, b"body"), fields.concat()].concat();
    spoilt(|net| net.nodes[0].extend(field(5, &attribute)))
}

/// A tensor whose elements lie in another file.
fn outside(location: &str) -> Vec<u8> {
    let pair = [field(1, b"location"), field(2, location.as_bytes())].concat();
    [number(1, 1), number(2, 1), field(8, b"w0"), field(13, &pair), number(14, 1)].concat()
}

/// Messages in messages, from the inside out.
fn deep() -> Vec<u8> {
    let mut nested = Vec::new();
    for _ in 0..40 {
        // A graph in an attribute of a node of a graph.
        nested = field(1, &field(5, &field(6, &nested)));
    }
    field(7, &nested)
}

/// What it is, its bytes, the code, the words.
const ROWS: &[(&str, Bytes, &str, &str)] = rows! {
    "a broken pointer to large files": || {
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec()
    } => "checkout-failed", "a broken Git LFS pointer: its oid is no SHA-256: `0` is not a digest: \
           want sha256: and 64 lower-case hexadecimal digits";
    "nothing": Vec::new => "model-graph-count", "0 graphs, want exactly 1: export the model again";
    "text": || b"hello, this is not a model".to_vec()
        => "model-unknown-field", "field 13 of message Model is not in the ONNX specification up \
           to IR version 10: export with an older IR version";
    "a pickle": || b"\x80\x04\x95\x10\x00\x00\x00\x00".to_vec()
        => "model-unknown-field", "field 64 of message Model is not in the ONNX specification up \
           to IR version 10: export with an older IR version";
    "a program": || b"\x7fELF\x02\x01\x01\x00".to_vec()
        => "model-unknown-field", "field 15 of message Model is not in the ONNX specification up \
           to IR version 10: export with an older IR version";
    "an archive": || b"PK\x03\x04".to_vec()
        => "model-unknown-field", "field 10 of message Model is not in the ONNX specification up \
           to IR version 10: export with an older IR version";
    "cut short": || { let mut all = Net::good().bytes(); all.truncate(all.len() - 1); all }
        => "model-not-onnx", "not an ONNX file (a field of 4 bytes with 3 bytes left: cut off?): \
           export the model to ONNX again";
    "a field of the future": || spoilt(|net| net.more = field(99, b"x"))
        => "model-unknown-field", "field 99 of message Model is not in the ONNX specification up \
           to IR version 10: export with an older IR version";
    "messages in messages": deep
        => "model-unpacked-size", "refused before unpacking: nested deeper than 24; export the \
           model again without repeated structure";
    "a million empty nodes": || field(7, &[0x0a, 0].repeat(1_000_000))
        => "model-unpacked-size", "refused before unpacking: unpacks to more than 67108864 bytes \
           beyond the file itself; export the model again without repeated structure";
    "no graph": || number(1, 8)
        => "model-graph-count", "0 graphs, want exactly 1: export the model again";
    "two graphs": || spoilt(|net| net.more = field(7, &[]))
        => "model-graph-count", "2 graphs, want exactly 1: export the model again";
    "a format of tomorrow": || spoilt(|net| net.ir = 11)
        => "model-ir-version", "IR version 11, the contract allows 3 to 10: export with an older \
           IR version, or raise `irVersionMax`";
    "a format of yesterday": || spoilt(|net| net.ir = 2)
        => "model-ir-version", "IR version 2, the contract allows 3 to 10: export with an older \
           IR version, or raise `irVersionMax`";
    "a format below nothing": || spoilt(|net| net.ir = -1)
        => "model-ir-version", "IR version -1, the contract allows 3 to 10: export with an older \
           IR version, or raise `irVersionMax`";
    "no operator set": || spoilt(|net| net.opsets.clear())
        => "model-opset-imports", "0 imports of the standard operator set, want exactly 1: \
           export the model again";
    "two operator sets": || spoilt(|net| net.opsets.push(("", 12)))
        => "model-opset-imports", "2 imports of the standard operator set, want exactly 1: \
           export the model again";
    "operators of tomorrow": || spoilt(|net| net.opsets[0].1 = 99)
        => "model-opset", "operator set 99, the contract allows 7 to 17: export with \
           opset_version=17";
    "operators of somebody else": || spoilt(|net| net.opsets.push(("com.evil", 1)))
        => "model-domain", "the file uses operator domain `com.evil`: export with standard \
           operators, or add it to `domains`";
    "a node of somebody else": || spoilt(|net| net.nodes[0].extend(field(7, b"com.evil")))
        => "model-domain", "node `flatten` uses operator domain `com.evil`: export with standard \
           operators, or add it to `domains`";
    "functions of its own": || spoilt(|net| net.more = field(25, b""))
        => "model-functions", "the file defines functions of its own (1 of them): inline them \
           before you export (onnx.inliner.inline_local_functions)";
    "an attribute of a caller": || attribute(&[field(21, b"outer")])
        => "model-functions", "the file defines functions of its own (attribute `body` of node \
           `flatten`): inline them before you export (onnx.inliner.inline_local_functions)";
    "graphs for training": || spoilt(|net| net.more = field(20, b""))
        => "model-training", "the file holds training graphs: export for inference";
    "a page of metadata": || {
        let pair = [field(1, b"payload"), field(2, &vec![b'x'; 70_000])].concat();
        spoilt(|net| net.more = field(14, &pair))
    } => "model-metadata", "70007 bytes of metadata, at most 65536 are kept: strip it before \
           you export";
    "weights in the password file": || {
        spoilt(|net| net.weights[0] = outside("../../../../etc/shadow"))
    } => "model-external-data", "tensor `w0` keeps its data outside of the file \
           (`../../../../etc/shadow`): save the model as one file (onnx.save with \
           save_as_external_data=False)";
    "weights elsewhere in a branch": || {
        attribute(&[field(6, &field(5, &outside("/proc/self/environ")))])
    } => "model-external-data", "tensor `w0` keeps its data outside of the file \
           (`/proc/self/environ`): save the model as one file (onnx.save with \
           save_as_external_data=False)";
    "a loop": || spoilt(|net| net.nodes[0] = node("l", "Loop", &["img_in"], &["flat"]))
        => "model-control-flow", "node `l` is a `Loop`: control flow is never allowed, how long \
           it runs cannot be known; export the unrolled network";
    "a choice": || spoilt(|net| net.nodes[0] = node("i", "If", &["img_in"], &["flat"]))
        => "model-control-flow", "node `i` is a `If`: control flow is never allowed, how long it \
           runs cannot be known; export the unrolled network";
    "a scan": || spoilt(|net| net.nodes[0] = node("s", "Scan", &["img_in"], &["flat"]))
        => "model-control-flow", "node `s` is a `Scan`: control flow is never allowed, how long \
           it runs cannot be known; export the unrolled network";
    "an operator that makes much of little": || {
        spoilt(|net| net.nodes[0] = node("b", "ConstantOfShape", &["img_in"], &["flat"]))
    } => "model-operator", "node `b` uses operator `ConstantOfShape`, which the contract does \
           not list: use another layer, or add it to `operators`";
    "an operator with an escape code": || {
        spoilt(|net| net.nodes[0] = node("e", "\u{1b}]0;owned\u{7}", &["img_in"], &["flat"]))
    } => "model-operator", "node `e` uses operator `\\u{1b}]0;owned\\u{7}`, which the contract \
           does not list: use another layer, or add it to `operators`";
    "a graph in a node": || attribute(&[field(6, b"")])
        => "model-subgraph", "attribute `body` of node `flatten` holds a subgraph: export a \
           plain network";
    "more nodes than are allowed": || {
        spoilt(|net| {
            let chain = (0..10_001).map(|n| node("", "Relu", &["flat"], &[&format!("r{n}")]));
            net.nodes.extend(chain);
        })
    } => "model-too-many-nodes", "10004 nodes, the contract allows 10000: use a smaller \
           network, or raise `maxNodes`";
    "sparse weights": || spoilt(|net| net.graph_more = field(15, b""))
        => "model-sparse", "tensor `` is sparse: export dense weights";
    "a shape without size": || {
        spoilt(|net| net.weights[0] = weight("w0", &[i64::MAX, 3], 1, b""))
    } => "model-tensor", "tensor `w0`: shape [9223372036854775807, 3] has no size; export the \
           model again";
    "a shape below nothing": || spoilt(|net| net.weights[0] = weight("w0", &[-72, -1], 1, b""))
        => "model-tensor", "tensor `w0`: shape [-72, -1] has no size; export the model again";
    "bytes missing": || spoilt(|net| net.weights[0] = weight("w0", &[72, 1], 1, &[0; 280]))
        => "model-tensor", "tensor `w0`: shape [72, 1] of float32 needs 72 elements (288 bytes), \
           the file has 0 typed elements and 280 raw bytes; export the model again";
    "weights of text": || spoilt(|net| net.weights[1] = weight("b0", &[1], 8, &[0; 4]))
        => "model-tensor", "tensor `b0`: element type 8 is not allowed; export the model again";
    "weights of nine dimensions": || {
        spoilt(|net| net.weights[1] = weight("b0", &[1; 9], 1, &[0; 4]))
    } => "model-tensor", "tensor `b0`: 9 dimensions, at most 8; export the model again";
    "weights twice": || {
        spoilt(|net| net.weights[1].extend(field(4, &[0; 4])))
    } => "model-tensor", "tensor `b0`: has its elements twice, raw and typed; export the model \
           again";
    "a name with an escape code": || {
        spoilt(|net| net.weights[1] = weight("\u{1b}[2J", &[1], 1, &[0; 4]))
    } => "model-name", "weight `\\u{1b}[2J`: holds control characters; export the model with \
           plain names";
    "a name of a page": || spoilt(|net| net.weights[1] = weight(&"w".repeat(513), &[1], 1, &[0; 4]))
        => "model-name", "weight \
           `wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww…`: \
           is longer than 512 bytes; export the model with plain names";
    "two weights of one name": || spoilt(|net| net.weights[1] = weight("w0", &[1], 1, &[0; 4]))
        => "model-duplicate-name", "two values are called `w0`: names must be unique, export the \
           model again";
    "a reader of nothing": || {
        spoilt(|net| net.nodes[0] = node("f", "Flatten", &["ghost"], &["flat"]))
    } => "model-dangling", "node `f` reads `ghost`, which nothing before it makes: export the \
           model again";
    "nodes out of order": || spoilt(|net| net.nodes.swap(0, 1))
        => "model-dangling", "node `steering` reads `flat`, which nothing before it makes: \
           export the model again";
    "two pictures": || spoilt(|net| net.inputs.push(value("more", &[1], 1)))
        => "model-input", "input: the model has 2 (`img_in`, `more`), the card has 1; correct \
           the model card, or export the model to fit it";
    "a picture of another size": || spoilt(|net| net.inputs[0] = value("img_in", &[1, 5, 6, 3], 1))
        => "model-input", "input: `img_in` is [1, 5, 6, 3], the card wants [1, 4, 6, 3]; correct \
           the model card, or export the model to fit it";
    "a picture of bytes": || spoilt(|net| net.inputs[0] = value("img_in", &[1, 4, 6, 3], 2))
        => "model-input", "input: `img_in` is uint8, want float32; correct the model card, or \
           export the model to fit it";
    "one output": || spoilt(|net| net.outputs.truncate(1))
        => "model-output", "outputs: the model gives `n_outputs0`, the card lists `n_outputs0`, \
           `n_outputs1`, in order; correct the model card, or export the model to fit it";
    "outputs the other way": || spoilt(|net| net.outputs.swap(0, 1))
        => "model-output", "outputs: the model gives `n_outputs1`, `n_outputs0`, the card lists \
           `n_outputs0`, `n_outputs1`, in order; correct the model card, or export the model to \
           fit it";
    "an output of fifteen numbers": || {
        spoilt(|net| net.outputs[0] = value("n_outputs0", &[1, 15], 1))
    } => "model-output", "outputs: `n_outputs0` is [1, 15], the card wants [1, 1]; correct the \
           model card, or export the model to fit it";
};

/// Those that a smaller contract refuses; the checkout of the service bounds a file before.
const CONTRACTS: &[(&str, Limit, &str, &str)] = rows! {
    "a file over the contract": |c| c.max_bytes = 100
        => "model-too-large", "879 bytes, the contract allows 100: use a smaller network, or \
           raise `maxBytes`";
    "weights over the contract": |c| c.max_elements = 100
        => "model-too-many-elements", "more than 100 elements in all weights together (reached \
           at tensor `w1`): use a smaller network, or raise `maxElements`";
};

#[test]
fn models() {
    let world = World::new();
    let mut table = Table::default();
    let maker = Maker::new(&world);
    let card = maker.blob(TINY.as_bytes());
    let push = |bytes: &[u8]| {
        let model = maker.blob(bytes);
        let entries =
            [(FILE, model.as_str(), "models/pilot.onnx"), (FILE, &card, "models/pilot.yaml")];
        maker.tag(&maker.commit(&entries))
    };
    for (what, bytes, code, says) in ROWS {
        let mut got = world.run_fails(&mut table, what, &push(&bytes()));
        if let Some(of_file) = got.says.strip_prefix("models/pilot.onnx: ") {
            got.says = of_file.to_owned();
        } else {
            table.note(what, "the file is not named");
        }
        table.row(what, &got, code, says);
    }
    let (model, card) = (Net::good().bytes(), ModelCard::parse(TINY).unwrap());
    for (what, edit, code, says) in CONTRACTS {
        let mut contract = Contract::default();
        edit(&mut contract);
        let refusal = inspect(&model, &card, &contract).unwrap_err();
        table.row(what, &Answer::new(refusal.code(), refusal.to_string()), code, says);
    }
    // A pointer that nobody followed: the step before does.
    let refusal =
        inspect(b"version https://git-lfs.github.com/spec/v1\n", &card, &Contract::default());
    let refusal = refusal.unwrap_err();
    let says = "this is a Git LFS pointer, not the model: fetch the file with `git lfs pull`, or \
                turn on LFS for this repository in the pipeline file";
    let got = Answer::new(refusal.code(), refusal.to_string());
    table.row("a pointer that nobody followed", &got, "model-lfs-pointer", says);
    // The model that was spoilt is a good one: nothing but what each row says is wrong with it.
    let pushed = push(&model);
    let body = pushed.body().to_string();
    world.lane.deliver(&pushed.tag, body.as_bytes(), &world.secret);
    world.lane.wait(&pushed.tag, "done");
    table.end(ROWS.len() + CONTRACTS.len() + 1);
}
