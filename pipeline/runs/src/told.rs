//! `Told`: what a refused request is told, over HTTP and on the command line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a refused request is told. `code` is stable and for programs, the rest for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Told {
    /// Stable, lower-case words joined by `-`.
    pub code: String,
    /// What happened, with the value that caused it.
    pub message: String,
    /// The next step.
    #[serde(default)]
    pub hint: String,
}
