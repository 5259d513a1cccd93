//! Pushing to our own registry, to Debian's docker-registry, and to registries that lie.

mod liar;
mod lies;
mod peers;
mod referrers;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use pitlane_registry::{PushToken, Registry, RegistryConfig, listen::BoundedListener, router};
use pitlane_release::{
    Digest, Repository,
    oci::{Descriptor, EMPTY, INDEX, LAYER_TAR, MANIFEST},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::{Client, Inline, Login, Options, Retry};

const TOKEN: &str = "push-tests-token-0123";

/// Quick, so that a refusal does not take seconds.
const QUICK: Retry =
    Retry { tries: 4, first: Duration::from_millis(10), longest: Duration::from_millis(1500) };

fn login(password: &str) -> Login {
    Login::Password { user: "ci".into(), password: Zeroizing::new(password.into()) }
}

fn options(password: &str) -> Options {
    Options { login: Some(login(password)), retry: QUICK, ..Options::default() }
}

fn repository(address: impl std::fmt::Display, path: &str) -> Repository {
    format!("{address}/{path}").parse().unwrap()
}

/// Our own registry in this process.
struct Own {
    address: SocketAddr,
    _dir: TempDir,
}

impl Own {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut RegistryConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = RegistryConfig::new(dir.path());
        config.push_token = Some(PushToken::new(TOKEN).unwrap());
        config.sync = false;
        change(&mut config);
        let registry = Arc::new(Registry::open(config).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = BoundedListener::new(listener, 64, Duration::from_secs(20));
        tokio::spawn(async move { axum::serve(listener, router(registry)).await });
        Self { address, _dir: dir }
    }

    fn client(&self, path: &str) -> Client {
        Client::new(repository(self.address, path), options(TOKEN)).unwrap()
    }
}

/// Debian's docker-registry, which knows no list of referrers.
struct DockerRegistry {
    child: Child,
    address: String,
    _dir: TempDir,
}

/// `ci` and this password, as `htpasswd -B` writes it.
const PASSWORD: &str = "pit-wall-secret-1";
const HTPASSWD: &str = "ci:$2b$05$ymjdpq4Sbl.uunWAynqY6uo6792i864FhIqNUlQrc2TKcTeWVAmnm\n";

impl DockerRegistry {
    /// `None`, with a line that says so, where it is not installed.
    async fn start() -> Option<Self> {
        let program = program("docker-registry")?;
        let dir = tempfile::tempdir().unwrap();
        // A port that was free just now; taken meanwhile, the registry ends and the next is tried.
        for _ in 0..5 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap().to_string();
            drop(free);
            std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
            let config = json!({
                "version": "0.1",
                "log": { "level": "warn" },
                "storage": { "filesystem": { "rootdirectory": dir.path().join("data") } },
                "http": { "addr": address },
                "auth": { "htpasswd": { "realm": "tests", "path": dir.path().join("htpasswd") } },
            });
            let file = dir.path().join("config.yaml");
            std::fs::write(&file, config.to_string()).unwrap();
            let mut command = Command::new(&program);
            command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            for _ in 0..500 {
                if tokio::net::TcpStream::connect(&address).await.is_ok() {
                    return Some(Self { child, address, _dir: dir });
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("docker-registry did not start");
    }

    fn client(&self, path: &str) -> Client {
        Client::new(repository(&self.address, path), options(PASSWORD)).unwrap()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of the system or of target/peers; where it is missing, says so.
fn program(name: &str) -> Option<PathBuf> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::iter::once(peers).chain(std::env::split_paths(&path));
    let found = places.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file()));
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI=true, but no {name}");
        eprintln!("SKIP: {name} is missing: run scripts/peers.sh");
    }
    found
}

/// An image of one layer, its blobs, and `more` in its manifest.
fn image(layer: &[u8], more: &Value) -> (Vec<Inline>, Vec<u8>) {
    let blobs = vec![Inline::new(EMPTY, &b"{}"[..]), Inline::new(LAYER_TAR, layer.to_vec())];
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": Descriptor::of(EMPTY, b"{}"), "layers": [Descriptor::of(LAYER_TAR, layer)],
    });
    for (key, value) in more.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    (blobs, manifest.to_string().into_bytes())
}

/// Pushes an image; gives its digest.
async fn push(client: &Client, layer: &[u8], tag: Option<&str>) -> Digest {
    let (blobs, manifest) = image(layer, &json!({}));
    for blob in &blobs {
        client.blob(blob).await.unwrap();
    }
    client.manifest(&manifest, MANIFEST, tag).await.unwrap()
}

/// A referrer of an image, and its entry.
fn referrer(subject: &Digest, note: &str) -> (Vec<u8>, Descriptor) {
    let subject = Descriptor::new(MANIFEST, *subject, 1);
    let more = json!({
        "subject": subject, "artifactType": "application/lap", "annotations": { "note": note },
    });
    let (_, manifest) = image(b"layer", &more);
    let mut entry = Descriptor::of(MANIFEST, &manifest);
    entry.artifact_type = Some("application/lap".into());
    (manifest, entry)
}

/// The digests in an index.
fn listed(index: &[u8]) -> Vec<String> {
    let index: Value = serde_json::from_slice(index).unwrap();
    assert_eq!(index["mediaType"], INDEX);
    let entries = index["manifests"].as_array().unwrap().iter();
    entries.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}
