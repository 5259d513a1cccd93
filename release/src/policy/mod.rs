//! `Policy`: which releases a car may drive. Parsed from `policies/*.yaml`.
//!
//! The file is sigstore policy-controller's `ClusterImagePolicy`, so that one file serves the
//! car, the command line and a cluster, plus a top-level `drive:` section. Everything unknown or
//! not supported is refused by name: a rule that is silently skipped is a hole.

mod authority;
mod drive;
mod explain;
mod given;
mod glob;
mod lint;
mod resolve;
mod unsupported;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

pub use authority::{Authority, AuthorityRule, Formats, KeyRule, KeylessRule};
pub use drive::{
    DriveRules, GoldenRules, LapRules, ModelRules, ProvenanceRules, SourceRule, WorkflowRules,
};
pub use explain::explain;
pub use glob::Glob;
pub use lint::{Lint, lint};
pub use resolve::Resolve;
pub use wire::PolicyFile;

use crate::{ImageRef, key::PublicKey};

/// Largest policy file read (bytes).
pub const MAX_POLICY: usize = 256 * 1024;

/// A policy, checked and with its keys and trusted roots.
#[derive(Debug)]
pub struct Policy {
    /// `metadata.name`.
    pub name: String,
    /// Which images it speaks of.
    pub images: Vec<Glob>,
    /// Who may vouch for them; any one suffices.
    pub authorities: Vec<Authority>,
    /// Who may sign laps and nothing else; `authorities` may when it is empty.
    pub lap_authorities: Vec<Authority>,
    /// What follows from a refusal.
    pub mode: Mode,
    /// What a car asks beyond a signature.
    pub drive: Option<DriveRules>,
}

/// What follows when an image does not meet a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// People are told, and nothing is stopped. For labs and for trying a policy; no car takes
    /// one.
    Warn,
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not the format; the text names the place.
    #[error("not a policy: {0}")]
    Format(String),
    /// A field's value cannot be used.
    #[error("field `{field}`: {why}")]
    Field {
        /// The field's path.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A key is named, not written out, and was not given.
    #[error("the policy names the key `{0}`: give it with --key {0}=FILE")]
    KeyMissing(String),
    /// A trusted root is named and was not given.
    #[error("the policy names the trusted root `{0}`: give it with --trusted-root {0}=FILE")]
    RootMissing(String),
}

impl Policy {
    /// Parses a policy. `names` resolves what the policy only names: keys and trusted roots.
    pub fn parse(text: &str, names: &(impl Resolve + ?Sized)) -> Result<Self, PolicyError> {
        let file: PolicyFile = crate::yaml::read(text, MAX_POLICY)
            .map_err(|error| PolicyError::Format(error.to_string()))?;
        file.check(&|name| names.key(name), &|name| names.root(name))
    }

    /// Whether it speaks of this image.
    pub fn covers(&self, image: &ImageRef) -> bool {
        let names = [image.to_string(), image.repository.to_string()];
        self.images.iter().any(|glob| names.iter().any(|name| glob.matches(name)))
    }

    /// Who may sign laps.
    pub fn lap_authorities(&self) -> &[Authority] {
        match self.lap_authorities.is_empty() {
            true => &self.authorities,
            false => &self.lap_authorities,
        }
    }

    /// The keys of all its authorities.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.authorities.iter().filter_map(|authority| match &authority.rule {
            AuthorityRule::Key(rule) => Some(&rule.key),
            AuthorityRule::Keyless(_) | AuthorityRule::Static { .. } => None,
        })
    }
}
