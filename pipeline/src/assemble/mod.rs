//! Assembles car images: base ⊕ runtime ⊕ model, as OCI layers, without a container engine.
//!
//! The same inputs give the same digests on any machine and day: entries are sorted, owned by
//! root, dated by the epoch, and compressed by the library this program was built with. The model
//! layer is not compressed (weights do not shrink) and carries nothing of a platform, so it is
//! one blob for all of them, uploaded and downloaded once.

pub mod base;
pub mod crates;
pub mod image;
pub mod layer;
pub mod origin;
pub mod parts;
mod seen;

pub use image::{Assembled, Built, Inputs, assemble};
pub use layer::{Blob, Place};
pub use origin::{Origin, Parts};
