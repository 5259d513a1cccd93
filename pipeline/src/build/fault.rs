//! What an engine's no means for a run: code, words, next step, and whether it may pass.

use std::path::Path;

use pitlane_builder::BuildError;
use pitlane_release::Platform;

use crate::{engine, lane::StepError};

/// A failed build as the error of a step.
pub(super) fn of(error: &BuildError, platform: Platform, log: &Path) -> StepError {
    let why = format!("{platform}: {}", engine::chain(error));
    let (code, hint) = match error {
        BuildError::Host(error) => return engine::no_answer(error),
        BuildError::Engine { .. } => {
            let hint = "look at the engine; it is asked again, or `pitlane runs retry`";
            return StepError::new("engine-failed", why, hint).retryable();
        }
        BuildError::Context(_) => {
            let hint = "mend the context in the car repository and push a new tag";
            return StepError::new("context-refused", why, hint).refusal();
        }
        BuildError::Dockerfile(_) => {
            let hint =
                "mend the Dockerfile and push a new tag (docs/builders.md says what is read)";
            return StepError::new("dockerfile-refused", why, hint).refusal();
        }
        BuildError::Saved(_) => {
            ("image-refused", "see docs/builders.md, or raise `spec.build.limits`")
        }
        BuildError::BaseMissing { .. } => {
            ("base-missing", "pull or load it on the engine's host, then `pitlane runs retry`")
        }
        BuildError::TimedOut { .. } => {
            ("build-time", "raise `spec.build.limits.seconds`, or make the Dockerfile shorter")
        }
        BuildError::Unsupported { .. } => {
            ("build-unsupported", "change `spec.build`, or the Dockerfile")
        }
        BuildError::Failed { .. } => {
            let why = format!("{why}; log: {}", log.display());
            let hint = "mend the Dockerfile and push a new tag, or try `pitlane release --dry-run`";
            return StepError::new("build-failed", why, hint);
        }
        _ => ("build-file", "look at the file, then `pitlane runs retry`"),
    };
    StepError::new(code, why, hint)
}
