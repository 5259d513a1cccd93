//! `Authority`: someone who may vouch for an image.

use std::sync::Arc;

use crate::{
    key::PublicKey,
    sigstore::{Expect, Keyless, TrustRoot, Witness},
};

/// Someone who may vouch for an image.
#[derive(Debug)]
pub struct Authority {
    /// Its name, for verdicts.
    pub name: String,
    /// How it vouches.
    pub rule: AuthorityRule,
    /// Predicate types of statements that must be there, signed by it. When there are any, they
    /// are what is asked for, and no signature beside them (policy-controller's semantics).
    pub attestations: Vec<String>,
    /// Which forms of signature count.
    pub formats: Formats,
}

/// How an authority vouches.
#[derive(Debug)]
pub enum AuthorityRule {
    /// By signatures of a key.
    Key(KeyRule),
    /// By signatures with a certificate for an identity.
    Keyless(KeylessRule),
    /// Whatever was signed: always yes, or always no with this message.
    Static {
        /// Yes or no.
        pass: bool,
        /// What to tell people.
        message: String,
    },
}

/// Signatures of a key.
#[derive(Debug)]
pub struct KeyRule {
    /// The key.
    pub key: PublicKey,
    /// Who else must vouch, and by which trusted root; nobody when absent.
    pub witness: Option<(Witness, Arc<TrustRoot>)>,
    /// The trusted root's name in the policy; the default one when absent.
    pub root: Option<String>,
}

/// Signatures with a certificate.
#[derive(Debug)]
pub struct KeylessRule {
    /// Who, and what must vouch for it.
    pub expect: Expect,
    /// The authorities and logs that count.
    pub root: Arc<TrustRoot>,
    /// Its name in the policy; the default one when absent.
    pub name: Option<String>,
}

impl KeylessRule {
    /// The identities and demands.
    pub const fn keyless(&self) -> Option<&Keyless> {
        match &self.expect {
            Expect::Keyless(keyless) => Some(keyless),
            Expect::Key { .. } => None,
        }
    }
}

/// Which forms of signature count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Formats {
    /// Sigstore bundles, and cosign's `.sig` and `.att` tags.
    #[default]
    Any,
    /// Bundles alone.
    Bundle,
    /// The tags alone.
    Legacy,
}

impl Formats {
    /// Whether bundles count.
    pub const fn bundles(self) -> bool {
        matches!(self, Self::Any | Self::Bundle)
    }

    /// Whether the tags count.
    pub const fn legacy(self) -> bool {
        matches!(self, Self::Any | Self::Legacy)
    }
}
