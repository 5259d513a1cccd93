//! Keyless signing: with a key that is used once, certified for whoever an identity token names.
//!
//! ```text
//! token ─▶ certificate authority ─▶ certificate ─▶ signature ─▶ timestamp authorities ─▶ bundle ─▶ verified
//!                                                          └──▶ transparency logs ──────┘
//! ```
//!
//! The services are those of a signing configuration. Each answer is checked for being about our
//! key and signature where it arrives; then the whole bundle is verified as a car would, against a
//! trusted root, and thrown away when it does not hold: what cannot be admitted is not handed out.
//!
//! Sources: sigstore client specification (signing), and those in each file.

mod bundle;
mod error;
mod fulcio;
mod http;
mod rekor;
mod services;
mod token;
mod tsa;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use pitlane_release::{
    Digest,
    sigstore::{Expect, Identity, MAX_TRUST_ROOT, Subject, TrustRoot, verify},
};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sigstore_crypto::KeyPair;

use self::{bundle::Content, http::Http};
pub use self::{
    bundle::MAX_STATEMENT,
    error::KeylessError,
    services::{MAX_SIGNING_CONFIG, Services},
    token::TokenSource,
};

/// How long one request may take when nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Keyless signing in a pipeline file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keyless {
    /// `signing_config.json` of the instance; the public-good one's when absent.
    #[serde(default)]
    pub signing_config: Option<PathBuf>,
    /// `trusted_root.json` of the instance; the public-good one's when absent.
    #[serde(default)]
    pub trusted_root: Option<PathBuf>,
    /// File with an identity token, read at each signature. Else `SIGSTORE_ID_TOKEN`, else GitHub
    /// Actions' own.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// What a statement is about.
///
/// # Errors
/// When it is no in-toto statement with a SHA-256 subject.
pub fn subject(payload: &[u8]) -> Result<Digest, KeylessError> {
    Ok(Content::statement(payload)?.subject())
}

/// Signs with one-time keys.
#[derive(Debug)]
pub struct KeylessSigner {
    services: Services,
    root: TrustRoot,
    tokens: TokenSource,
    http: Http,
}

/// A bundle that verifies.
#[derive(Clone, Debug)]
pub struct SealedBundle {
    /// The bundle (v0.3), JSON.
    pub bytes: Vec<u8>,
    /// Whom its certificate names: a mail address or a URI.
    pub san: String,
    /// Who attested that name.
    pub issuer: String,
    /// What it is about.
    pub subject: Digest,
    /// The entries' numbers in their logs.
    pub log_indexes: Vec<u64>,
}

impl KeylessSigner {
    /// A signer. `patience` bounds each request; there are some three of them, repeated twice at
    /// most.
    pub fn new(
        services: Services,
        root: TrustRoot,
        tokens: TokenSource,
        patience: Duration,
    ) -> Result<Self, KeylessError> {
        // Said at the start, not after minutes of a release.
        services.choose(Timestamp::now())?;
        Ok(Self { services, root, tokens, http: Http::new(patience)? })
    }

    /// Opens what a pipeline file names.
    pub fn open(files: &Keyless) -> anyhow::Result<Self> {
        let services = match &files.signing_config {
            Some(file) => Services::parse(&read(file, MAX_SIGNING_CONFIG)?)
                .with_context(|| file.display().to_string())?,
            None => Services::public_good()?,
        };
        let root = match &files.trusted_root {
            Some(file) => TrustRoot::parse(&read(file, MAX_TRUST_ROOT)?)
                .with_context(|| file.display().to_string())?,
            None => TrustRoot::public_good()?,
        };
        let tokens = match &files.token_file {
            Some(file) => TokenSource::File(file.clone()),
            None => TokenSource::from_environment()?,
        };
        Ok(Self::new(services, root, tokens, PATIENCE)?)
    }

    /// Signs bytes, given by their SHA-256.
    pub async fn sign_digest(&self, digest: Digest) -> Result<SealedBundle, KeylessError> {
        self.sign(Content::Message(digest)).await
    }

    /// Signs an in-toto statement, given by its exact bytes.
    pub async fn seal(&self, payload: &[u8]) -> Result<SealedBundle, KeylessError> {
        self.sign(Content::statement(payload)?).await
    }

    async fn sign(&self, content: Content<'_>) -> Result<SealedBundle, KeylessError> {
        let now = Timestamp::now();
        let services = self.services.choose(now)?;
        let token = self.tokens.token(&self.http, now).await?;
        let pair = KeyPair::generate_ecdsa_p256()?;
        let leaf = fulcio::certify(&self.http, &services.authority, &token, &pair).await?;
        let signed = content.sign(&pair)?;
        let signature = bundle::signature(&signed)?;
        let digest = content.digest();
        let stamps = services.stampers.iter().map(|url| tsa::stamp(&self.http, url, signature));
        let entries = services
            .logs
            .iter()
            .map(|log| rekor::log(&self.http, log, &signed, &digest, &leaf.der));
        let (stamps, entries) = tokio::try_join!(try_join_all(stamps), try_join_all(entries))?;
        let log_indexes = entries.iter().map(|entry| entry.log_index.get()).collect();
        let (san, issuer) = (leaf.san, leaf.issuer);
        let bytes = bundle::assemble(leaf.der, signed, stamps, entries)?;
        let subject = content.subject();
        let expect = Expect::identity(Identity::exact(&san, &issuer));
        match verify(&bytes, Subject::Digest(subject), &expect, &self.root).answer {
            Ok(_) => Ok(SealedBundle { bytes, san, issuer, subject, log_indexes }),
            Err(refusal) => Err(KeylessError::NotAdmitted(refusal)),
        }
    }
}

/// An address below a service's own.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let below = format!("{}/{path}", base.path().trim_end_matches('/'));
    url.set_path(&below);
    url
}

/// Reads a whole file that must not be larger.
pub(crate) fn read(file: &std::path::Path, most: u64) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let shown = file.display();
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(most + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{shown}: cannot be read"))?;
    anyhow::ensure!(bytes.len() as u64 <= most, "{shown}: larger than {most} bytes");
    Ok(bytes)
}
