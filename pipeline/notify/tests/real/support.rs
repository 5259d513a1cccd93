//! Configurations, events, secrets and certificates of the tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use pitlane_notify::{About, Couriers, Event, MemoryOutbox, Notifier, Notify, What};

/// Longest time that a test waits for something.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);

/// The section of a YAML text.
pub(super) fn section(yaml: &str) -> Notify {
    let section: Notify = pitlane_release::yaml::read(yaml, 100_000).unwrap();
    section.check().unwrap();
    section
}

/// The couriers of a section, and their outbox.
pub(super) fn start(yaml: &str) -> (Arc<MemoryOutbox>, Couriers) {
    let outbox = Arc::new(MemoryOutbox::new(1000));
    let couriers = Notifier::open(&section(yaml)).unwrap().start(&outbox);
    (outbox, couriers)
}

/// A release of this tag.
pub(super) fn released(tag: &str) -> Event {
    let about = About {
        pipeline: Some("donkeycar".into()),
        repository: Some("team/car".into()),
        tag: Some(tag.into()),
        counter: Some(3),
        ..About::default()
    };
    let what = What::RunReleased {
        image: "127.0.0.1:5000/team/car@sha256:00".into(),
        platforms: [].into(),
        duration_ms: 9530,
    };
    Event::new(what, about, "", "2026-11-21T09:24:59Z".parse().unwrap())
}

/// A file in a folder that only its owner may read.
pub(super) fn secret(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything that is logged on this thread until it is dropped.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Keeps all levels of all crates.
    pub(super) fn keep(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An authority, and what it certified: files in PEM.
pub(super) struct Pki {
    pub(super) ca: PathBuf,
    pub(super) server: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) client: PathBuf,
    pub(super) client_key: PathBuf,
    pub(super) server_der: (Vec<u8>, Vec<u8>),
}

impl Pki {
    /// A server `localhost` (and 127.0.0.1), and a client `pitlane`.
    pub(super) fn new(folder: &Path) -> Self {
        use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let certify = |names: &[&str], name: &str| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, server_key) = certify(&["localhost", "127.0.0.1"], "localhost");
        let (client, client_key) = certify(&[], "pitlane");
        Self {
            server_der: (server.der().to_vec(), server_key.serialize_der()),
            ca: secret(folder, "ca.pem", &ca.pem()),
            server: secret(folder, "server.pem", &server.pem()),
            server_key: secret(folder, "server.key", &server_key.serialize_pem()),
            client: secret(folder, "client.pem", &client.pem()),
            client_key: secret(folder, "client.key", &client_key.serialize_pem()),
        }
    }
}
