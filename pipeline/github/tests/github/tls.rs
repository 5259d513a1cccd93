//! TLS: a server that nobody vouches for is told nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use pitlane_github::{Client, Problem};
use tokio::io::AsyncReadExt as _;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use crate::common::{Setup, tag};

fn config() -> ServerConfig {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
    ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_vouches_for_gets_no_request() {
    let setup = Setup::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config()));
    let (began, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (reached, read) = (Arc::clone(&began), Arc::clone(&heard));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            reached.fetch_add(1, SeqCst);
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let bytes = stream.read(&mut [0; 1000]).await.unwrap_or(0);
                read.fetch_add(bytes, SeqCst);
            }
        }
    });
    let mut settings = setup.settings(setup.app_credentials());
    settings.address = format!("https://localhost:{port}/api/v3").parse().unwrap();
    let client = Client::new(settings).unwrap();
    let error = client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap_err();
    let Problem::Unavailable { reason, .. } = &error.problem else { panic!("{error}") };
    assert!(reason.contains("certificate"), "{error}");
    assert!(began.load(SeqCst) > 0, "it was reached");
    assert_eq!(heard.load(SeqCst), 0, "not a byte of a request");
}
