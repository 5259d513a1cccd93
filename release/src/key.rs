//! `PublicKey`: a key that releases are verified with.
//!
//! ECDSA P-256 and P-384, Ed25519 and RSA (PKCS#1 v1.5) in a PEM `PUBLIC KEY` block, which is
//! what cosign writes. The scheme comes from the key, never from the signed document.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sigstore_crypto::{KeyAlgorithm, SigningScheme, VerificationKey};
use sigstore_types::{DerPublicKey, SignatureBytes};

use crate::Digest;

/// Largest key text read, in bytes (an RSA-4096 key is 800 bytes).
pub const MAX_PEM: u64 = 16 * 1024;

/// A public key that verifies signatures.
pub struct PublicKey {
    key: VerificationKey,
    spki: Vec<u8>,
}

/// Why a text is no usable public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a usable public key: {0}; want a PEM block `PUBLIC KEY` (ECDSA P-256/384, Ed25519 or RSA)"
)]
pub struct KeyError(String);

impl PublicKey {
    /// Parses a PEM text with one `PUBLIC KEY` block.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.len() as u64 > MAX_PEM {
            return Err(KeyError(format!("{} bytes", pem.len())));
        }
        let der = DerPublicKey::from_pem(pem).map_err(|error| KeyError(error.to_string()))?;
        Self::from_spki(der.as_bytes())
    }

    /// Takes a DER `SubjectPublicKeyInfo`.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let der = DerPublicKey::from_bytes(spki);
        let fail = |error: sigstore_crypto::Error| KeyError(error.to_string());
        let algorithm = KeyAlgorithm::from_spki(&der).map_err(fail)?;
        // cosign signs with RSA by PKCS#1 v1.5, which is not the default of this library.
        let scheme = match algorithm {
            KeyAlgorithm::Rsa => SigningScheme::RsaPkcs1Sha256,
            other => other.default_signing_scheme(),
        };
        let key = VerificationKey::from_spki_with_scheme(&der, scheme).map_err(fail)?;
        Ok(Self { key, spki: spki.to_vec() })
    }

    /// The DER `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key's name: SHA-256 of its `SubjectPublicKeyInfo`.
    pub fn id(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// The hint that bundles carry (sigstore bundle, `publicKey.hint`).
    pub fn hint(&self) -> String {
        STANDARD.encode(self.id().as_bytes())
    }

    /// The PEM text.
    pub fn to_pem(&self) -> String {
        DerPublicKey::from_bytes(&self.spki).to_pem()
    }

    /// Whether the signature over these bytes is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify(message, &SignatureBytes::from_bytes(signature)).is_ok()
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}
