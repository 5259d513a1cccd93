//! `TrustRoot`: the authorities and logs that bundles are verified against.

use sigstore_crypto::Keyring;
use sigstore_trust_root::{SigstoreInstance, TrustedRoot, trusted_root::CertChain};
use sigstore_verify::Verifier;
use x509_cert::{Certificate, der::Decode as _};

use super::{json, refusal::BundleRefusal};

/// Largest trusted root read (bytes); the public ones are 7 to 32 kB.
pub const MAX_TRUST_ROOT: u64 = 1024 * 1024;
/// What the media types of all versions begin with.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// A trusted root, with its keys and certificates parsed. Make it once for many bundles.
pub struct TrustRoot {
    pub(super) verifier: Verifier,
    pub(super) trusted: TrustedRoot,
    /// The transparency logs' keys by log id, each with the time in which it counts.
    pub(super) logs: Keyring,
    /// The certificate authorities' certificates, roots and intermediates.
    pub(super) signers: Vec<Certificate>,
    /// The timestamp authorities' certificates, with their chains.
    pub(super) stampers: Vec<Certificate>,
}

impl TrustRoot {
    /// The public-good instance of Sigstore, as it was when the library was released.
    pub fn public_good() -> Result<Self, BundleRefusal> {
        Self::parse(SigstoreInstance::PublicGood.embedded_trusted_root_json().as_bytes())
    }

    /// The staging instance of Sigstore: for tests only, anybody can be anybody there.
    pub fn staging() -> Result<Self, BundleRefusal> {
        Self::parse(SigstoreInstance::Staging.embedded_trusted_root_json().as_bytes())
    }

    /// Reads a `trusted_root.json` (protobuf specs, `sigstore_trustroot.proto`).
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleRefusal> {
        let fail = |why: String| BundleRefusal::TrustRoot(why);
        if bytes.len() as u64 > MAX_TRUST_ROOT {
            return Err(fail(format!("{} bytes, want at most {MAX_TRUST_ROOT}", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| fail("not UTF-8".into()))?;
        json::check(bytes).map_err(|error| fail(error.to_string()))?;
        let root = TrustedRoot::from_json(text).map_err(|error| fail(error.to_string()))?;
        if !root.media_type.starts_with(MEDIA_TYPE) {
            let shown: String = root.media_type.chars().take(80).collect();
            return Err(fail(format!("`{shown}` is no trusted root")));
        }
        let verifier = Verifier::new(&root).map_err(|error| fail(error.to_string()))?;
        let logs = root.rekor_keys().map_err(|error| fail(error.to_string()))?;
        let signers = root.certificate_authorities.iter().map(|authority| &authority.cert_chain);
        let stampers = root.timestamp_authorities.iter().map(|authority| &authority.cert_chain);
        let (signers, stampers) = (parse(signers)?, parse(stampers)?);
        Ok(Self { verifier, trusted: root, logs, signers, stampers })
    }
}

/// All certificates of these chains.
fn parse<'a>(
    chains: impl Iterator<Item = &'a CertChain>,
) -> Result<Vec<Certificate>, BundleRefusal> {
    let certificates = chains.flat_map(|chain| &chain.certificates);
    certificates
        .map(|certificate| Certificate::from_der(certificate.raw_bytes.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|error| BundleRefusal::TrustRoot(error.to_string()))
}

impl std::fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (signers, stampers) = (self.signers.len(), self.stampers.len());
        write!(f, "TrustRoot({signers} and {stampers} certificates, {} logs)", self.logs.len())
    }
}
