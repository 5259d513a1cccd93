//! Signing: key files in cosign's format, and the signer that holds the key in memory.

pub mod keyfile;
mod signer;

pub use signer::Signer;
