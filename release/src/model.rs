//! `ModelCard`: what must be known of a driving model to feed it and to obey it.
//!
//! It lies beside the model (`models/pilot.yaml`), travels with it in the model layer, and says
//! what no file format of a network says: channel order, scaling, and which output steers.
//! Nothing here has a default by guess; a frame in the wrong channel order drives, only badly.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::yaml;

/// Largest card read (bytes): a page of text, with room.
pub const MAX_CARD: usize = 64 * 1024;
/// Largest side of an input image, and of a training note; both only keep arithmetic small.
const MAX_SIDE: u32 = 4096;

/// The card of a model. Format `pitlane.dev/v1`, kind `ModelCard`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelCard {
    /// `pitlane.dev/v1`.
    pub api_version: ApiVersion,
    /// `ModelCard`.
    pub kind: CardKind,
    /// A name people know the model by.
    pub name: String,
    /// What the outputs are and how they become steering and throttle.
    pub pilot: Pilot,
    /// The one input: a camera frame.
    pub input: Input,
    /// The outputs, in the model's own order.
    pub outputs: Vec<Output>,
    /// How and on what it was trained; free keys, shown to people and put in the SBOM.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub training: std::collections::BTreeMap<String, serde_json::Value>,
    /// The network's class in the framework it was made with, `module.Class`: what a conversion of
    /// weights without their network needs, where the pipeline file names none. Nobody else reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// SPDX licence expression of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

/// The version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// Version 1.
    #[serde(rename = "pitlane.dev/v1")]
    V1,
}

/// The word in `kind:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CardKind {
    /// A model card.
    ModelCard,
}

/// The kind of pilot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pilot {
    /// Donkey's `KerasLinear`: steering and throttle as numbers in -1..1.
    Linear,
}

/// The input tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Four dimensions, batch first; the batch is 1.
    pub shape: [u32; 4],
    /// Where the channels are.
    pub layout: Layout,
    /// Their order.
    pub channels: Channels,
    /// What a byte of the image is multiplied by.
    pub scale: f64,
    /// Subtracted per channel after scaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f64>>,
    /// Divided by, per channel, after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f64>>,
    /// Rows at the top that are blanked before scaling (Donkey's `ROI_CROP_TOP`); the shape stays.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub crop_top: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Order of the dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Layout {
    /// Batch, height, width, channels (Keras).
    Nhwc,
    /// Batch, channels, height, width (`PyTorch`).
    Nchw,
}

/// Order of the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red (`OpenCV`).
    Bgr,
    /// One channel of luminance.
    Gray,
}

/// One output tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Output {
    /// The tensor's name; a converter's suffix (`:0`) is tolerated when it is looked up.
    pub name: String,
    /// What the number means.
    pub meaning: Meaning,
}

/// What an output says.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// -1 full left … 1 full right.
    Steering,
    /// -1 full reverse … 1 full ahead.
    Throttle,
}

