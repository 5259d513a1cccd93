//! Sigstore bundles in full: certificates, transparency logs and timestamps, without a network.
//!
//! [`verify`] takes bytes and gives a [`BundleVerdict`]. The cryptography is the `sigstore-verify`
//! library's; around it stands what that library leaves open and a car should not:
//!
//! - `json`: no key twice, bounded depth; `wire`: known fields only, one content, one material
//! - `log`: fields that repeat what a log signed must agree with it; the named log must be known
//!   and must be the one that signed the checkpoint; times that nobody signed are refused
//! - `chain`, `stamp`: certificates brought along are those of the trusted root, or are needed;
//!   nothing unsigned in a timestamp
//! - `alone`: a managed key's signature without any log, when the caller allows it
//! - `legacy`, `first_intoto`: signatures from before bundles, in cosign's `.sig` and `.att` tags
//!
//! Sources: sigstore client specification (verification, steps 0 to 8), bundle and Rekor messages
//! of the protobuf specs, C2SP signed-note, RFC 6962, RFC 3161.
//!
//! # The clock
//! `sigstore-verify` reads the system's clock by itself: a log or timestamp authority whose
//! validity has not begun is not used, and an integrated time in the future is refused. Nothing
//! else depends on it, and nothing in this module reads a clock. A car whose clock is behind
//! refuses; one whose clock runs ahead accepts nothing that a right clock would not accept later.

mod alone;
mod chain;
mod first_intoto;
mod identity;
mod json;
mod legacy;
mod log;
mod refusal;
mod root;
mod stamp;
mod statement;
mod verified;
mod verify;
mod wire;

#[cfg(test)]
mod tests;

pub use identity::{Expect, Identity, Keyless, Witness};
pub use legacy::{DSSE_LAYER, LegacyKind, legacy_by_key, legacy_kind, verify_legacy};
pub use refusal::BundleRefusal;
pub use root::{MAX_TRUST_ROOT, TrustRoot};
pub use verified::{BundleVerdict, Content, Signer, VerifiedBundle, Workflow};
pub(crate) use verify::{Parsed, verify_parsed};
pub use verify::{Subject, verify};
