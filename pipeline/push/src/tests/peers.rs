//! Registries as they are: ours with tokens and passes, and Debian's docker-registry.

use std::{fs, io, os::unix::fs::PermissionsExt as _, sync::Arc};

use pitlane_release::oci::{Descriptor, LAYER_TAR};

use super::*;
use crate::{Content, Logins, PushError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_not_sent_again() {
    let own = Own::start().await;
    let client = own.client("cars/donkey");
    let digest = push(&client, b"layer", Some("v1")).await;
    let sent = client.uploaded();
    assert!(sent > 7);
    // The same again, by a client that knows nothing.
    let again = own.client("cars/donkey");
    assert_eq!(push(&again, b"layer", Some("v1")).await, digest);
    let manifest = image(b"layer", &json!({})).1.len() as u64;
    assert_eq!(again.uploaded(), manifest, "no blob, and the tag was not written again");
    assert!(client.get("v1").await.unwrap().is_some_and(|bytes| Digest::of(&bytes) == digest));
    // Ours moves tags.
    let moved = push(&again, b"another", Some("v1")).await;
    assert!(client.get("v1").await.unwrap().is_some_and(|bytes| Digest::of(&bytes) == moved));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_login_is_refused_and_not_shown() {
    let own = Own::start().await;
    let docker = DockerRegistry::start().await;
    let docker = docker.as_ref().map(|docker| docker.address.clone());
    for address in std::iter::once(own.address.to_string()).chain(docker) {
        for login in [Some(login("hunter2-hunter2-hunter2")), None] {
            let options = Options { login, retry: QUICK, ..Options::default() };
            let client = Client::new(repository(&address, "cars/donkey"), options).unwrap();
            let error = client.blob(&Inline::new(LAYER_TAR, &b"layer"[..])).await.unwrap_err();
            let shown = format!("{error} {error:?} {client:?}");
            assert!(shown.contains("401"), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_registry_takes_everything() {
    let Some(docker) = DockerRegistry::start().await else { return };
    let client = docker.client("team/car");
    let digest = push(&client, &vec![7; 3_000_000], Some("v1")).await;
    assert!(client.get("v1").await.unwrap().is_some_and(|bytes| Digest::of(&bytes) == digest));
    let again = docker.client("team/car");
    push(&again, &vec![7; 3_000_000], Some("v1")).await;
    assert_eq!(again.uploaded(), image(&vec![7; 3_000_000], &json!({})).1.len() as u64);
    // In pieces, too.
    let pieces = Options { chunk_bytes: Some(1 << 20), ..options(PASSWORD) };
    let pieces = Client::new(repository(&docker.address, "team/pieces"), pieces).unwrap();
    push(&pieces, &vec![8; 3_000_001], Some("v1")).await;
}

/// A blob in another repository of the registry is mounted, not sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_are_mounted() {
    let layer = vec![9; 500_000];
    let Some(docker) = DockerRegistry::start().await else { return };
    push(&docker.client("base/image"), &layer, None).await;
    let mount =
        Options { mount_from: vec!["not/there".into(), "base/image".into()], ..options(PASSWORD) };
    let client = Client::new(repository(&docker.address, "team/car"), mount).unwrap();
    client.blob(&Inline::new(LAYER_TAR, layer)).await.unwrap();
    assert_eq!(client.uploaded(), 0);
    // What is nowhere is sent all the same.
    client.blob(&Inline::new(LAYER_TAR, &b"new"[..])).await.unwrap();
    assert_eq!(client.uploaded(), 3);
}

/// A token for one repository of ours pushes there, and mounts what it may read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn narrow_tokens_and_passes() {
    // SHA-256 of `narrow-token-0123456789`.
    let text = "
apiVersion: pitlane.dev/v1
kind: RegistryTokens
anonymousPull: [base/*]
tokens:
  - name: ci
    sha256: 19bb0c03d1b7b7b11a7a76e5fa4e9d98b5ab0aab2ae4be27d6de1f8b1ab9d3a2
    rights: [push]
    repositories: [cars/*]
";
    let token = "narrow-token-0123456789";
    let text = text.replace(
        "19bb0c03d1b7b7b11a7a76e5fa4e9d98b5ab0aab2ae4be27d6de1f8b1ab9d3a2",
        &Digest::of(token).hex(),
    );
    let access = pitlane_registry::Access::parse(&text).unwrap();
    let own = Own::with(|config| config.access = access).await;
    push(&own.client("base/image"), b"base layer", None).await;
    push(&own.client("secret/image"), b"secret layer", None).await;
    let narrow = |path: &str| {
        let mount_from = vec!["secret/image".into(), "base/image".into()];
        let options = Options { mount_from, ..options(token) };
        Client::new(repository(own.address, path), options).unwrap()
    };
    let cars = narrow("cars/donkey");
    push(&cars, b"own layer", Some("v1")).await;
    let before = cars.uploaded();
    cars.blob(&Inline::new(LAYER_TAR, &b"base layer"[..])).await.unwrap();
    assert_eq!(cars.uploaded(), before, "mounted");
    let elsewhere = narrow("base/image").blob(&Inline::new(LAYER_TAR, &b"x"[..])).await;
    assert!(matches!(elsewhere, Err(PushError::Refused { status: 403, .. })), "{elsewhere:?}");
}

/// A login from Docker's configuration and its helpers reaches the registry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_of_docker() {
    let own = Own::start().await;
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("docker-credential-test");
    let answer = format!("echo '{{\"Username\":\"x\",\"Secret\":\"{TOKEN}\"}}'");
    fs::write(
        &helper,
        format!("#!/bin/sh\nread server\n[ \"$server\" = {} ] && {answer}\n", own.address),
    )
    .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let config = dir.path().join("config.json");
    let helpers = json!({ "credHelpers": { own.address.to_string(): "test" } });
    fs::write(&config, helpers.to_string()).unwrap();
    let logins = Logins::read(&config).unwrap().with_helpers(dir.path());
    let repository = repository(own.address, "cars/donkey");
    let login = logins.find(&repository).await.unwrap();
    let client = Client::new(repository, Options { login, retry: QUICK, ..Options::default() });
    push(&client.unwrap(), b"layer", Some("v1")).await;
}

/// A file that ends early, or changes, is no blob.
struct Short(Descriptor);

impl Content for Short {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn open(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(io::Cursor::new(b"short".to_vec())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changed_is_not_pushed() {
    let own = Own::start().await;
    let client = own.client("cars/donkey");
    for descriptor in
        [Descriptor::of(LAYER_TAR, b"longer than that"), Descriptor::of(LAYER_TAR, b"other")]
    {
        let error = client.blob(&Short(descriptor.clone())).await.unwrap_err();
        let url = client.http.url(&format!("blobs/{}", descriptor.digest));
        let ask = crate::http::Ask::new(reqwest::Method::HEAD, url, "blob");
        assert_eq!(client.http.send(&ask).await.unwrap().status, 404, "{error}");
    }
}

/// Many blobs at once share a few places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_blobs_at_once() {
    let own = Own::with(|config| config.limits.uploads = crate::PARALLEL).await;
    let client = Arc::new(own.client("cars/donkey"));
    let blobs: Vec<_> = (0..40u8).map(|n| Inline::new(LAYER_TAR, vec![n; 100_000])).collect();
    let all: Vec<&dyn Content> = blobs.iter().map(|blob| blob as &dyn Content).collect();
    client.blobs(&all).await.unwrap();
    assert_eq!(client.uploaded(), 4_000_000);
    let joined = futures_util::future::try_join_all(blobs.iter().map(|blob| client.blob(blob)));
    joined.await.unwrap();
    assert_eq!(client.uploaded(), 4_000_000);
}
