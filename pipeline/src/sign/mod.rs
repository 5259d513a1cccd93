//! Signing: key files in cosign's format, the signer that holds the key in memory, and keyless.

pub mod keyfile;
pub mod keyless;
mod signer;

pub use signer::Signer;
