//! `Held`: a private key in this process's memory.

use anyhow::Context as _;
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use pitlane_release::key::PublicKey;
use pkcs8::PrivateKeyInfo;

use super::algorithm::Algorithm;

/// A key that signs here. The library wipes it when it is dropped.
pub(super) enum Held {
    /// ECDSA, with the hash of its curve.
    Ecdsa(EcdsaKeyPair),
    /// Ed25519.
    Ed25519(Ed25519KeyPair),
    /// RSA, PKCS#1 v1.5 with SHA-256.
    Rsa(RsaKeyPair),
}

impl Held {
    /// Takes a PKCS#8 private key (DER).
    pub(super) fn from_pkcs8(der: &[u8]) -> anyhow::Result<Self> {
        // Its own text could hold bytes of the key.
        let info = PrivateKeyInfo::try_from(der).map_err(|_| anyhow::anyhow!("not PKCS#8"))?;
        let algorithm = Algorithm::of(&info.algorithm)?;
        let made = match algorithm {
            Algorithm::EcdsaP256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map(Self::Ecdsa)
            }
            Algorithm::EcdsaP384 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, der).map(Self::Ecdsa)
            }
            Algorithm::Ed25519 => Ed25519KeyPair::from_pkcs8(der).map(Self::Ed25519),
            Algorithm::Rsa => RsaKeyPair::from_pkcs8(der).map(Self::Rsa),
        };
        made.map_err(|why| anyhow::anyhow!("the {} key cannot be used: {why}", algorithm.name()))
    }

    /// The public half.
    pub(super) fn public(&self) -> anyhow::Result<PublicKey> {
        let spki: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Ecdsa(pair) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
            Self::Rsa(pair) => pair.public_key().as_der(),
        };
        let spki = spki.map_err(|_| anyhow::anyhow!("the public half cannot be written"))?;
        Ok(PublicKey::from_spki(spki.as_ref())?)
    }

    /// Signs a message: DER for ECDSA, plain bytes for the others.
    pub(super) fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ecdsa(pair) => pair.sign(&random, message).map(|s| s.as_ref().to_vec()),
            Self::Ed25519(pair) => pair.try_sign(message).map(|s| s.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let done = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                done.map(|()| signature)
            }
        };
        signature.ok().context("the cryptographic library did not sign")
    }
}
