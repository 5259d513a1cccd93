//! The webhook's certificate, exchanged while it serves.
//!
//! cert-manager and `admit certs` renew files under a running program. They are compared by their
//! bytes, since what Kubernetes mounts is exchanged by a link. Of a new pair nothing is used until
//! all of it fits; until then the old pair stays, because a webhook that nobody can reach stops a
//! cluster.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context as _, bail};
use pitlane_release::Digest;
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_cert::der::Decode as _;

/// Largest certificate chain or key (bytes).
const MAX_PEM: u64 = 256 * 1024;
/// Most certificates in a chain.
const MAX_CHAIN: usize = 10;

/// A pair of files, and what of it is in use.
#[derive(Debug)]
pub struct Certificates {
    chain: PathBuf,
    key: PathBuf,
    now: RwLock<Now>,
}

#[derive(Debug)]
struct Now {
    pair: Arc<Pair>,
    /// Of the bytes that were read last, usable or not.
    seen: Digest,
    /// Whether those are in use.
    current: bool,
}

#[derive(Debug)]
struct Pair {
    certified: Arc<CertifiedKey>,
    ends: i64,
}

impl Certificates {
    /// Reads the pair for the first time.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let (seen, pair) = read(chain, key);
        let now = Now { pair: Arc::new(pair?), seen, current: true };
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), now: RwLock::new(now) })
    }

    /// Looks at the files and takes what is new; whether something is.
    ///
    /// # Errors
    /// When something is new and cannot be used; said once.
    pub fn look(&self) -> anyhow::Result<bool> {
        let (seen, pair) = read(&self.chain, &self.key);
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if seen == now.seen {
            return Ok(false);
        }
        now.seen = seen;
        now.current = pair.is_ok();
        now.pair = Arc::new(pair?);
        Ok(true)
    }

    /// Whether the files are the pair in use.
    pub fn is_current(&self) -> bool {
        self.now.read().unwrap_or_else(PoisonError::into_inner).current
    }

    /// When the certificate in use ends (seconds since 1970).
    pub fn ends(&self) -> i64 {
        self.now.read().unwrap_or_else(PoisonError::into_inner).pair.ends
    }

    /// What a TLS listener needs: 1.2 or 1.3, HTTP/1.1, and always the pair in use.
    ///
    /// # Errors
    /// When the library cannot do what it is asked.
    pub fn config(self: &Arc<Self>) -> anyhow::Result<ServerConfig> {
        // The provider is named, so that nothing depends on which was installed first.
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&now.pair.certified))
    }
}

/// The pair, and a digest of what was read or could not be.
fn read(chain: &Path, key: &Path) -> (Digest, anyhow::Result<Pair>) {
    let bytes = |file: &Path| bounded(file).with_context(|| file.display().to_string());
    match (bytes(chain), bytes(key)) {
        (Ok(chain_pem), Ok(key_pem)) => {
            let both = [Digest::of(&chain_pem), Digest::of(&key_pem)];
            let seen = Digest::of(both.iter().flat_map(|d| *d.as_bytes()).collect::<Vec<u8>>());
            let pair = pair(&chain_pem, &key_pem);
            let pair = pair.with_context(|| format!("{}, {}", chain.display(), key.display()));
            (seen, pair)
        }
        (Err(error), _) | (_, Err(error)) => (Digest::of(format!("{error:#}")), Err(error)),
    }
}

fn pair(chain: &[u8], key: &[u8]) -> anyhow::Result<Pair> {
    let certificates = CertificateDer::pem_slice_iter(chain).take(MAX_CHAIN + 1);
    let certificates = certificates.collect::<Result<Vec<_>, _>>().context("not PEM")?;
    if certificates.is_empty() || certificates.len() > MAX_CHAIN {
        bail!("{} certificates, want 1 to {MAX_CHAIN}", certificates.len());
    }
    let ends = ends(&certificates[0])?;
    let key = PrivateKeyDer::from_pem_slice(key).context("no private key in PEM")?;
    let provider = aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(certificates, key, &provider)
        .context("the key does not belong to the certificate")?;
    Ok(Pair { certified: Arc::new(certified), ends })
}

fn ends(leaf: &CertificateDer<'_>) -> anyhow::Result<i64> {
    let leaf = x509_cert::Certificate::from_der(leaf).context("the certificate is not one")?;
    let end = leaf.tbs_certificate.validity.not_after.to_unix_duration();
    Ok(i64::try_from(end.as_secs()).unwrap_or(i64::MAX))
}

fn bounded(file: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_PEM + 1).read_to_end(&mut bytes))
        .context("cannot be read")?;
    if bytes.len() as u64 > MAX_PEM {
        bail!("larger than {MAX_PEM} bytes");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn made(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn only_a_whole_new_pair_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        assert!(Certificates::open(&chain, &key).is_err());
        let (first, first_key) = made("a.example");
        fs::write(&chain, &first).unwrap();
        fs::write(&key, &first_key).unwrap();
        let certificates = Arc::new(Certificates::open(&chain, &key).unwrap());
        assert!(certificates.config().is_ok() && certificates.ends() > 1_000_000_000);
        assert!(!certificates.look().unwrap(), "nothing is new");
        let leaf = |c: &Certificates| c.now.read().unwrap().pair.certified.cert[0].to_vec();
        let before = leaf(&certificates);

        let (second, second_key) = made("b.example");
        for (chain_pem, key_pem, want) in [
            (second.as_str(), first_key.as_str(), "does not belong"),
            ("", first_key.as_str(), "0 certificates"),
            (&second.repeat(11), second_key.as_str(), "11 certificates"),
            (second.as_str(), "", "no private key"),
            (second.as_str(), second.as_str(), "no private key"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &second_key,
                "not one",
            ),
            (&"x".repeat(300_000), second_key.as_str(), "larger than"),
        ] {
            fs::write(&chain, chain_pem).unwrap();
            fs::write(&key, key_pem).unwrap();
            let error = format!("{:#}", certificates.look().unwrap_err());
            assert!(error.contains(want), "{want}: {error}");
            assert!(!certificates.look().unwrap(), "said once");
            assert!(!certificates.is_current() && leaf(&certificates) == before, "{want}");
        }
        fs::write(&chain, &second).unwrap();
        fs::write(&key, &second_key).unwrap();
        assert!(certificates.look().unwrap() && certificates.is_current());
        assert_ne!(leaf(&certificates), before);
        fs::remove_file(&key).unwrap();
        assert!(certificates.look().is_err() && !certificates.is_current());
    }
}
