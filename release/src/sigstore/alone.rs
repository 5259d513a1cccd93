//! A managed key's signature with nothing beside it: no log entry, no timestamp.
//!
//! The library refuses these. The pipeline makes them, as does `cosign sign --key` without a log.
//! Only [`Witness::NONE`](super::Witness::NONE) leads here.

use sigstore_crypto::{KeyAlgorithm, SigningScheme, verify_signature, verify_signature_prehashed};
use sigstore_types::{
    Bundle, DerPublicKey, HashAlgorithm, MediaType, Sha256Hash, SignatureContent, Statement,
    bundle::MessageSignature,
};

use super::{refusal::BundleRefusal, verify::Subject};

/// Verifies the signature with the key, and that it is about the subject.
pub(super) fn verify(
    bundle: &Bundle,
    statement: Option<&Statement>,
    key: &DerPublicKey,
    subject: Subject<'_>,
) -> Result<(), BundleRefusal> {
    if bundle.media_type != MediaType::Bundle0_3 {
        return Err(BundleRefusal::NotLogged("bundles before v0.3 need an entry".into()));
    }
    let algorithm = KeyAlgorithm::from_spki(key)
        .map_err(|error| BundleRefusal::Signature(error.to_string()))?;
    match (&bundle.content, statement) {
        (SignatureContent::MessageSignature(message), _) => {
            by_message(message, key, algorithm, subject)
        }
        (SignatureContent::DsseEnvelope(envelope), Some(statement)) => {
            let scheme = algorithm.default_signing_scheme();
            verify_signature(key, &envelope.pae(), &envelope.signature.sig, scheme)
                .map_err(|error| BundleRefusal::Signature(error.to_string()))?;
            if statement.matches_sha256(&Sha256Hash::new(*subject.digest().as_bytes())) {
                Ok(())
            } else {
                Err(BundleRefusal::OtherArtifact(
                    "no subject of the statement has its digest".into(),
                ))
            }
        }
        _ => Err(BundleRefusal::Unsupported("its content".into())),
    }
}

fn by_message(
    message: &MessageSignature,
    key: &DerPublicKey,
    algorithm: KeyAlgorithm,
    subject: Subject<'_>,
) -> Result<(), BundleRefusal> {
    let digest = subject.digest();
    let mut scheme = algorithm.default_signing_scheme();
    if let Some(claimed) = &message.message_digest {
        if claimed.algorithm != HashAlgorithm::Sha2256 {
            let why = format!("a message digest by {}", claimed.algorithm);
            return Err(BundleRefusal::Unsupported(why));
        }
        if claimed.digest.as_bytes() != digest.as_bytes() {
            return Err(BundleRefusal::OtherArtifact("the message digest is another".into()));
        }
        scheme = algorithm
            .resolve_signing_scheme(claimed.algorithm)
            .map_err(|error| BundleRefusal::Unsupported(error.to_string()))?;
    }
    let verified = match subject {
        Subject::Bytes(bytes) => verify_signature(key, bytes, &message.signature, scheme),
        Subject::Digest(_) if scheme.hash_algorithm() == Some(HashAlgorithm::Sha2256) => {
            verify_signature_prehashed(key, digest.as_bytes(), &message.signature, scheme)
        }
        Subject::Digest(_) => return Err(needs_file(scheme)),
    };
    verified.map_err(|error| BundleRefusal::Signature(error.to_string()))
}

fn needs_file(scheme: SigningScheme) -> BundleRefusal {
    BundleRefusal::NeedsFile(format!("{} signs something else", scheme.name()))
}
