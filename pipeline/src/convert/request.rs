//! The request that follows from the operator's word and the card. Pure.

use anyhow::Context as _;
use pitlane_builder::convert::{
    ApiVersion, Framework as Asked, Input, Request, RequestKind, Samples as Pictures,
};
use pitlane_release::{ModelCard, model::Input as CardInput};

use super::{Convert, Framework};

/// What the picture is called in the file; the card names outputs alone.
const INPUT: &str = "picture";
/// The brightest byte of a picture.
const WHITE: f64 = 255.0;

/// Asks for a file that the card fits.
pub fn request(convert: &Convert, card: &ModelCard) -> anyhow::Result<Request> {
    let framework = match convert.framework {
        Framework::Pytorch => Asked::Pytorch {
            class: convert
                .class(card)
                .context("nobody names the network's class: `class` of the card, or of `spec.model.convert`")?
                .to_owned(),
            arguments: convert.arguments.clone(),
        },
        Framework::Torchscript => Asked::Torchscript {},
        Framework::Keras => Asked::Keras {},
        Framework::Tflite => Asked::Tflite {},
        Framework::Sklearn => Asked::Sklearn {},
    };
    let (low, high) = range(&card.input);
    let outputs = card.outputs.iter().map(|output| {
        // A converter's suffix is none of the name (docs/model.md).
        output.name.split(':').next().unwrap_or_default().to_owned()
    });
    let request = Request {
        api_version: ApiVersion::V1,
        kind: RequestKind::ConversionRequest,
        framework,
        input: Input { name: INPUT.into(), shape: card.input.shape.to_vec() },
        outputs: outputs.collect(),
        opset: convert.opset,
        samples: Pictures { count: convert.samples.count, seed: convert.samples.seed, low, high },
        tolerance: convert.tolerance,
    };
    request.check()?;
    Ok(request)
}

/// The smallest and the largest number that a picture becomes by the card.
fn range(input: &CardInput) -> (f64, f64) {
    let channels = input.mean.as_ref().or(input.std.as_ref()).map_or(1, Vec::len);
    let at = |list: &Option<Vec<f64>>, channel: usize, other: f64| {
        list.as_ref().and_then(|list| list.get(channel).copied()).unwrap_or(other)
    };
    let ends = (0..channels).flat_map(|channel| {
        let (mean, std) = (at(&input.mean, channel, 0.0), at(&input.std, channel, 1.0));
        [0.0, WHITE].map(|byte| (byte * input.scale - mean) / std)
    });
    ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), end| (low.min(end), high.max(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = include_str!("../../../release/tests/data/pilot.yaml");

    fn asked(convert: &str, card: &str) -> anyhow::Result<Request> {
        let convert: Convert = pitlane_release::yaml::read(convert, 4096)?;
        convert.check()?;
        request(&convert, &ModelCard::parse(card)?)
    }

    #[test]
    fn the_card_says_shape_outputs_and_range() {
        let got = asked("{ framework: keras }", CARD).unwrap();
        assert_eq!(got.input.shape, [1, 120, 160, 3]);
        assert_eq!(got.outputs, ["n_outputs0", "n_outputs1"]);
        assert!((got.samples.low, got.samples.count, got.opset) == (0.0, 20, 17));
        assert!((got.samples.high - 1.0).abs() < 1e-9);
        let normal =
            CARD.replace("  scale:", "  mean: [0.5, 0.5, 0.5]\n  std: [0.5, 0.5, 0.25]\n  scale:");
        let got = asked("{ framework: keras }", &normal).unwrap();
        assert!((got.samples.low + 2.0).abs() < 1e-9 && (got.samples.high - 2.0).abs() < 1e-9);
        let suffix = CARD.replace("n_outputs0", "n_outputs0:0");
        assert_eq!(asked("{ framework: keras }", &suffix).unwrap().outputs[0], "n_outputs0");
    }

    #[test]
    fn the_class_is_the_operators_word_or_the_cards() {
        let named = format!("{CARD}\nclass: net.Pilot\n");
        let class = |convert: &str, card: &str| match asked(convert, card)?.framework {
            Asked::Pytorch { class, .. } => Ok(class),
            other => anyhow::bail!("{other:?}"),
        };
        assert_eq!(class("{ framework: pytorch }", &named).unwrap(), "net.Pilot");
        let own = "{ framework: pytorch, class: other.Net }";
        assert_eq!(class(own, &named).unwrap(), "other.Net");
        let error = class("{ framework: pytorch }", CARD).unwrap_err().to_string();
        assert!(error.contains("nobody names"), "{error}");
        // A card is a stranger's: a class is a name, never a path or code.
        for bad in ["Pilot", "os.system('x').y", "../net.Pilot"] {
            let card = format!("{CARD}\nclass: \"{bad}\"\n");
            let error = class("{ framework: pytorch }", &card).unwrap_err();
            assert!(format!("{error:#}").contains("module.Class"), "{bad}: {error:#}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_field() {
        for (text, want) in [
            ("{ framework: keras, class: a.B }", "`class`"),
            ("{ framework: onnx }", "onnx"),
            ("{ framework: pytorch, code: [../x.py] }", "`code`: `../x.py`"),
            ("{ framework: pytorch, code: [x.sh] }", "`code`: `x.sh`"),
            ("{ framework: keras, opset: 18 }", "`opset`: 18"),
            ("{ framework: keras, samples: { count: 0 } }", "`samples.count`: 0"),
            ("{ framework: keras, tolerance: -1 }", "`tolerance`"),
            ("{ framework: keras, limits: { seconds: 1 } }", "`limits.seconds`: 1"),
            ("{ framework: keras, engine: { host: x } }", "`engine`"),
            ("{ framework: keras, colour: red }", "colour"),
        ] {
            let error = format!("{:#}", asked(text, CARD).unwrap_err());
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
