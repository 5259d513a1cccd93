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
const ROWS: &[(&str, Bytes, &str, &str)] = &[
    ("a pointer to large files", || {
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec()
    }, "", ""),
    ("nothing", Vec::new, "", ""),
    ("text", || b"hello, this is not a model".to_vec(), "", ""),
    ("a pickle", || b"\x80\x04\x95\x10\x00\x00\x00\x00".to_vec(), "", ""),
    ("a program", || b"\x7fELF\x02\x01\x01\x00".to_vec(), "", ""),
    ("an archive", || b"PK\x03\x04".to_vec(), "", ""),
    ("cut short", || { let mut all = Net::good().bytes(); all.truncate(all.len() - 1); all }, "", ""),
    ("a field of the future", || spoilt(|net| net.more = field(99, b"x")), "", ""),
    ("messages in messages", deep, "", ""),
    ("a million empty nodes", || field(7, &[0x0a, 0].repeat(1_000_000)), "", ""),
    ("no graph", || number(1, 8), "", ""),
    ("two graphs", || spoilt(|net| net.more = field(7, &[])), "", ""),
    ("a format of tomorrow", || spoilt(|net| net.ir = 11), "", ""),
    ("a format of yesterday", || spoilt(|net| net.ir = 2), "", ""),
    ("a format below nothing", || spoilt(|net| net.ir = -1), "", ""),
    ("no operator set", || spoilt(|net| net.opsets.clear()), "", ""),
    ("two operator sets", || spoilt(|net| net.opsets.push(("", 12))), "", ""),
    ("operators of tomorrow", || spoilt(|net| net.opsets[0].1 = 99), "", ""),
    ("operators of somebody else", || spoilt(|net| net.opsets.push(("com.evil", 1))), "", ""),
    ("a node of somebody else", || spoilt(|net| net.nodes[0].extend(field(7, b"com.evil"))), "", ""),
    ("functions of its own", || spoilt(|net| net.more = field(25, b"")), "", ""),
    ("an attribute of a caller", || attribute(&[field(21, b"outer")]), "", ""),
    ("graphs for training", || spoilt(|net| net.more = field(20, b"")), "", ""),
    ("a page of metadata", || {
        let pair = [field(1, b"payload"), field(2, &vec![b'x'; 70_000])].concat();
        spoilt(|net| net.more = field(14, &pair))
    }, "", ""),
    ("weights in the password file", || {
        spoilt(|net| net.weights[0] = outside("../../../../etc/shadow"))
    }, "", ""),
    ("weights elsewhere in a branch", || {
        attribute(&[field(6, &field(5, &outside("/proc/self/environ")))])
    }, "", ""),
    ("a loop", || spoilt(|net| net.nodes[0] = node("l", "Loop", &["img_in"], &["flat"])), "", ""),
    ("a choice", || spoilt(|net| net.nodes[0] = node("i", "If", &["img_in"], &["flat"])), "", ""),
    ("a scan", || spoilt(|net| net.nodes[0] = node("s", "Scan", &["img_in"], &["flat"])), "", ""),
    ("an operator that makes much of little", || {
        spoilt(|net| net.nodes[0] = node("b", "ConstantOfShape", &["img_in"], &["flat"]))
    }, "", ""),
    ("an operator with an escape code", || {
        spoilt(|net| net.nodes[0] = node("e", "\u{1b}]0;owned\u{7}", &["img_in"], &["flat"]))
    }, "", ""),
    ("a graph in a node", || attribute(&[field(6, b"")]), "", ""),
    ("more nodes than are allowed", || {
        spoilt(|net| {
            let chain = (0..10_001).map(|n| node("", "Relu", &["flat"], &[&format!("r{n}")]));
            net.nodes.extend(chain);
        })
    }, "", ""),
    ("sparse weights", || spoilt(|net| net.graph_more = field(15, b"")), "", ""),
    ("a shape without size", || {
        spoilt(|net| net.weights[0] = weight("w0", &[i64::MAX, 3], 1, b""))
    }, "", ""),
    ("a shape below nothing", || spoilt(|net| net.weights[0] = weight("w0", &[-72, -1], 1, b"")), "", ""),
    ("bytes missing", || spoilt(|net| net.weights[0] = weight("w0", &[72, 1], 1, &[0; 280])), "", ""),
    ("weights of text", || spoilt(|net| net.weights[1] = weight("b0", &[1], 8, &[0; 4])), "", ""),
    ("weights of nine dimensions", || spoilt(|net| net.weights[1] = weight("b0", &[1; 9], 1, &[0; 4])), "", ""),
    ("weights twice", || {
        spoilt(|net| net.weights[1].extend(field(4, &[0; 4])))
    }, "", ""),
    ("a name with an escape code", || {
        spoilt(|net| net.weights[1] = weight("\u{1b}[2J", &[1], 1, &[0; 4]))
    }, "", ""),
    ("a name of a page", || spoilt(|net| net.weights[1] = weight(&"w".repeat(513), &[1], 1, &[0; 4])), "", ""),
    ("two weights of one name", || spoilt(|net| net.weights[1] = weight("w0", &[1], 1, &[0; 4])), "", ""),
    ("a reader of nothing", || spoilt(|net| net.nodes[0] = node("f", "Flatten", &["ghost"], &["flat"])), "", ""),
    ("nodes out of order", || spoilt(|net| net.nodes.swap(0, 1)), "", ""),
    ("two pictures", || spoilt(|net| net.inputs.push(value("more", &[1], 1))), "", ""),
    ("a picture of another size", || spoilt(|net| net.inputs[0] = value("img_in", &[1, 5, 6, 3], 1)), "", ""),
    ("a picture of bytes", || spoilt(|net| net.inputs[0] = value("img_in", &[1, 4, 6, 3], 2)), "", ""),
    ("one output", || spoilt(|net| net.outputs.truncate(1)), "", ""),
    ("outputs the other way", || spoilt(|net| net.outputs.swap(0, 1)), "", ""),
    ("an output of fifteen numbers", || spoilt(|net| net.outputs[0] = value("n_outputs0", &[1, 15], 1)), "", ""),
];

/// Those that a smaller contract refuses; the checkout of the service bounds a file before.
const CONTRACTS: &[(&str, fn(&mut Contract), &str, &str)] = &[
    ("a file over the contract", |c| c.max_bytes = 100, "", ""),
    ("weights over the contract", |c| c.max_elements = 100, "", ""),
];

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
        let got = world.run_fails(&mut table, what, &push(&bytes()));
        table.row(what, &got, code, says);
    }
    let (model, card) = (Net::good().bytes(), ModelCard::parse(TINY).unwrap());
    for (what, edit, code, says) in CONTRACTS {
        let mut contract = Contract::default();
        edit(&mut contract);
        let refusal = inspect(&model, &card, &contract).unwrap_err();
        table.row(what, &Answer::new(refusal.code(), refusal.to_string()), code, says);
    }
    // The model that was spoilt is a good one: nothing but what each row says is wrong with it.
    let pushed = push(&model);
    let body = pushed.body().to_string();
    world.lane.deliver(&pushed.tag, body.as_bytes(), &world.secret);
    world.lane.wait(&pushed.tag, "done");
    table.end(ROWS.len() + CONTRACTS.len());
}
