//! Sigstore bundles signed with a key: the envelope around every statement.
//!
//! Source: sigstore bundle v0.3, DSSE v1. What cosign 3 writes and reads. Bundles with
//! certificates parse too; here only keys are tried on them ([`sigstore`](crate::sigstore) judges
//! certificates).

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sigstore_types::{
    Bundle as WireBundle, DsseEnvelope, DsseSignature, HashAlgorithm, KeyId, MediaType,
    PayloadBytes, SignatureBytes, SignatureContent, VerificationMaterial,
    bundle::{MessageDigest, MessageSignature, PublicKeyIdentifier, VerificationMaterialContent},
};

use crate::{key::PublicKey, sigstore::Parsed, statement::PAYLOAD_TYPE};

/// Media type of a bundle, and the artifact type of its referrer manifest.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Largest bundle read (bytes); an SBOM of a car image is two orders smaller.
pub const MAX_BUNDLE: u64 = 4 * 1024 * 1024;

/// A parsed bundle over an in-toto statement. Nothing in it is trusted until
/// [`Bundle::verify`] gives the payload out.
#[derive(Clone, Debug)]
pub struct Bundle {
    pae: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    hint: Option<String>,
    parsed: Arc<Parsed>,
}

/// Why bytes are no bundle we judge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not the format.
    #[error("not a sigstore bundle: {0}")]
    Format(String),
    /// The envelope holds no in-toto statement.
    #[error("the bundle holds `{0}`, want an in-toto statement in a DSSE envelope")]
    Content(String),
}

/// What a signature turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed<'a> {
    /// This key signed these bytes.
    By(&'a PublicKey, &'a [u8]),
    /// It names one of the keys, but the signature does not fit: the bytes were altered.
    Altered,
    /// None of the keys signed it.
    ByNobodyKnown,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for PublicKey {}

impl Bundle {
    /// Reads a bundle.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let parsed = Parsed::read(bytes).map_err(|error| BundleError::Format(error.to_string()))?;
        let wire = &parsed.bundle;
        let SignatureContent::DsseEnvelope(envelope) = &wire.content else {
            return Err(BundleError::Content("a message signature".into()));
        };
        if envelope.payload_type != PAYLOAD_TYPE {
            let shown = envelope.payload_type.chars().take(80).collect();
            return Err(BundleError::Content(shown));
        }
        let hint = match &wire.verification_material.content {
            VerificationMaterialContent::PublicKey(key) => Some(key.hint.clone()),
            _ => None,
        };
        Ok(Self {
            pae: envelope.pae(),
            payload: envelope.payload.as_bytes().to_vec(),
            signature: envelope.signature.sig.as_bytes().to_vec(),
            hint,
            parsed: Arc::new(parsed),
        })
    }

    /// Finds the key that signed it. Only then the payload is worth reading.
    pub fn verify<'a>(&'a self, keys: impl IntoIterator<Item = &'a PublicKey>) -> Signed<'a> {
        let mut named = false;
        for key in keys {
            if key.verifies(&self.pae, &self.signature) {
                return Signed::By(key, &self.payload);
            }
            named |= self.hint.as_deref() == Some(&key.hint());
        }
        if named { Signed::Altered } else { Signed::ByNobodyKnown }
    }

    /// The bundle as it was read, for what a key alone does not decide.
    pub(crate) fn parsed(&self) -> &Parsed {
        &self.parsed
    }

    /// The payload, unverified: for finding out what to fetch, and for messages.
    pub fn untrusted_payload(&self) -> &[u8] {
        &self.payload
    }
}

/// Makes the bundle of a payload that `sign` signs: gets the pre-authentication encoding, gives
/// the signature.
pub fn seal<E>(
    payload: &[u8],
    key_hint: &str,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let signature = sign(&sigstore_types::pae(PAYLOAD_TYPE, payload))?;
    let envelope = DsseEnvelope::new(
        PAYLOAD_TYPE.to_owned(),
        PayloadBytes::from_bytes(payload),
        DsseSignature::new(SignatureBytes::from_bytes(&signature), KeyId::default()),
    );
    Ok(written(key_hint, SignatureContent::DsseEnvelope(envelope)))
}

/// The bundle of a file's own signature, by a key with this hint.
pub fn seal_message(digest: crate::Digest, signature: &[u8], key_hint: &str) -> Vec<u8> {
    let said = MessageDigest::new(HashAlgorithm::Sha2256, digest.as_bytes().to_vec().into());
    let message = MessageSignature::new(SignatureBytes::from_bytes(signature));
    let content = SignatureContent::MessageSignature(message.with_message_digest(said));
    written(key_hint, content)
}

fn written(key_hint: &str, content: SignatureContent) -> Vec<u8> {
    let material = VerificationMaterial::new(VerificationMaterialContent::PublicKey(
        PublicKeyIdentifier::new(key_hint),
    ));
    let bundle = WireBundle::new(MediaType::Bundle0_3, material, content);
    serde_json::to_vec(&bundle).expect("a bundle is plain JSON")
}

/// The hint of a key given by its `SubjectPublicKeyInfo`.
pub fn hint_of(spki: &[u8]) -> String {
    STANDARD.encode(crate::Digest::of(spki).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sigstore_crypto::KeyPair;

    fn pair() -> (KeyPair, PublicKey) {
        let pair = KeyPair::generate_ecdsa_p256().unwrap();
        let public = PublicKey::from_spki(pair.public_key_der().unwrap().as_bytes()).unwrap();
        (pair, public)
    }

    fn sealed(pair: &KeyPair, key: &PublicKey, payload: &[u8]) -> Vec<u8> {
        seal(payload, &key.hint(), |pae| pair.sign(pae).map(|s| s.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn only_the_signer_and_only_the_bytes() {
        let (pair, key) = pair();
        let (_, other) = self::pair();
        let bytes = sealed(&pair, &key, b"{\"a\":1}");
        let bundle = Bundle::parse(&bytes).unwrap();
        assert_eq!(bundle.verify([&other, &key]), Signed::By(&key, b"{\"a\":1}"));
        assert_eq!(bundle.verify([&other]), Signed::ByNobodyKnown);
        assert_eq!(bundle.verify([]), Signed::ByNobodyKnown);

        let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        value["dsseEnvelope"]["payload"] = STANDARD.encode(b"{\"a\":2}").into();
        let altered = Bundle::parse(value.to_string().as_bytes()).unwrap();
        assert_eq!(altered.verify([&other, &key]), Signed::Altered);
    }

    #[test]
    fn malformed_bundles_are_refused() {
        let (pair, key) = pair();
        let good: serde_json::Value = serde_json::from_slice(&sealed(&pair, &key, b"{}")).unwrap();
        type Edit = fn(&mut serde_json::Value);
        let table: [(&str, Edit); 5] = [
            ("media type", |v| v["mediaType"] = "application/x".into()),
            ("both", |v| v["messageSignature"] = serde_json::json!({"signature": "AA=="})),
            ("payload type", |v| v["dsseEnvelope"]["payloadType"] = "text/plain".into()),
            ("no signature", |v| v["dsseEnvelope"]["signatures"] = serde_json::json!([])),
            ("no material", |v| v["verificationMaterial"] = serde_json::json!({})),
        ];
        for (name, edit) in table {
            let mut value = good.clone();
            edit(&mut value);
            assert!(Bundle::parse(value.to_string().as_bytes()).is_err(), "{name}");
        }
        assert!(Bundle::parse(b"{").is_err());
        assert!(Bundle::parse(&[0xff; 10]).is_err());
        assert!(Bundle::parse("[".repeat(20_000).as_bytes()).is_err());
    }
}
