//! Images from a Dockerfile of the car repository: the step `assemble` of pipelines with `build:`.
//!
//! A container engine runs the Dockerfile's steps, the crate `pitlane-builder` reads back what came
//! out, and the model is laid on top as the one layer of all platforms, at the same paths as in
//! images that are put together here. Nothing of the service's own is given to the engine but the
//! context, the arguments and the secrets that the pipeline file names.
//!
//! - [`Build`]: the operator's word
//! - [`assemble`]: engines, builds, images; `lay` (model and runtime on top), `look` (what is in it)
//! - `fault`: an engine's no in the words of a step

mod config;
mod fault;
mod lay;
mod look;
mod make;

pub use config::{Build, BuildLimits, ForPlatform, Reach, Which};
pub use look::{MAX_PACKAGES, packages};
pub use make::{Inputs, assemble, reachable};
