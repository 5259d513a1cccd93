//! The other ways to an engine: TLS on both sides, ssh, and Podman behind Docker's API.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use pitlane_builder::{BuildError, Builder, Engine as Which, Host, HostError, Tls};
use pitlane_release::Platform;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::{self, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};

use super::support::{Case, Engine, base, program, run, text_in};

/// A child that ends with this value.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn builds_on(builder: &Builder, base: &str) {
    let case = Case::new(
        base,
        &format!("FROM {base}\nCOPY word /word\nRUN cat /word > /said\n"),
        &[("word", "hello")],
    );
    let (built, _) = case.build(builder).await.unwrap();
    assert_eq!(text_in(&built, "said"), "hello");
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key as PEM files, and as the server takes them.
    fn issue(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf, rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        let [pem, secret] = ["crt", "key"].map(|end| dir.join(format!("{name}.{end}")));
        fs::write(&pem, cert.pem()).unwrap();
        fs::write(&secret, key.serialize_pem()).unwrap();
        (pem, secret, cert, key)
    }
}

#[tokio::test]
async fn tls_with_certificates_on_both_sides() {
    let Some(_engine) = Engine::start() else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let dir = tempfile::tempdir().unwrap();
    let [ours, other] = [Authority::new(), Authority::new()];
    let (_, _, cert, key) = ours.issue(dir.path(), "server");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ours.0.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut engine = tokio::net::UnixStream::connect(Engine::socket()).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut engine).await;
            });
        }
    });
    let files = |authority: &Authority, name: &str| {
        let ca = dir.path().join(format!("{name}-ca.crt"));
        fs::write(&ca, authority.0.pem()).unwrap();
        let (cert, key, ..) = authority.issue(dir.path(), name);
        Tls { ca, cert, key }
    };
    let url = format!("tcp://localhost:{port}");
    let good = files(&ours, "client");
    let builder = Builder::connect(&Host::parse(&url, Some(good.clone())).unwrap()).await.unwrap();
    builds_on(&builder, &base).await;

    let wrong = files(&other, "wrong");
    for (what, tls) in [
        ("a client of another authority", Tls { ca: good.ca.clone(), ..wrong.clone() }),
        ("a server of another authority", Tls { ca: wrong.ca, ..good.clone() }),
    ] {
        let got = Builder::connect(&Host::parse(&url, Some(tls)).unwrap()).await;
        assert!(matches!(got, Err(HostError::Connect { .. })), "{what}");
    }
}

#[tokio::test]
async fn a_socket_of_another_machine_through_ssh() {
    let Some(_engine) = Engine::start() else { return };
    let (Some(sshd), Some(keygen)) = (program("sshd"), program("ssh-keygen")) else { return };
    let Some(base) = base(&Engine::socket(), Platform::LinuxAmd64) else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["host", "user", "stranger"] {
        let mut make = Command::new(&keygen);
        run(make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(name)));
    }
    fs::copy(at("user.pub"), at("authorized")).unwrap();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let config = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nAuthorizedKeysFile {keys}\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nAllowStreamLocalForwarding yes\n",
        host = at("host").display(),
        keys = at("authorized").display(),
    );
    fs::write(at("sshd.conf"), config).unwrap();
    let _ = fs::create_dir_all("/run/sshd");
    let mut server = Command::new(sshd);
    server.arg("-D").arg("-f").arg(at("sshd.conf")).stdin(Stdio::null()).stderr(Stdio::null());
    let _server = Ends(server.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "sshd does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let client = |name: &str, key: &str, known: &str| {
        fs::write(at(&format!("{name}.known")), known).unwrap();
        let text = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\n",
            at(key).display(),
            at(&format!("{name}.known")).display()
        );
        fs::write(at(name), text).unwrap();
        Host::Ssh {
            destination: "root@127.0.0.1".into(),
            port: Some(port),
            socket: Engine::socket(),
            config: Some(at(name)),
        }
    };
    let known = format!("[127.0.0.1]:{port} {}", fs::read_to_string(at("host.pub")).unwrap());
    let builder = Builder::connect(&client("good", "user", &known)).await.unwrap();
    builds_on(&builder, &base).await;

    let lied = format!("[127.0.0.1]:{port} {}", fs::read_to_string(at("stranger.pub")).unwrap());
    for (name, key, known) in
        [("unknown", "user", ""), ("lied", "user", &*lied), ("stranger", "stranger", &*known)]
    {
        let got = Builder::connect(&client(name, key, known)).await;
        assert!(matches!(got, Err(HostError::Tunnel { .. })), "{name}: {got:?}");
    }
}

#[tokio::test]
async fn podman_builds_behind_the_same_api() {
    let (Some(podman), Some(_)) = (program("podman"), program("docker")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("podman.sock");
    // runc works on every layout of cgroups; crun not on those of both versions.
    let config = dir.path().join("containers.conf");
    fs::write(&config, "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\n").unwrap();
    let mut service = Command::new(podman);
    service.env("CONTAINERS_CONF", config);
    service.arg("--root").arg(dir.path().join("root")).arg("--runroot").arg(dir.path().join("run"));
    service.args([
        "--storage-driver=vfs",
        "--cgroup-manager=cgroupfs",
        "system",
        "service",
        "--time=0",
    ]);
    service.arg(format!("unix://{}", socket.display())).stdin(Stdio::null()).stderr(Stdio::null());
    let _service = Ends(service.spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < end, "podman does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let Some(base) = base(&socket, Platform::LinuxAmd64) else { return };
    let builder = Builder::connect(&Host::Unix(socket)).await.unwrap();
    assert!(builder.facts().name.starts_with("Podman Engine"), "{:?}", builder.facts());
    builds_on(&builder, &base).await;
    let mut case = Case::new(&base, &format!("FROM {base}\n"), &[]);
    case.request.engine = Which::BuildKit { secrets: std::collections::BTreeMap::new() };
    let error = case.build(&builder).await.unwrap_err();
    assert!(
        matches!(&error, BuildError::Unsupported { what, .. } if what.contains("no BuildKit")),
        "{error}"
    );
}
