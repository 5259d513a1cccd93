//! What a verified bundle says, and the verdict with its checks.

use serde::Serialize;

use super::refusal::BundleRefusal;
use crate::{Digest, admit::Check};

/// A bundle that verified. Only [`verify`](super::verify()) makes one.
#[derive(Clone, Debug)]
pub struct VerifiedBundle {
    pub(super) subject: Digest,
    pub(super) content: Content,
    pub(super) signer: Signer,
    pub(super) times: Vec<jiff::Timestamp>,
    pub(super) entries: usize,
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The artifact's own bytes.
    Message,
    /// An in-toto statement of which the artifact is a subject.
    Statement {
        /// The predicate type. Nothing was concluded from it: the caller has to.
        predicate_type: String,
        /// The statement's exact bytes.
        payload: Vec<u8>,
    },
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Signer {
    /// The holder of a certificate.
    Identity {
        /// The subject alternative name.
        san: String,
        /// The OIDC issuer.
        issuer: String,
    },
    /// The holder of the key with this id (SHA-256 of its `SubjectPublicKeyInfo`).
    Key(Digest),
}

impl VerifiedBundle {
    /// SHA-256 of the artifact that it is about.
    pub const fn subject(&self) -> &Digest {
        &self.subject
    }

    /// What was signed.
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// Who signed.
    pub const fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Every proven time of signing: timestamp authorities' and logs'. Empty only for a key
    /// without either.
    pub fn times(&self) -> &[jiff::Timestamp] {
        &self.times
    }

    /// How many log entries prove it.
    pub const fn log_entries(&self) -> usize {
        self.entries
    }
}

/// The answer, with every check that led to it.
#[derive(Clone, Debug)]
pub struct BundleVerdict {
    /// What was verified, or why it is refused.
    pub answer: Result<VerifiedBundle, BundleRefusal>,
    /// The checks made; the last one failed when it is a refusal.
    pub checks: Vec<Check>,
}
