//! `PublicKey`: a key that releases are verified with.
//!
//! ECDSA P-256 and P-384, Ed25519 and RSA (PKCS#1 v1.5) in a PEM `PUBLIC KEY` block, which is
//! what cosign writes. The scheme comes from the key, never from the signed document.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sigstore_crypto::{KeyAlgorithm, SigningScheme, VerificationKey};
use sigstore_types::{DerPublicKey, SignatureBytes};

use crate::Digest;

/// Largest key text read, in bytes (an RSA-4096 key is 800 bytes).
pub const MAX_PEM: u64 = 16 * 1024;

/// A public key that verifies signatures. Cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    /// One for each hash that may go with the key.
    keys: Vec<VerificationKey>,
    spki: Vec<u8>,
}

/// The hash that goes with a key, where a policy says so (`key.hashAlgorithm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
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

    /// Takes a DER `SubjectPublicKeyInfo`, with the hashes that signers use with such a key:
    /// SHA-256, and SHA-384 too for P-384, where tools differ.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let der = DerPublicKey::from_bytes(spki);
        let schemes: &[SigningScheme] = match algorithm(&der)? {
            // cosign signs with RSA by PKCS#1 v1.5.
            KeyAlgorithm::Rsa => &[SigningScheme::RsaPkcs1Sha256],
            KeyAlgorithm::EcdsaP384 => {
                &[SigningScheme::EcdsaP384Sha384, SigningScheme::EcdsaP384Sha256]
            }
            other => &[other.default_signing_scheme()],
        };
        Self::with(&der, schemes)
    }

    /// The same key with this hash alone.
    pub fn with_hash(&self, hash: KeyHash) -> Result<Self, KeyError> {
        use SigningScheme as Scheme;
        let der = DerPublicKey::from_bytes(&self.0.spki);
        let scheme = match (algorithm(&der)?, hash) {
            (KeyAlgorithm::EcdsaP256, KeyHash::Sha256) => Scheme::EcdsaP256Sha256,
            (KeyAlgorithm::EcdsaP256, KeyHash::Sha384) => Scheme::EcdsaP256Sha384,
            (KeyAlgorithm::EcdsaP384, KeyHash::Sha256) => Scheme::EcdsaP384Sha256,
            (KeyAlgorithm::EcdsaP384, KeyHash::Sha384) => Scheme::EcdsaP384Sha384,
            (KeyAlgorithm::Rsa, KeyHash::Sha256) => Scheme::RsaPkcs1Sha256,
            (KeyAlgorithm::Rsa, KeyHash::Sha384) => Scheme::RsaPkcs1Sha384,
            (KeyAlgorithm::Rsa, KeyHash::Sha512) => Scheme::RsaPkcs1Sha512,
            (other, _) => {
                return Err(KeyError(format!("a key {other:?} with the hash {hash:?}")));
            }
        };
        Self::with(&der, &[scheme])
    }

    fn with(der: &DerPublicKey, schemes: &[SigningScheme]) -> Result<Self, KeyError> {
        let keys = schemes.iter().map(|scheme| {
            VerificationKey::from_spki_with_scheme(der, *scheme)
                .map_err(|error| KeyError(error.to_string()))
        });
        let keys = keys.collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Inner { keys, spki: der.as_bytes().to_vec() })))
    }

    /// The DER `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// Whether it is an Ed25519 key, whose signatures have no choice of a hash.
    pub fn is_ed25519(&self) -> bool {
        algorithm(&DerPublicKey::from_bytes(&self.0.spki)) == Ok(KeyAlgorithm::Ed25519)
    }

    /// The key's name: SHA-256 of its `SubjectPublicKeyInfo`.
    pub fn id(&self) -> Digest {
        Digest::of(&self.0.spki)
    }

    /// The hint that bundles carry (sigstore bundle, `publicKey.hint`).
    pub fn hint(&self) -> String {
        STANDARD.encode(self.id().as_bytes())
    }

    /// The PEM text.
    pub fn to_pem(&self) -> String {
        DerPublicKey::from_bytes(&self.0.spki).to_pem()
    }

    /// Whether the signature over these bytes is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = SignatureBytes::from_bytes(signature);
        self.0.keys.iter().any(|key| key.verify(message, &signature).is_ok())
    }
}

fn algorithm(der: &DerPublicKey) -> Result<KeyAlgorithm, KeyError> {
    KeyAlgorithm::from_spki(der).map_err(|error| KeyError(error.to_string()))
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}
