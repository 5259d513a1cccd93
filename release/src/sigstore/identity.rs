//! `Expect`: who must have signed.

use crate::key::PublicKey;

/// Who must have signed a bundle. One of the two; a bundle of the other kind is refused.
#[derive(Debug)]
pub enum Expect {
    /// Somebody with a certificate for this identity (keyless signing).
    Identity(Identity),
    /// The holder of this key (managed key).
    Key {
        /// The key. The bundle's hint is never used to find it.
        key: PublicKey,
        /// Whether a log must have the signature.
        log: LogRule,
    },
}

/// An identity that a certificate authority attested at signing time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's subject alternative name: a mail address or a URI.
    pub san: San,
    /// The OIDC issuer that vouched for it (Fulcio extensions .1.8 and .1.1), exactly.
    pub issuer: String,
}

/// How the subject alternative name is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum San {
    /// Byte for byte, upper and lower case included.
    Exact(String),
}

impl Identity {
    /// Exactly this name, from exactly this issuer.
    pub fn exact(san: impl Into<String>, issuer: impl Into<String>) -> Self {
        Self { san: San::Exact(san.into()), issuer: issuer.into() }
    }
}

/// Whether a managed key's bundle needs an entry of a transparency log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogRule {
    /// A log of the trusted root must have it. An entry that somebody stripped is missed.
    #[default]
    Required,
    /// It may come without. Entries and timestamps that it has must verify all the same.
    Optional,
}
