//! Signing: key files, the programs that sign instead of them, and what is signed for old readers.
//!
//! - who signs: [`Signer`], opened from a [`KeySource`] of a pipeline file
//! - without a key to keep: [`keyless`]
//! - a process of its own that holds the key: [`apart`]
//! - key files: [`private_key`] (every kind that is read), [`keyfile`] (cosign's format)
//! - [`sigtag`]: cosign's `.sig` tags

mod algorithm;
pub mod apart;
mod external;
mod held;
pub mod keyfile;
pub mod keyless;
pub mod private_key;
mod process;
mod redact;
mod signer;
pub mod sigtag;
mod source;
#[cfg(test)]
mod tests;

pub use algorithm::{Algorithm, Hash};
pub(crate) use external::read_public;
pub use signer::Signer;
pub use source::{CommandOptions, Input, KeySource};
