//! `BundleRefusal`: why a bundle does not verify. An answer with a stable code, not an error.

use serde::Serialize;
use sigstore_verify::{CertificateError, Error, TimestampError};

use crate::refusal::Unproven;

/// Why a bundle is refused. The codes are part of the command line's contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleRefusal {
    /// Not the format, or past its bounds.
    #[error("not a sigstore bundle: {0}")]
    Malformed(String),
    /// The format, but something in it that is not verified here.
    #[error("the bundle holds what is not supported: {0}")]
    Unsupported(String),
    /// Two fields of the bundle say different things about the same.
    #[error("the bundle contradicts itself: {0}")]
    Contradiction(String),
    /// The trusted root cannot be used.
    #[error("the trusted root is unusable: {0}")]
    TrustRoot(String),
    /// The key that was given cannot be used.
    #[error("{0}")]
    UnusableKey(String),
    /// A key was given for a certificate's bundle, or an identity for a key's.
    #[error("the bundle is {found}, but {want} was asked for")]
    OtherMaterial {
        /// What it is signed with.
        found: &'static str,
        /// What the caller gave.
        want: &'static str,
    },
    /// Signed by another identity.
    #[error("it is signed by `{found}`, not by `{want}`")]
    WrongIdentity {
        /// The identity asked for.
        want: String,
        /// The certificate's.
        found: String,
    },
    /// The identity was attested by another issuer.
    #[error("its signer was attested by `{found}`, not by `{want}`")]
    WrongIssuer {
        /// The issuer asked for.
        want: String,
        /// The certificate's.
        found: String,
    },
    /// The signature does not fit.
    #[error("the signature does not fit: {0}")]
    Signature(String),
    /// The bundle speaks of something else.
    #[error("the bundle speaks of another artifact: {0}")]
    OtherArtifact(String),
    /// A digest does not suffice.
    #[error("a SHA-256 digest does not suffice: {0}")]
    NeedsFile(String),
    /// The signer's certificate does not hold.
    #[error("the certificate does not hold: {0}")]
    Certificate(String),
    /// What the transparency log should prove is not proven.
    #[error("the log entry does not hold: {0}")]
    Log(String),
    /// No transparency log has it.
    #[error("no transparency log has it: {0}")]
    NotLogged(String),
    /// A timestamp does not hold, or there is no time at all.
    #[error("the time of signing is not proven: {0}")]
    Time(String),
}

impl BundleRefusal {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed-bundle",
            Self::Unsupported(_) => "unsupported-bundle",
            Self::Contradiction(_) => "contradictory-bundle",
            Self::TrustRoot(_) => "bad-trusted-root",
            Self::UnusableKey(_) => "unusable-key",
            Self::OtherMaterial { .. } => "other-material",
            Self::WrongIdentity { .. } => "wrong-identity",
            Self::WrongIssuer { .. } => "wrong-issuer",
            Self::Signature(_) => "bad-signature",
            Self::OtherArtifact(_) => "other-artifact",
            Self::NeedsFile(_) => "needs-file",
            Self::Certificate(_) => "bad-certificate",
            Self::Log(_) => "bad-log-entry",
            Self::NotLogged(_) => "not-logged",
            Self::Time(_) => "bad-time",
        }
    }

    /// The check that failed, as it is listed.
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Unsupported(_) | Self::Contradiction(_) => "format",
            Self::TrustRoot(_) => "root",
            Self::UnusableKey(_) | Self::OtherMaterial { .. } => "material",
            Self::WrongIdentity { .. } | Self::WrongIssuer { .. } => "identity",
            Self::Signature(_) => "signature",
            Self::OtherArtifact(_) | Self::NeedsFile(_) => "artifact",
            Self::Certificate(_) => "certificate",
            Self::Log(_) | Self::NotLogged(_) => "log",
            Self::Time(_) => "time",
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Contradiction(_) => {
                "do not use this copy: get the bundle from its signer again"
            }
            Self::Unsupported(_) => "sign again with a current tool, as a bundle v0.3",
            Self::TrustRoot(_) => {
                "pass the trusted_root.json of the instance that it was signed in"
            }
            Self::UnusableKey(_) => {
                "pass the signer's public key, as `cosign public-key` prints it"
            }
            Self::OtherMaterial { .. } => {
                "pass --key for a key's bundle, --certificate-identity for a certificate's"
            }
            Self::WrongIdentity { .. } => "trust it only if this signer is one of yours",
            Self::WrongIssuer { .. } => "the same name at another issuer is another signer",
            Self::Signature(_) | Self::OtherArtifact(_) => {
                "artifact and bundle do not belong together, or one was changed: get both again"
            }
            Self::NeedsFile(_) => "pass the file instead of its digest, not above the size limit",
            Self::Certificate(_) | Self::Log(_) | Self::Time(_) => {
                "check that the trusted root is the signer's and current; else do not use it"
            }
            Self::NotLogged(_) => {
                "sign with a log, or allow a key's bundle without one (--allow-unlogged)"
            }
        }
    }
}

impl From<BundleRefusal> for Unproven {
    fn from(refusal: BundleRefusal) -> Self {
        Self { code: refusal.code(), why: refusal.to_string(), hint: refusal.hint() }
    }
}

/// The library's errors, by what they mean to the caller.
impl From<Error> for BundleRefusal {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let none = || "nobody".to_owned();
        match error {
            Error::IdentityMismatch { expected, actual } => Self::WrongIdentity {
                want: expected.to_string(),
                found: actual.map_or_else(none, |found| found.to_string()),
            },
            Error::IssuerMismatch { expected, actual } => {
                Self::WrongIssuer { want: expected, found: actual.unwrap_or_else(none) }
            }
            Error::SignatureInvalid(why) => Self::Signature(why),
            Error::ArtifactMismatch(why) => Self::OtherArtifact(why),
            Error::UnsupportedArtifact(why) => Self::NeedsFile(why),
            Error::Certificate(CertificateError::Sct(why)) => {
                Self::Certificate(format!("its log proof (SCT): {why}"))
            }
            Error::Certificate(_) => Self::Certificate(text),
            Error::TransparencyLog(_) => Self::Log(text),
            Error::Timestamp(TimestampError::NoVerifiedTimestamp(why)) => Self::Time(why),
            Error::Timestamp(_) => Self::Time(text),
            Error::UnsupportedBundle(why) => Self::Unsupported(why),
            Error::InvalidTrustRoot(_) | Error::TrustRoot(_) | Error::TrustedCertificate(_) => {
                Self::TrustRoot(text)
            }
            Error::Bundle(sigstore_verify::bundle::Error::MissingSigningTimeEvidence) => {
                Self::NotLogged("the bundle has no log entry".into())
            }
            Error::Crypto(_) => Self::Signature(text),
            _ => Self::Malformed(text),
        }
    }
}

impl Serialize for BundleRefusal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut object = serializer.serialize_struct("BundleRefusal", 3)?;
        object.serialize_field("code", self.code())?;
        object.serialize_field("message", &self.to_string())?;
        object.serialize_field("hint", self.hint())?;
        object.end()
    }
}
