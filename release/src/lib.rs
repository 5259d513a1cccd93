//! What a release is, and when it may drive.
//!
//! Pure values and decisions: this crate opens no file or socket, starts nothing, and takes the
//! time as a parameter. Both sides of the lane use it, so that the pipeline judges its own output
//! by the code that the car runs.
//!
//! # Modules
//! - words: [`causes`](fn@causes)
//! - names: [`digest`], [`reference`](mod@reference), [`source`], [`platform`], [`counter`]
//! - formats: [`oci`], [`model`], [`facts`], [`golden`], [`statement`], [`lap`], [`provenance`],
//!   [`yaml`]
//! - signatures (feature `crypto`): [`key`], [`bundle`], [`simple`], [`sigstore`], [`matcher`]
//! - admission (feature `crypto`): [`policy`], [`evidence`], [`admit`](mod@admit), [`refusal`],
//!   [`Check`], [`vsa`]

#[cfg(feature = "crypto")]
pub mod admit;
#[cfg(feature = "crypto")]
pub mod bundle;
mod causes;
#[cfg(feature = "crypto")]
mod check;
pub mod counter;
pub mod digest;
pub mod evidence;
pub mod facts;
pub mod golden;
#[cfg(feature = "crypto")]
pub mod key;
pub mod lap;
#[cfg(feature = "crypto")]
pub mod matcher;
pub mod model;
pub mod oci;
pub mod platform;
#[cfg(feature = "crypto")]
pub mod policy;
pub mod provenance;
pub mod reference;
pub mod refusal;
#[cfg(feature = "crypto")]
pub mod sigstore;
pub mod simple;
pub mod source;
pub mod statement;
mod text;
#[cfg(feature = "crypto")]
pub mod vsa;
pub mod yaml;

pub use causes::causes;
#[cfg(feature = "crypto")]
pub use check::Check;
pub use counter::{Counter, Floor};
pub use digest::Digest;
pub use model::ModelCard;
pub use platform::Platform;
pub use reference::{ImageRef, PinnedImage, Repository};
pub use source::{CarKind, Commit, ReleaseTag, RepoName};

#[cfg(feature = "crypto")]
pub use admit::{Verdict, Verified, admit};
pub use evidence::{Evidence, Question};
#[cfg(feature = "crypto")]
pub use policy::Policy;
pub use refusal::Refusal;
