//! `KeylessError`: why nothing was signed.

use pitlane_release::sigstore::BundleRefusal;

/// Why keyless signing gave no bundle.
#[derive(Debug, thiserror::Error)]
pub enum KeylessError {
    /// The signing configuration cannot be used.
    #[error("the signing configuration: {0}")]
    Services(String),
    /// There is no identity token, or one that cannot be used.
    #[error("the identity token: {0}")]
    Token(String),
    /// What should be signed cannot be.
    #[error("{0}")]
    Content(String),
    /// A service could not be asked, or did not do what it was asked.
    #[error("{service} {url}: {why}")]
    Service {
        /// What it is: `certificate authority`, `transparency log`, …
        service: &'static str,
        /// Where it was asked.
        url: String,
        /// What happened.
        why: String,
    },
    /// Everything was answered, but the whole is not what a verifier would accept.
    #[error("the finished bundle does not verify, so it was thrown away ({code}): {0}", code = .0.code())]
    NotAdmitted(BundleRefusal),
    /// The cryptography failed.
    #[error("signing failed: {0}")]
    Crypto(#[from] sigstore_crypto::Error),
}

impl KeylessError {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Services(_) => {
                "name a signing_config.json v0.2 with --signing-config, or none for the public \
                 instance"
            }
            Self::Token(_) => {
                "give a fresh token for the audience `sigstore`: --token-file, SIGSTORE_ID_TOKEN, \
                 or `permissions: id-token: write` in a GitHub workflow"
            }
            Self::Content(_) => "see docs/sign-bundle.md for what can be signed",
            Self::Service { .. } => "try again later; if it stays, ask whoever runs this service",
            Self::NotAdmitted(_) => {
                "check that trusted root and signing configuration are of the same instance"
            }
            Self::Crypto(_) => "report this: it should not happen",
        }
    }
}
