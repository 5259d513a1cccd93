//! Models of other frameworks: the step `model` has them turned into ONNX before it inspects them.
//!
//! The file in the repository may be a program (a pickle is one), so it is loaded in the converter's
//! container alone, which has nothing ([`pitlane_builder::convert`]). What comes out is a stranger's
//! ONNX file; it is inspected like any other, and nothing after this step sees the original.
//!
//! - [`Convert`]: the operator's word; the card says shape, outputs, and the class where the file
//!   does not
//! - [`convert`]: file and card → `model.onnx` and [`Conversion`], for provenance and attestation

mod config;
mod request;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use pitlane_builder::convert::{self as builder, ConvertError, Outcome};
use pitlane_release::{Digest, ModelCard, facts::Conversion};

pub use config::{Convert, ConvertLimits, Framework, Samples};
pub use request::request;

use crate::{assemble::layer::write_atomically, engine, lane::StepError};

/// What is converted.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The operator's word.
    pub convert: &'a Convert,
    /// The file in the repository.
    pub original: &'a Path,
    /// Its path there, for messages.
    pub shown: &'a str,
    /// The model's card.
    pub card: &'a ModelCard,
    /// Name → file, of its Python modules.
    pub code: &'a BTreeMap<String, PathBuf>,
    /// Largest model that goes in and comes out (bytes).
    pub max_bytes: u64,
    /// Where the ONNX file goes.
    pub target: &'a Path,
    /// The run: the container is called by it.
    pub run: &'a str,
}

/// Converts a model. Dropping the future takes the container away.
pub async fn convert(inputs: &Inputs<'_>) -> Result<Conversion, StepError> {
    let Inputs { convert, card, shown, .. } = inputs;
    let request = request(convert, card).map_err(|error| {
        let hint = "mend `spec.model.convert` of the pipeline file, or the model's card";
        StepError::new("convert-request", format!("{shown}: {error:#}"), hint)
    })?;
    let class = convert.class(card).map(str::to_owned);
    let (samples, tolerance) = (request.samples.count, request.tolerance);
    let conversion = builder::Conversion {
        request,
        model: inputs.original.into(),
        code: inputs.code.clone(),
        image: convert.image(),
        limits: convert.limits.of(inputs.max_bytes),
        name: Some(inputs.run.to_owned()),
    };
    let engine = convert.engine.connect().await?;
    let made = engine.convert(&conversion).await.map_err(|error| fault(&error, shown))?;
    let Outcome::Converted { max_difference, versions, .. } = made.answer.outcome else {
        let why = format!("{shown}: the converter gave no file");
        return Err(StepError::new("convert-failed", why, "look at the converter's image"));
    };
    let (target, onnx) = (inputs.target.to_owned(), made.onnx);
    let written = tokio::task::spawn_blocking(move || write_atomically(&target, &onnx)).await;
    let written = written.map_err(std::io::Error::other).and_then(|done| done);
    written.with_context(|| inputs.target.display().to_string()).map_err(|error| file(&error))?;
    let code = inputs.code.iter().map(|(name, path)| {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        Ok((name.clone(), Digest::of(bytes)))
    });
    Ok(Conversion {
        framework: convert.framework.name().to_owned(),
        class: class.filter(|_| convert.framework == Framework::Pytorch),
        original: made.original,
        code: code.collect::<anyhow::Result<_>>().map_err(|error| file(&error))?,
        converter: made.image,
        samples,
        max_difference,
        tolerance,
        versions,
    })
}

fn file(error: &anyhow::Error) -> StepError {
    StepError::new(
        "convert-file",
        format!("{error:#}"),
        "look at the disk, then `pitlane runs retry`",
    )
}

/// A failed conversion as the error of a step.
fn fault(error: &ConvertError, shown: &str) -> StepError {
    let why = format!("{shown}: {}", engine::chain(error));
    let limit = "raise `spec.model.convert.limits`, or make the model smaller, and push a new tag";
    match error {
        ConvertError::Refused { code, .. } => {
            let hint = "mend the model and push a new tag (docs/builders.md#conversions)";
            StepError::new(format!("convert-{code}"), why, hint).refusal()
        }
        ConvertError::NoAnswer { .. } => {
            let hint = "mend the model and push a new tag; is it of that framework?";
            StepError::new("convert-no-answer", why, hint).refusal()
        }
        ConvertError::TimedOut { .. } => StepError::new("convert-time", why, limit),
        ConvertError::OutOfMemory { .. } => StepError::new("convert-memory", why, limit),
        ConvertError::TooMuchOutput { .. } => StepError::new("convert-size", why, limit),
        ConvertError::ImageMissing { .. } => {
            let hint = "make it with scripts/converters.sh on the engine's host, then retry";
            StepError::new("converter-missing", why, hint)
        }
        ConvertError::Request(_) => {
            let hint = "mend `spec.model.convert` of the pipeline file, or the model's card";
            StepError::new("convert-request", why, hint)
        }
        ConvertError::Engine(_) => {
            let hint = "look at the engine; it is asked again, or `pitlane runs retry`";
            StepError::new("engine-failed", why, hint).retryable()
        }
        _ => StepError::new("convert-file", why, "look at the file, then `pitlane runs retry`"),
    }
}
