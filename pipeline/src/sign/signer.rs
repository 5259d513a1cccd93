//! `Signer`: signs statements, by a key in memory, by a program or a process that has one, or
//! without a key to keep.

use std::path::Path;

use anyhow::{Context as _, bail};
use pitlane_release::{bundle, key::PublicKey};
use tokio::runtime::{Builder, Handle, RuntimeFlavor};

use super::{
    algorithm::Algorithm,
    apart::client::Socket,
    external::External,
    held::Held,
    keyless::KeylessSigner,
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
    /// The key's kind and public half, when there is one key.
    key: Option<(Algorithm, PublicKey)>,
}

/// Who has the key.
enum With {
    /// This process.
    Held(Held),
    /// A program.
    External(Box<External>),
    /// A process, behind a socket.
    Socket(Box<Socket>),
    /// Nobody: each signature has a key of its own, with a certificate.
    Keyless(Box<KeylessSigner>),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.public().map(|key| key.id().to_string()).unwrap_or_default();
        write!(f, "Signer({} {id})", self.kind())
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
            Kind::Socket(path, public) => {
                return Self::new(With::Socket(Box::new(Socket::open(path, public)?)));
            }
            Kind::Keyless(files) => {
                let signer = KeylessSigner::open(files).context("field `keyless`")?;
                return Ok(Self { with: With::Keyless(Box::new(signer)), key: None });
            }
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
            With::External(external) => external.public().clone(),
            With::Socket(socket) => socket.public().clone(),
            With::Keyless(_) => return Ok(Self { with, key: None }),
        };
        Ok(Self { key: Some((Algorithm::of_public(public.spki())?, public)), with })
    }

    /// The public half; keyless signatures have none that lasts.
    pub fn public(&self) -> Option<&PublicKey> {
        self.key.as_ref().map(|(_, public)| public)
    }

    /// The public half as cosign writes it: PEM with plain line ends.
    pub fn public_pem(&self) -> Option<String> {
        self.public().map(|key| key.to_pem().replace('\r', "").trim_end().to_owned() + "\n")
    }

    /// The kind of key.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.key.as_ref().map(|(algorithm, _)| *algorithm)
    }

    /// `key`, `command`, `socket` or `keyless`, as in pipeline files.
    pub const fn kind(&self) -> &'static str {
        match self.with {
            With::Held(_) => "key",
            With::External(_) => "command",
            With::Socket(_) => "socket",
            With::Keyless(_) => "keyless",
        }
    }

    /// Signs a message: DER for ECDSA, plain bytes for the others. The signature was verified.
    ///
    /// Blocks as long as a program takes; the other threads of the runtime go on.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let signature = match &self.with {
            With::Held(held) => held.sign(message)?,
            With::External(external) => external.sign(message)?,
            With::Socket(socket) => socket.sign(message)?,
            With::Keyless(_) => bail!("keyless signatures come in bundles alone"),
        };
        // A fault in a computation must not leave this machine as a signature, either.
        let verifies = self.public().is_some_and(|public| public.verifies(message, &signature));
        anyhow::ensure!(verifies, "the signature does not verify");
        Ok(signature)
    }

    /// Signs something meaningless, to see that it can. A signer process signs nothing of the kind,
    /// so it is asked for its key. Without a key that would write into a public log, so there the
    /// services were looked at when it was opened.
    pub fn try_out(&self) -> anyhow::Result<()> {
        match &self.with {
            With::Keyless(_) => Ok(()),
            With::Socket(socket) => socket.try_out(),
            With::Held(_) | With::External(_) => self.sign(TRIAL).map(drop),
        }
    }

    /// Seals a statement into a sigstore bundle.
    pub fn seal(&self, statement: &impl serde::Serialize) -> anyhow::Result<Vec<u8>> {
        let payload = serde_json::to_vec(statement)?;
        match (&self.with, self.public()) {
            (With::Keyless(signer), _) => Ok(wait(signer.seal(&payload))??.bytes),
            (_, Some(public)) => bundle::seal(&payload, &public.hint(), |pae| self.sign(pae)),
            (_, None) => bail!("a signer without a key"),
        }
    }
}

/// Waits for answers of the network in the middle of a plain call: the other threads of the
/// runtime go on. Without such a runtime, in one of its own.
///
/// Always on another thread: a `block_on` within one on the same thread takes the wake-ups that
/// are meant for the outer one, whose other futures would then be forgotten.
fn wait<F: Future<Output: Send> + Send>(work: F) -> anyhow::Result<F::Output> {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| elsewhere(|| Ok(handle.block_on(work))))
        }
        _ => elsewhere(|| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(work))
        }),
    }
}

fn elsewhere<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
