//! Golden frames: fixed pictures, and what the model said to them where the release was made.
//!
//! The pipeline lets the candidate answer them in the step `prove` and attests the answers; a car
//! whose policy asks for them lets its own hardware answer before it takes the wheel. Kernels
//! differ between processors in the last bits, so answers are compared within a tolerance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, model::ApiVersion};

/// Predicate type of attested golden frames.
pub const GOLDEN: &str = "https://pitlane.dev/golden/v1";
/// Largest document read (bytes): some frames of a few numbers, with much room.
pub const MAX_GOLDEN: u64 = 1 << 20;
/// Most frames, most outputs of one, and most numbers in one output.
const MOST: [usize; 3] = [64, 16, 1024];

/// Frames and the answers to reproduce. Format `pitlane.dev/v1`, kind `GoldenFrames`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GoldenFrames {
    /// `pitlane.dev/v1`.
    pub api_version: ApiVersion,
    /// `GoldenFrames`.
    pub kind: GoldenWord,
    /// Digest of the model that answered.
    pub model: Digest,
    /// Largest difference allowed between an answer and the one here.
    pub tolerance: f64,
    /// The frames.
    pub frames: Vec<Frame>,
}

/// The word in `kind:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GoldenWord {
    /// Golden frames.
    GoldenFrames,
}

/// One frame, and what the model said to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Frame {
    /// Which of the runtime's fixed frames.
    pub name: String,
    /// The outputs, in the card's order.
    pub outputs: Vec<Answer>,
}

/// One output tensor, flat. A number that is not finite is written as null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    /// Name of the output.
    pub name: String,
    /// Its numbers.
    pub values: Vec<Option<f32>>,
}

/// Why golden frames cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not golden frames: {0}")]
pub struct GoldenError(pub(crate) String);

impl GoldenFrames {
    /// The frames of this model.
    pub fn new(model: Digest, tolerance: f64, frames: Vec<Frame>) -> Self {
        let (api_version, kind) = (ApiVersion::V1, GoldenWord::GoldenFrames);
        Self { api_version, kind, model, tolerance, frames }
    }

    /// Reads a document and checks it.
    ///
    /// # Errors
    /// When it is not the format, or nothing could be compared with it ([`GoldenFrames::check`]).
    pub fn read(bytes: &[u8]) -> Result<Self, GoldenError> {
        let read: Self =
            serde_json::from_slice(bytes).map_err(|error| GoldenError(error.to_string()))?;
        read.check()?;
        Ok(read)
    }

    /// Whether there is something to compare with: frames within bounds, numbers, a tolerance.
    ///
    /// # Errors
    /// Names what is missing or too much.
    pub fn check(&self) -> Result<(), GoldenError> {
        let fail = |why: String| Err(GoldenError(why));
        if !(self.tolerance > 0.0 && self.tolerance <= 1.0) {
            return fail(format!("tolerance {} is not above 0 and up to 1", self.tolerance));
        }
        if !(1..=MOST[0]).contains(&self.frames.len()) {
            return fail(format!("{} frames, want 1 to {}", self.frames.len(), MOST[0]));
        }
        for frame in &self.frames {
            let name: String = frame.name.chars().take(40).collect();
            let outputs = &frame.outputs;
            if !(1..=MOST[1]).contains(&outputs.len()) {
                return fail(format!("frame `{name}` has {} outputs", outputs.len()));
            }
            if outputs.iter().any(|output| !(1..=MOST[2]).contains(&output.values.len())) {
                return fail(format!("frame `{name}`: an output is empty or too long"));
            }
            let mut values = outputs.iter().flat_map(|output| &output.values);
            if !values.all(|value| value.is_some_and(f32::is_finite)) {
                return fail(format!("frame `{name}`: an answer is not finite"));
            }
        }
        Ok(())
    }

    /// The largest difference to other answers; none when the two do not speak of the same frames
    /// and outputs, or when a number is missing.
    pub fn difference(&self, got: &[Frame]) -> Option<f64> {
        let same = |same: bool| same.then_some(());
        same(self.frames.len() == got.len())?;
        let mut most = 0.0_f64;
        for (golden, got) in self.frames.iter().zip(got) {
            same(golden.name == got.name && golden.outputs.len() == got.outputs.len())?;
            for (golden, got) in golden.outputs.iter().zip(&got.outputs) {
                same(golden.name == got.name && golden.values.len() == got.values.len())?;
                for (a, b) in golden.values.iter().zip(&got.values) {
                    let far = (f64::from((*a)?) - f64::from((*b)?)).abs();
                    // A NaN would be lost in a maximum.
                    same(far.is_finite())?;
                    most = most.max(far);
                }
            }
        }
        Some(most)
    }

    /// Whether the answers of this model are these, within the tolerance.
    pub fn reproduced(&self, model: &Digest, got: &[Frame]) -> bool {
        self.model == *model && self.difference(got).is_some_and(|far| far <= self.tolerance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(value: Option<f32>) -> Vec<Frame> {
        let values = vec![Some(1.0), value];
        vec![Frame { name: "black".into(), outputs: vec![Answer { name: "a".into(), values }] }]
    }

    fn golden() -> GoldenFrames {
        GoldenFrames::new(Digest::of("model"), 0.1, frames(Some(0.5)))
    }

    #[test]
    fn differences() {
        let golden = golden();
        let most = golden.difference(&frames(Some(0.25)));
        assert!(most.is_some_and(|d| (d - 0.25).abs() < 1e-9), "{most:?}");
        let twice = [frames(Some(0.5)), frames(Some(0.5))].concat();
        for other in [frames(None), frames(Some(f32::NAN)), vec![], twice] {
            assert_eq!(golden.difference(&other), None, "{other:?}");
        }
        let mut renamed = frames(Some(0.5));
        renamed[0].name = "white".into();
        assert_eq!(golden.difference(&renamed), None);
        let mut renamed = frames(Some(0.5));
        renamed[0].outputs[0].name = "b".into();
        assert_eq!(golden.difference(&renamed), None);
    }

    #[test]
    fn the_same_model_within_the_tolerance() {
        let golden = golden();
        let model = Digest::of("model");
        assert!(golden.reproduced(&model, &frames(Some(0.59))));
        assert!(!golden.reproduced(&model, &frames(Some(0.61))));
        assert!(!golden.reproduced(&Digest::of("other"), &frames(Some(0.5))));
    }

    #[test]
    fn useless_documents_are_refused() {
        let text = serde_json::to_string(&golden()).unwrap();
        assert_eq!(GoldenFrames::read(text.as_bytes()).unwrap(), golden());
        for (from, to, want) in [
            ("\"tolerance\":0.1", "\"tolerance\":0", "tolerance"),
            ("\"tolerance\":0.1", "\"tolerance\":-1", "tolerance"),
            ("\"tolerance\":0.1", "\"tolerance\":2", "tolerance"),
            ("[1.0,0.5]", "[1.0,null]", "not finite"),
            ("[1.0,0.5]", "[1.0,1e200]", "out of range"),
            ("[1.0,0.5]", "[]", "empty"),
            ("\"frames\":[", "\"frame\":[", "frame"),
            ("pitlane.dev/v1", "pitlane.dev/v2", "v2"),
            ("GoldenFrames", "Golden", "Golden"),
            ("sha256:", "sha512:", "digest"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let error = GoldenFrames::read(changed.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{to}: {error}");
        }
        let mut none = golden();
        none.frames.clear();
        assert!(none.check().unwrap_err().to_string().contains("0 frames"));
    }
}
