//! The registry over a real socket, asked byte by byte: a client of our own that sends exactly
//! what a test says, also what no well-behaved client would.

mod access;
mod collect;
mod crash;
mod kill;
mod limits;
mod lists;
mod manifests;
mod refusals;
mod spec;
mod uploads;

use std::{fmt::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use pitlane_release::{Digest, oci::MANIFEST};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use super::{PushToken, Registry, RegistryConfig, listen::BoundedListener, router};

const TOKEN: &str = "unit-test-push-token";

/// A registry on a free port.
struct Server {
    address: SocketAddr,
    registry: Arc<Registry>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// With pushes and deletes allowed.
    async fn start(dir: &TempDir) -> Self {
        Self::with(dir, |_| {}).await
    }

    async fn with(dir: &TempDir, change: impl FnOnce(&mut RegistryConfig)) -> Self {
        let mut config = RegistryConfig::new(dir.path());
        config.push_token = Some(PushToken::new(TOKEN).unwrap());
        config.allow_delete = true;
        change(&mut config);
        let registry = Arc::new(Registry::open(config).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let app = router(Arc::clone(&registry));
        let listener = BoundedListener::new(listener, 64, Duration::from_secs(20));
        let task = tokio::spawn(async move {
            tokio::select! {
                result = async { axum::serve(listener, app).await } => result.unwrap(),
                _ = stopped => {}
            }
        });
        Self { address, registry, stop, task }
    }

    /// Stops listening and closes the registry, as a clean exit does.
    async fn stop(self) {
        let Self { registry, stop, task, .. } = self;
        stop.send(()).unwrap();
        task.await.unwrap();
        // Connections end on their own; the folder's lock goes with the last holder.
        for _ in 0..200 {
            if Arc::strong_count(&registry) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(Arc::strong_count(&registry), 1, "a connection holds the registry");
        drop(registry);
    }

    /// Sends a request as the pusher.
    async fn push(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        let login = format!("Authorization: Bearer {TOKEN}");
        self.ask(line, &[&[login.as_str()], headers].concat(), body).await
    }

    /// Sends a request without a login.
    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[], b"").await
    }

    /// Sends `line` (method and path), headers and body, and reads the answer to its end.
    async fn ask(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut head =
            format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if !body.is_empty() || line.starts_with('P') {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        for header in headers {
            let _ = write!(head, "{header}\r\n");
        }
        self.raw(&[head.as_bytes(), b"\r\n", body].concat()).await
    }

    /// Sends these bytes.
    async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        Answer::parse(&answer)
    }

    /// Pushes a blob in one request.
    async fn blob(&self, repo: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let answer =
            self.push(&format!("POST /v2/{repo}/blobs/uploads/?digest={digest}"), &[], bytes).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    /// Pushes an image of one layer under a tag, and gives the manifest's bytes.
    async fn image(&self, repo: &str, tag: &str, layer: &[u8]) -> Vec<u8> {
        self.blob(repo, b"{}").await;
        self.blob(repo, layer).await;
        let bytes = image(layer, &json!({}));
        let answer = self.put(repo, tag, &bytes).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        bytes
    }

    /// PUTs an image manifest.
    async fn put(&self, repo: &str, reference: &str, bytes: &[u8]) -> Answer {
        let kind = format!("Content-Type: {MANIFEST}");
        self.push(&format!("PUT /v2/{repo}/manifests/{reference}"), &[&kind], bytes).await
    }
}

/// A manifest with config `{}` and one layer, and `more` merged in.
fn image(layer: &[u8], more: &Value) -> Vec<u8> {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    for (key, value) in more.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    manifest.to_string().into_bytes()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
}

/// An answer, taken apart.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole answer");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    /// A header's value, empty when it is missing.
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The error's code, empty when there is none. Checks the form that the specification gives.
    fn code(&self) -> String {
        let Ok(value) = serde_json::from_slice::<Value>(&self.body) else { return String::new() };
        let Some(error) = value["errors"].get(0) else { return String::new() };
        assert!(error["message"].as_str().is_some_and(|m| m.len() > 10), "{value}");
        error["code"].as_str().unwrap().to_owned()
    }
}