/// Why a card cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Not the format.
    #[error("not a model card: {0}")]
    Format(String),
    /// A field contradicts the rest.
    #[error("field `{field}`: {why}")]
    Field {
        /// The field's path.
        field: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl Input {
    /// Height in pixels.
    pub const fn height(&self) -> u32 {
        match self.layout {
            Layout::Nhwc => self.shape[1],
            Layout::Nchw => self.shape[2],
        }
    }

    /// Width in pixels.
    pub const fn width(&self) -> u32 {
        match self.layout {
            Layout::Nhwc => self.shape[2],
            Layout::Nchw => self.shape[3],
        }
    }

    /// Number of channels.
    pub const fn depth(&self) -> u32 {
        match self.layout {
            Layout::Nhwc => self.shape[3],
            Layout::Nchw => self.shape[1],
        }
    }
}

impl ModelCard {
    /// Parses and checks a card (YAML, or JSON, which is YAML).
    pub fn parse(text: &str) -> Result<Self, CardError> {
        let card: Self =
            yaml::read(text, MAX_CARD).map_err(|e| CardError::Format(e.to_string()))?;
        card.check()?;
        Ok(card)
    }

    /// The index of the output with this meaning.
    pub fn output(&self, meaning: Meaning) -> Option<usize> {
        self.outputs.iter().position(|output| output.meaning == meaning)
    }

    fn check(&self) -> Result<(), CardError> {
        let field = |field, why: String| Err(CardError::Field { field, why });
        let input = &self.input;
        if input.shape[0] != 1 {
            return field("input.shape", format!("the batch is {}, want 1", input.shape[0]));
        }
        if !(1..=MAX_SIDE).contains(&input.height()) || !(1..=MAX_SIDE).contains(&input.width()) {
            return field("input.shape", format!("sides must be 1..={MAX_SIDE}"));
        }
        let depth = if input.channels == Channels::Gray { 1 } else { 3 };
        if input.depth() != depth {
            let why = format!("{} channels, {:?} has {depth}", input.depth(), input.channels);
            return field("input.shape", why);
        }
        if !input.scale.is_finite() || input.scale == 0.0 {
            return field("input.scale", "want a finite number that is not zero".into());
        }
        for (name, list, zero_ok) in
            [("input.mean", &input.mean, true), ("input.std", &input.std, false)]
        {
            let Some(list) = list else { continue };
            if list.len() != depth as usize {
                return field(name, format!("{} values for {depth} channels", list.len()));
            }
            if list.iter().any(|v| !v.is_finite() || (!zero_ok && *v == 0.0)) {
                return field(name, "want finite numbers, and no zero to divide by".into());
            }
        }
        if input.crop_top >= input.height() {
            return field("input.cropTop", format!("blanks all {} rows", input.height()));
        }
        for meaning in [Meaning::Steering, Meaning::Throttle] {
            let n = self.outputs.iter().filter(|o| o.meaning == meaning).count();
            if n != 1 {
                let why = format!("{n} outputs mean {meaning:?}; a linear pilot has exactly one");
                return field("outputs", why);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = include_str!("../tests/data/pilot.yaml");

    #[test]
    fn the_example_card_parses() {
        let card = ModelCard::parse(CARD).unwrap();
        assert_eq!((card.input.width(), card.input.height(), card.input.depth()), (160, 120, 3));
        assert_eq!(card.output(Meaning::Throttle), Some(1));
        let json = serde_json::to_string(&card).unwrap();
        assert_eq!(ModelCard::parse(&json).unwrap(), card, "JSON is read as well");
    }

    #[test]
    fn broken_cards_are_refused_by_field() {
        for (from, to, want) in [
            ("[1, 120, 160, 3]", "[2, 120, 160, 3]", "input.shape"),
            ("[1, 120, 160, 3]", "[1, 3, 120, 160]", "input.shape"),
            ("[1, 120, 160, 3]", "[1, 0, 160, 3]", "input.shape"),
            ("[1, 120, 160, 3]", "[1, 120, 160]", "shape"),
            ("NHWC", "HWCN", "HWCN"),
            ("RGB", "GRAY", "channels"),
            ("0.00392156862745098", ".nan", "input.scale"),
            ("0.00392156862745098", "0", "input.scale"),
            ("  scale:", "  mean: [0.5]\n  scale:", "input.mean"),
            ("  scale:", "  std: [1, 0, 1]\n  scale:", "input.std"),
            ("  scale:", "  cropTop: 120\n  scale:", "input.cropTop"),
            ("  scale:", "  scala: 1\n  scale:", "scala"),
            ("meaning: throttle", "meaning: steering", "outputs"),
            ("pitlane.dev/v1", "pitlane.dev/v9", "v9"),
            ("pilot: linear", "pilot: rnn", "rnn"),
        ] {
            let text = CARD.replacen(from, to, 1);
            assert_ne!(text, CARD, "{from}");
            let error = ModelCard::parse(&text).unwrap_err().to_string();
            assert!(error.contains(want), "{to}: {error}");
        }
    }
}
