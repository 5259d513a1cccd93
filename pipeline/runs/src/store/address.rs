//! Where a `PostgreSQL` server is, and how a connection to it comes about.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use pitlane_release::causes;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio_postgres::{
    Config, NoTls,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::wire::Wire;

/// Longest that a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// A writer waits this long for the others', and a connection that stands still within a
/// transaction (its process is stopped, its network gone) is cut off by the server.
const SESSION: &str = "SET lock_timeout = '10s'; SET statement_timeout = '20s';
    SET idle_in_transaction_session_timeout = '10s'; SET client_min_messages = warning";

/// Where a server is, and how its certificate is checked. Holds a password: never printed.
#[derive(Clone)]
pub struct PostgresUrl {
    config: Config,
    /// Certificates (PEM) to trust instead of the system's.
    root: Option<PathBuf>,
}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let database = self.config.get_dbname().unwrap_or("?");
        write!(f, "PostgresUrl({:?} {database})", self.config.get_hosts())
    }
}

impl PostgresUrl {
    /// Reads `postgres://user:password@host:port/database`. A server that is not on this machine
    /// must speak TLS unless the address says `sslmode=disable`.
    ///
    /// # Errors
    /// When it is not such an address; the message does not repeat it.
    pub fn parse(text: &str, root: Option<PathBuf>) -> Result<Self, String> {
        let mut config: Config =
            text.parse().map_err(|error: tokio_postgres::Error| causes(&error))?;
        if config.get_hosts().is_empty() {
            return Err("it names no host: write postgres://user@host/database".into());
        }
        let local = config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        });
        if config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
        }
        config.connect_timeout(CONNECT).application_name("pitlane");
        Ok(Self { config, root })
    }

    pub(super) fn connect(&self) -> Result<Wire, String> {
        let runtime = Wire::runtime().map_err(|error| error.to_string())?;
        let wire = if self.config.get_ssl_mode() == SslMode::Disable {
            let made = runtime.block_on(self.config.connect(NoTls));
            made.map(|(client, connection)| Wire::new(runtime, client, connection))
        } else {
            let tls = MakeRustlsConnect::new(self.tls()?);
            let made = runtime.block_on(self.config.connect(tls));
            made.map(|(client, connection)| Wire::new(runtime, client, connection))
        }
        .map_err(|error| causes(&error))?;
        wire.batch(SESSION).map_err(|error| causes(&error))?;
        Ok(wire)
    }

    fn tls(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.root {
            use rustls::pki_types::pem::PemObject as _;
            let shown = file.display();
            let found = CertificateDer::pem_file_iter(file).map_err(|e| format!("{shown}: {e}"))?;
            for certificate in found {
                let certificate = certificate.map_err(|e| format!("{shown}: {e}"))?;
                roots.add(certificate).map_err(|e| format!("{shown}: {e}"))?;
            }
        } else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
        if roots.is_empty() {
            return Err("no certificate authority is trusted; name a file of them".into());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}
