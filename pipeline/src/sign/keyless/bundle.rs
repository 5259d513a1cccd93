//! The bundle: what is signed, put together with everything that proves it, in version 0.3.

use pitlane_release::{Digest, statement::PAYLOAD_TYPE};
use serde_json::Value;
use sigstore_bundle::{BundleV03, VerificationMaterialV03};
use sigstore_crypto::KeyPair;
use sigstore_types::{
    DerCertificate, DsseEnvelope, DsseSignature, HashAlgorithm, KeyId, PayloadBytes, Sha256Hash,
    SignatureBytes, SignatureContent, TimestampToken, TransparencyLogEntry,
    bundle::{MessageDigest, MessageSignature},
};

use super::error::KeylessError;

/// Largest statement signed (bytes); base64 makes it a third larger, and bundles are read up to
/// 4 MiB.
pub const MAX_STATEMENT: u64 = 2 * 1024 * 1024;

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    /// Bytes with this SHA-256.
    Message(Digest),
    /// An in-toto statement.
    Statement {
        /// Its exact bytes.
        payload: &'a [u8],
        /// One of its subjects.
        subject: Digest,
    },
}

impl<'a> Content<'a> {
    /// A statement. What it says is the caller's; it must name a subject by its SHA-256, since a
    /// bundle about nothing verifies for nobody.
    pub(super) fn statement(payload: &'a [u8]) -> Result<Self, KeylessError> {
        let fail = |why: String| KeylessError::Content(format!("not an in-toto statement: {why}"));
        if payload.len() as u64 > MAX_STATEMENT {
            return Err(fail(format!("{} bytes, at most {MAX_STATEMENT}", payload.len())));
        }
        let value: Value =
            serde_json::from_slice(payload).map_err(|error| fail(error.to_string()))?;
        let subjects = value["subject"].as_array().into_iter().flatten();
        let subject = subjects
            .filter_map(|subject| subject["digest"]["sha256"].as_str())
            .find_map(|hex| format!("sha256:{hex}").parse().ok());
        let subject = subject.ok_or_else(|| fail("no subject with a SHA-256 digest".into()))?;
        Ok(Self::Statement { payload, subject })
    }

    /// What the bundle will be about.
    pub(super) const fn subject(&self) -> Digest {
        match self {
            Self::Message(digest) => *digest,
            Self::Statement { subject, .. } => *subject,
        }
    }

    /// The SHA-256 that the key signs.
    pub(super) fn digest(&self) -> Sha256Hash {
        let digest = match self {
            Self::Message(digest) => *digest,
            Self::Statement { payload, .. } => {
                Digest::of(sigstore_types::pae(PAYLOAD_TYPE, payload))
            }
        };
        Sha256Hash::new(*digest.as_bytes())
    }

    /// Signs it, in the form that the bundle has.
    pub(super) fn sign(&self, pair: &KeyPair) -> Result<SignatureContent, KeylessError> {
        let digest = self.digest();
        let signature = pair.sign_digest(&digest)?;
        Ok(match self {
            Self::Message(_) => SignatureContent::MessageSignature(
                MessageSignature::new(signature)
                    .with_message_digest(MessageDigest::new(HashAlgorithm::Sha2256, digest.into())),
            ),
            Self::Statement { payload, .. } => SignatureContent::DsseEnvelope(DsseEnvelope::new(
                PAYLOAD_TYPE.to_owned(),
                PayloadBytes::from_bytes(payload),
                DsseSignature::new(signature, KeyId::default()),
            )),
        })
    }
}

/// The signature in a bundle's content.
pub(super) fn signature(content: &SignatureContent) -> Result<&SignatureBytes, KeylessError> {
    match content {
        SignatureContent::MessageSignature(message) => Ok(&message.signature),
        SignatureContent::DsseEnvelope(envelope) => Ok(&envelope.signature.sig),
        _ => Err(KeylessError::Content("an unknown kind of signature".into())),
    }
}

/// Puts a bundle together: the certificate alone, without its chain.
pub(super) fn assemble(
    certificate: DerCertificate,
    content: SignatureContent,
    stamps: Vec<TimestampToken>,
    entries: Vec<TransparencyLogEntry>,
) -> Result<Vec<u8>, KeylessError> {
    let mut bundle = BundleV03::new(VerificationMaterialV03::Certificate(certificate), content);
    for stamp in stamps {
        bundle = bundle.with_rfc3161_timestamp(stamp);
    }
    for entry in entries {
        bundle = bundle.with_tlog_entry(entry);
    }
    let json = bundle.into_bundle().to_json();
    json.map(String::into_bytes).map_err(|error| KeylessError::Content(error.to_string()))
}
