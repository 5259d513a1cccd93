//! `Algorithm`: what kind of key signs, and what follows from it: the hash, and the shape of a
//! signature.
//!
//! The pairs of key and hash are those of sigstore's algorithm registry: the kind of key alone
//! decides, so that no document can ask for a weaker one.

use anyhow::bail;
use pkcs8::{
    ObjectIdentifier,
    spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef},
};
use sha2::{Digest as _, Sha256, Sha384};

/// id-ecPublicKey (RFC 5480).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1 (RFC 5480).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// secp384r1 (RFC 5480).
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// id-Ed25519 (RFC 8410).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// rsaEncryption (RFC 8017).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// The kind of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384,
    /// Ed25519, of the message itself.
    Ed25519,
    /// RSA, PKCS#1 v1.5 with SHA-256.
    Rsa,
}

/// What a message is hashed with before it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

impl Hash {
    /// Its name, as tools spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        }
    }

    /// The digest of a message.
    pub fn of(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
        }
    }
}

impl Algorithm {
    /// Of a DER `SubjectPublicKeyInfo`.
    pub fn of_public(spki: &[u8]) -> anyhow::Result<Self> {
        let parsed = SubjectPublicKeyInfoRef::try_from(spki)
            .map_err(|error| anyhow::anyhow!("not a public key: {error}"))?;
        Self::of(&parsed.algorithm)
    }

    /// Of the algorithm that a key document names.
    pub(super) fn of(named: &AlgorithmIdentifierRef<'_>) -> anyhow::Result<Self> {
        match (named.oid, named.parameters_oid()) {
            (EC, Ok(P256)) => Ok(Self::EcdsaP256),
            (EC, Ok(P384)) => Ok(Self::EcdsaP384),
            (ED25519, _) => Ok(Self::Ed25519),
            (RSA, _) => Ok(Self::Rsa),
            (EC, curve) => {
                let curve = curve.map_or_else(|_| "no name".to_owned(), |oid| oid.to_string());
                bail!("an ECDSA key on the curve {curve}; want P-256 or P-384")
            }
            (other, _) => {
                bail!("a key of the algorithm {other}; want ECDSA P-256/P-384, Ed25519 or RSA")
            }
        }
    }

    /// Its name, in output and in the environment of signers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }

    /// What the message is hashed with; nothing for keys that sign the message itself.
    pub const fn hash(self) -> Option<Hash> {
        match self {
            Self::EcdsaP256 | Self::Rsa => Some(Hash::Sha256),
            Self::EcdsaP384 => Some(Hash::Sha384),
            Self::Ed25519 => None,
        }
    }

    /// Length of a signature written as `r ‖ s` (IEEE P1363), for ECDSA.
    pub(super) const fn pair_length(self) -> Option<usize> {
        match self {
            Self::EcdsaP256 => Some(64),
            Self::EcdsaP384 => Some(96),
            Self::Ed25519 | Self::Rsa => None,
        }
    }
}
