//! TLS to a broker: rustls with aws-lc-rs, the system's roots or those of a file, and a client's
//! certificate where one is configured.

use std::sync::Arc;

use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::{MqttError, public};
use crate::{config::Mqtt, secret::read_secret};

/// Most certificates of a file.
const MAX_CERTIFICATES: usize = 256;

pub(super) fn connector(config: &Mqtt) -> Result<TlsConnector, MqttError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &config.ca_file {
        for certificate in certificates(file)? {
            let added = roots.add(certificate);
            added.map_err(|error| MqttError::Tls(format!("{}: {error}", file.display())))?;
        }
    } else {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            let why = "this machine has no trusted certificates; install ca-certificates, or name \
                a caFile";
            return Err(MqttError::Tls(why.into()));
        }
    }
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let failed = |error: tokio_rustls::rustls::Error| MqttError::Tls(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots);
    let client = match (&config.client_certificate, &config.client_key_file) {
        (Some(chain), Some(file)) => {
            let key = read_secret(file)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
            // The library's error may quote the file.
            let none = |_| MqttError::Tls(format!("{}: no private key, want PEM", file.display()));
            builder
                .with_client_auth_cert(certificates(chain)?, key.map_err(none)?)
                .map_err(failed)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(client)))
}

fn certificates(file: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, MqttError> {
    let pem = public(file)?;
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CERTIFICATES);
    match read.collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(MqttError::Tls(format!("{}: no certificate in it, want PEM", file.display()))),
    }
}
