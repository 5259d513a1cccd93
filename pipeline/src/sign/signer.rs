//! `Signer`: signs statements, by a key in memory or by a program that has one.

use std::path::Path;

use anyhow::Context as _;
use pitlane_release::{bundle, key::PublicKey};

use super::{
    algorithm::Algorithm,
    external::External,
    held::Held,
    private_key,
    source::{KeySource, Kind},
};

/// What [`Signer::try_out`] signs: neither an envelope's encoding nor any document of ours, so a
/// signature of it says nothing to anybody.
const TRIAL: &[u8] = b"pitlane: is this signer there?\n";

/// Signs. A key file is decrypted once, when this is opened: that costs a fifth of a second on
/// purpose.
pub struct Signer {
    with: With,
    algorithm: Algorithm,
    public: PublicKey,
}

/// Who has the key.
enum With {
    /// This process.
    Held(Held),
    /// A program.
    External(Box<External>),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({}, {})", self.kind(), self.public.id())
    }
}

impl Signer {
    /// Opens a key file. The password comes from its file, else from `COSIGN_PASSWORD`.
    pub fn open(key: &Path, password_file: Option<&Path>) -> anyhow::Result<Self> {
        let der = private_key::read(key, password_file)?;
        Self::from_pkcs8(&der).with_context(|| key.display().to_string())
    }

    /// Opens what a pipeline file names; a program runs in `dir`, the file's own folder.
    pub fn of(source: &KeySource, dir: &Path) -> anyhow::Result<Self> {
        let (argv, public) = match source.kind()? {
            Kind::File(key, password) => return Self::open(key, password),
            Kind::Command(argv, public) => (argv, public),
        };
        let external = External::open(argv, public, &source.command_options, dir)?;
        Self::new(With::External(Box::new(external)))
    }

    /// Takes a PKCS#8 private key.
    pub fn from_pkcs8(der: &[u8]) -> anyhow::Result<Self> {
        Self::new(With::Held(Held::from_pkcs8(der)?))
    }

    fn new(with: With) -> anyhow::Result<Self> {
        let public = match &with {
            With::Held(held) => held.public()?,
            With::External(external) => PublicKey::from_spki(external.public().spki())?,
        };
        Ok(Self { algorithm: Algorithm::of_public(public.spki())?, with, public })
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The public half as cosign writes it: PEM with plain line ends.
    pub fn public_pem(&self) -> String {
        self.public.to_pem().replace('\r', "").trim_end().to_owned() + "\n"
    }

    /// The kind of key.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `key` or `command`, as in pipeline files.
    pub const fn kind(&self) -> &'static str {
        match self.with {
            With::Held(_) => "key",
            With::External(_) => "command",
        }
    }

    /// Signs a message: DER for ECDSA, plain bytes for the others. The signature was verified.
    ///
    /// Blocks as long as a program takes; the other threads of the runtime go on.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let signature = match &self.with {
            With::Held(held) => held.sign(message)?,
            With::External(external) => external.sign(message)?,
        };
        // A fault in a computation must not leave this machine as a signature, either.
        anyhow::ensure!(self.public.verifies(message, &signature), "the signature does not verify");
        Ok(signature)
    }

    /// Signs something meaningless, to see that it can.
    pub fn try_out(&self) -> anyhow::Result<()> {
        self.sign(TRIAL).map(drop)
    }

    /// Seals a statement into a sigstore bundle.
    pub fn seal(&self, statement: &impl serde::Serialize) -> anyhow::Result<Vec<u8>> {
        let payload = serde_json::to_vec(statement)?;
        bundle::seal(&payload, &self.public.hint(), |pae| self.sign(pae))
    }
}
