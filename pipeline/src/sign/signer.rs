//! `Signer`: a private key in memory that seals statements into bundles.

use std::path::Path;

use anyhow::Context as _;
use pitlane_release::{bundle, key::PublicKey};
use sigstore_crypto::KeyPair;

use super::keyfile;
use crate::config;

/// Holds a decrypted key. Decrypting costs a fifth of a second on purpose, so a service does it
/// once, at its start.
pub struct Signer {
    pair: KeyPair,
    public: PublicKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.public.id())
    }
}

impl Signer {
    /// Opens a key file. The password comes from its file, else from `COSIGN_PASSWORD`.
    pub fn open(key: &Path, password_file: Option<&Path>) -> anyhow::Result<Self> {
        let pem = config::read_secret(key)?;
        let password = match password_file {
            Some(file) => config::read_secret(file)?,
            None => std::env::var("COSIGN_PASSWORD")
                .map(zeroize::Zeroizing::new)
                .context("no password: name `passwordFile`, or set COSIGN_PASSWORD")?,
        };
        let der = keyfile::decrypt(&pem, &password)
            .with_context(|| format!("{}: cannot be opened", key.display()))?;
        Self::from_pkcs8(&der)
    }

    /// Takes a PKCS#8 private key.
    pub fn from_pkcs8(der: &[u8]) -> anyhow::Result<Self> {
        let pair = KeyPair::from_pkcs8_der(der)?;
        let public = PublicKey::from_spki(pair.public_key_der()?.as_bytes())?;
        Ok(Self { pair, public })
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Seals a statement into a sigstore bundle.
    pub fn seal(&self, statement: &impl serde::Serialize) -> anyhow::Result<Vec<u8>> {
        let payload = serde_json::to_vec(statement)?;
        bundle::seal(&payload, &self.public.hint(), |pae| {
            Ok(self.pair.sign(pae)?.as_bytes().to_vec())
        })
    }
}
