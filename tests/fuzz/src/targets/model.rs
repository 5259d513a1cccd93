//! Models: ONNX files, as the step `model` looks at them.

use std::sync::LazyLock;

use pitlane_pipeline::model::{Contract, inspect};
use pitlane_release::ModelCard;

use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[Target {
    name: "onnx",
    run: onnx,
    more: &["car-image/tests/data/*.onnx"],
    words: &[
        "Gemm",
        "Loop",
        "If",
        "Scan",
        "ai.onnx.ml",
        "location",
        "external.bin",
        "../w",
        "\u{8}\u{7}",
        "\u{3a}\u{7f}",
        "img_in",
        "n_outputs0",
    ],
    max: 8_000,
}];

static CARD: LazyLock<ModelCard> = LazyLock::new(|| {
    let file = crate::seeds::repository().join("car-image/tests/data/tiny.yaml");
    ModelCard::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
});

fn onnx(input: &[u8]) -> Reached {
    let contract = Contract::default();
    let facts = inspect(input, &CARD, &contract);
    if let Ok(facts) = &facts {
        assert_eq!(facts.bytes, input.len() as u64);
        assert!(facts.operators.keys().all(|name| contract.operators.contains(name)));
        assert!(facts.parameters <= contract.max_elements);
    }
    Reached::of(&facts)
}
