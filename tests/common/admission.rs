//! The admission webhook as a running program, and an API server's side of it.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{Process, bin, http, json as parse, run};

/// Longest wait for a connection or the next byte.
const LIMIT: Duration = Duration::from_secs(20);

/// `pitlane-verifier admit`, running.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) process: Process,
    hooks: SocketAddr,
    health: String,
    certs: PathBuf,
}

/// Makes or renews the certificate in a folder.
pub(crate) fn certify(certs: &Path) -> Value {
    let mut command = Command::new(bin("pitlane-verifier"));
    command.args(["admit", "certs", "--name", "localhost", "--out"]).arg(certs);
    parse(run(&mut command).ok())
}

impl Admission {
    /// Starts it in a folder of its own, with further arguments.
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        let certs = dir.join("certs");
        certify(&certs);
        let mut command = Command::new(bin("pitlane-verifier"));
        command.args(["admit", "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"]);
        command.args(["--look-every", "1", "--tls-cert"]).arg(certs.join("tls.crt"));
        command.arg("--tls-key").arg(certs.join("tls.key")).args(args);
        let (process, line) = Process::server(&mut command, &dir.join("admission.log"));
        let listening = parse(line)["listening"].clone();
        let at = |name: &str, scheme: &str| {
            listening[name].as_str().unwrap().strip_prefix(scheme).unwrap().to_owned()
        };
        let hooks = at("hooks", "https://").parse().unwrap();
        Self { process, hooks, health: at("health", "http://"), certs }
    }

    /// A request over TLS that trusts our own authority alone; also the certificate shown.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Option<(http::Answer, Vec<u8>)> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.certs.join("ca.crt")).unwrap();
        roots.add(authority).unwrap();
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect_timeout(&self.hooks, LIMIT).ok()?;
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let headers = [("Content-Type", "application/json")];
        let answer = http::exchange(&mut stream, method, "localhost", path, &headers, body)?;
        let shown = stream.conn.peer_certificates()?.first()?.to_vec();
        Some((answer, shown))
    }

    /// The answer to a review, which has its uid.
    #[track_caller]
    pub(crate) fn ask(&self, hook: &str, review: &Value) -> Value {
        let body = review.to_string().into_bytes();
        let (answer, _) = self.send("POST", &format!("/{hook}?timeout=10s"), &body).unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let answer = answer.json();
        assert_eq!(answer["kind"], "AdmissionReview", "{answer:#}");
        assert_eq!(answer["apiVersion"], review["apiVersion"], "{answer:#}");
        assert_eq!(answer["response"]["uid"], review["request"]["uid"], "{answer:#}");
        answer["response"].clone()
    }

    /// Wants it allowed; gives the response.
    #[track_caller]
    pub(crate) fn allowed(&self, hook: &str, review: &Value) -> Value {
        let response = self.ask(hook, review);
        assert_eq!(response["allowed"], true, "{response:#}");
        response
    }

    /// Wants it denied with this code; gives the message.
    #[track_caller]
    pub(crate) fn denied(&self, hook: &str, review: &Value, status: u16, code: &str) -> String {
        let response = self.ask(hook, review);
        assert_eq!(response["allowed"], false, "{response:#}");
        assert_eq!(response["status"]["reason"], code, "{response:#}");
        assert_eq!(response["status"]["code"], status, "{response:#}");
        assert!(response["patch"].is_null(), "{response:#}");
        response["status"]["message"].as_str().unwrap().to_owned()
    }

    /// The object of a review as the mutating webhook leaves it.
    #[track_caller]
    pub(crate) fn mutated(&self, review: &Value) -> Value {
        let response = self.allowed("mutate", review);
        let mut review = review.clone();
        let Some(patch) = response["patch"].as_str() else { return review };
        assert_eq!(response["patchType"], "JSONPatch");
        for change in parse(STANDARD.decode(patch).unwrap()).as_array().unwrap() {
            assert_eq!(change["op"], "replace", "{change}");
            let at = change["path"].as_str().unwrap();
            *review["request"]["object"].pointer_mut(at).unwrap() = change["value"].clone();
        }
        review
    }

    /// What a path of the listener for probes says.
    pub(crate) fn health(&self, path: &str) -> (u16, String) {
        let answer = http::get(&self.health, path).unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    /// A number of the metrics.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.health("/metrics");
        let start = format!("pitlane_admission_{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse().unwrap()
    }
}

/// A review of an object that is made.
pub(crate) fn review(group: &str, kind: &str, object: &Value) -> Value {
    let kind = json!({ "group": group, "version": "v1", "kind": kind });
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "operation": "CREATE",
            "namespace": "car", "name": "donkeycar", "object": object, "oldObject": null,
        },
    })
}

/// A review of a Pod with one container.
pub(crate) fn pod(image: &str) -> Value {
    review("", "Pod", &json!({ "spec": { "containers": [{ "name": "car", "image": image }] } }))
}
