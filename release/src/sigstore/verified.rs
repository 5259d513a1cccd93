//! What a verified bundle says, and the verdict with its checks.

use serde::Serialize;
use sigstore_crypto::x509::FulcioCiClaims;

use super::refusal::BundleRefusal;
use crate::{Check, Digest};

/// A bundle that verified. Only [`verify`](super::verify()) makes one.
#[derive(Clone, Debug)]
pub struct VerifiedBundle {
    pub(super) subject: Digest,
    pub(super) content: Content,
    pub(super) signer: Signer,
    pub(super) workflow: Option<Workflow>,
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

/// What a certificate says of the CI run that it was issued to (Fulcio's extensions
/// 1.3.6.1.4.1.57264.1.9 to .22, `docs/oid-info.md` of sigstore/fulcio; GitHub fills them all).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workflow {
    /// The repository that was built: a URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The ref that was built: `refs/tags/…`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The commit that was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The event that started it: `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// Whose machine ran it: `github-hosted`, `self-hosted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// The workflow file, with its ref.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// The run's page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl Workflow {
    pub(super) fn of(claims: &FulcioCiClaims) -> Self {
        Self {
            repository: claims.source_repository_uri.clone(),
            reference: claims.source_repository_ref.clone(),
            commit: claims.source_repository_digest.clone(),
            trigger: claims.build_trigger.clone(),
            runner: claims.runner_environment.clone(),
            config: claims.build_config_uri.clone(),
            run: claims.run_invocation_uri.clone(),
        }
    }
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

    /// What the certificate says of the CI run that signed, when it was one.
    pub const fn workflow(&self) -> Option<&Workflow> {
        self.workflow.as_ref()
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
