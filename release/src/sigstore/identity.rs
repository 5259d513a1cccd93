//! `Expect`: who must have signed, and what must vouch for the time.

use super::refusal::BundleRefusal;
use crate::{key::PublicKey, matcher::Matcher};

/// Who must have signed a bundle. One of the two; a bundle of the other kind is refused.
#[derive(Debug)]
pub enum Expect {
    /// Somebody with a certificate (keyless signing).
    Keyless(Keyless),
    /// The holder of this key (managed key).
    Key {
        /// The key. The bundle's hint is never used to find it.
        key: PublicKey,
        /// What must vouch for the signature.
        witness: Witness,
    },
}

/// Signers by certificate.
#[derive(Clone, Debug)]
pub struct Keyless {
    /// Any one of them.
    pub any_of: Vec<Identity>,
    /// What must vouch for the signature.
    pub witness: Witness,
    /// Whether a certificate transparency log must have the certificate (SCT). Without it, an
    /// authority could issue a certificate that nobody ever sees.
    pub sct: bool,
}

impl Keyless {
    /// Whether a certificate's name and issuer are one of those asked for, together.
    pub(super) fn admits(&self, san: &str, issuer: &str) -> Result<(), BundleRefusal> {
        if san.is_empty() || issuer.is_empty() {
            return Err(BundleRefusal::Certificate("it names nobody".into()));
        }
        let all = |show: fn(&Identity) -> String| {
            self.any_of.iter().map(show).collect::<Vec<_>>().join("` or `")
        };
        let mut named = self.any_of.iter().filter(|identity| identity.san.matches(san)).peekable();
        if named.peek().is_none() {
            let want = all(|identity| identity.san.to_string());
            return Err(BundleRefusal::WrongIdentity { want, found: san.to_owned() });
        }
        if !named.any(|identity| identity.issuer.matches(issuer)) {
            let want = all(|identity| identity.issuer.to_string());
            return Err(BundleRefusal::WrongIssuer { want, found: issuer.to_owned() });
        }
        Ok(())
    }
}

/// An identity that a certificate authority attested at signing time.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate's subject alternative name: a mail address or a URI.
    pub san: Matcher,
    /// The OIDC issuer that vouched for it (Fulcio extensions .1.8 and .1.1).
    pub issuer: Matcher,
}

impl Identity {
    /// Exactly this name, from exactly this issuer.
    pub fn exact(san: impl Into<String>, issuer: impl Into<String>) -> Self {
        Self { san: Matcher::Exact(san.into()), issuer: Matcher::Exact(issuer.into()) }
    }
}

impl Expect {
    /// This identity, logged, with a certificate that was logged too: what public Sigstore gives.
    pub fn identity(identity: Identity) -> Self {
        let witness = Witness::default();
        Self::Keyless(Keyless { any_of: vec![identity], witness, sct: true })
    }

    /// What must vouch for the signature.
    pub(super) const fn witness(&self) -> Witness {
        match self {
            Self::Keyless(Keyless { witness, .. }) | Self::Key { witness, .. } => *witness,
        }
    }
}

/// What must vouch for a signature beside its signer. What a bundle has beyond it must verify all
/// the same, when it is verified in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// A transparency log of the trusted root must have it: an entry that somebody stripped is
    /// missed.
    pub log: bool,
    /// A timestamp authority of the trusted root must have stamped it (RFC 3161).
    pub stamp: bool,
}

impl Default for Witness {
    fn default() -> Self {
        Self { log: true, stamp: false }
    }
}

impl Witness {
    /// Nobody. For keys alone; a certificate needs a proven time.
    pub const NONE: Self = Self { log: false, stamp: false };
}
