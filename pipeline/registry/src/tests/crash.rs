//! What a crash leaves: nothing half, nothing lost that was promised.

use std::{fs, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{Digest, Server, TOKEN, image};
use crate::{Registry, RegistryConfig, RegistryError};
use serde_json::json;

/// A client that goes away in the middle: the upload stands where it stopped; a restart drops it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_dropped_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let body = vec![7; 300_000];
    let digest = Digest::of(&body);
    let at =
        server.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await.header("location").to_owned();
    for line in [format!("PATCH {at}"), format!("POST /v2/cars/a/blobs/uploads/?digest={digest}")] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 300000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..200_000]).await.unwrap();
        drop(stream);
    }
    let mut range = String::new();
    for _ in 0..100 {
        range = server.push(&format!("GET {at}"), &[], b"").await.header("range").to_owned();
        if range == "0-199999" && fs::read_dir(dir.path().join("uploads")).unwrap().count() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(range, "0-199999");
    assert_eq!(server.get(&format!("/v2/cars/a/blobs/{digest}")).await.status, 404);
    // The whole request dropped its file; the session has the only one.
    assert_eq!(fs::read_dir(dir.path().join("uploads")).unwrap().count(), 1);
    assert_eq!(server.registry.used_bytes(), 200_000);
    server.stop().await;

    // As kill -9 leaves it: a file without an owner.
    fs::write(dir.path().join("uploads/ffffffffffffffffffffffffffffffff"), &body).unwrap();
    fs::write(dir.path().join("tmp/17"), b"half a manifest").unwrap();
    let server = Server::start(&dir).await;
    assert_eq!(server.push(&format!("GET {at}"), &[], b"").await.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(server.get(&format!("/v2/cars/a/blobs/{digest}")).await.status, 404);
    assert_eq!(server.registry.used_bytes(), 0);
    for folder in ["uploads", "tmp"] {
        assert_eq!(fs::read_dir(dir.path().join(folder)).unwrap().count(), 0);
    }
    server.stop().await;
}

/// Blobs that were answered but not yet flushed are hashed again: whole ones stay, torn ones go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staged_blobs_are_kept_when_whole() {
    let dir = tempfile::tempdir().unwrap();
    Server::start(&dir).await.stop().await;
    let staged = dir.path().join("staged");
    let (whole, torn) = (Digest::of(b"whole"), Digest::of(b"not torn"));
    fs::write(staged.join(whole.hex()), b"whole").unwrap();
    fs::write(staged.join(torn.hex()), b"not t").unwrap();
    fs::write(staged.join("junk"), b"junk").unwrap();
    let server = Server::start(&dir).await;
    assert_eq!(server.get(&format!("/v2/a/blobs/{whole}")).await.body, b"whole");
    assert_eq!(server.get(&format!("/v2/a/blobs/{torn}")).await.status, 404);
    assert_eq!(fs::read_dir(&staged).unwrap().count(), 0);
    assert_eq!(server.registry.used_bytes(), 5);
    server.stop().await;
}

/// After a manifest's 201 everything has its final name, without waiting for a clean end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_is_on_the_disk_when_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let bytes = server.image("cars/a", "v1", b"layer").await;
    for digest in [Digest::of(&bytes), Digest::of(b"layer"), Digest::of(b"{}")] {
        assert!(dir.path().join("blobs/sha256").join(digest.hex()).is_file());
    }
    let tag = fs::read_to_string(dir.path().join("repositories/cars/a/_tags/v1")).unwrap();
    assert_eq!(tag, format!("{}\n", Digest::of(&bytes)));
    server.stop().await;
    let server = Server::start(&dir).await;
    assert_eq!(server.get("/v2/cars/a/manifests/v1").await.body, bytes);
    server.stop().await;
}

/// A link that a power cut tore (possible without flushing) is as good as none, and heals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_links_heal() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let bytes = server.image("cars/a", "v1", b"layer").await;
    let repo = dir.path().join("repositories/cars/a");
    fs::write(repo.join("_tags/v1"), b"").unwrap();
    fs::write(repo.join("_manifests").join(Digest::of(&bytes).hex()), b"{\"med").unwrap();
    assert_eq!(server.get("/v2/cars/a/manifests/v1").await.code(), "MANIFEST_UNKNOWN");
    server.put("cars/a", "v1", &bytes).await;
    assert_eq!(server.get("/v2/cars/a/manifests/v1").await.body, bytes);
    server.stop().await;
}

/// What was altered on the disk is what a second push puts right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_heals_altered_files() {
    let dir = tempfile::tempdir().unwrap();
    for sync in [true, false] {
        let server = Server::with(&dir, |config| config.sync = sync).await;
        let bytes = server.image("cars/a", "v1", b"layer").await;
        let used = server.registry.used_bytes();
        let file = |digest: Digest| dir.path().join("blobs/sha256").join(digest.hex());
        fs::write(file(Digest::of(b"layer")), b"LAYER").unwrap();
        fs::write(file(Digest::of(&bytes)), &bytes[1..]).unwrap();
        server.image("cars/a", "v1", b"layer").await;
        assert_eq!(fs::read(file(Digest::of(b"layer"))).unwrap(), b"layer");
        assert_eq!(server.get("/v2/cars/a/manifests/v1").await.body, bytes);
        // The altered manifest's bytes were counted once more; never less than what is there.
        assert!(server.registry.used_bytes() >= used);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_is_an_image_layout_and_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    server.image("cars/a", "v1", b"layer").await;
    let bytes = image(b"layer", &json!({ "annotations": { "a": "b" } }));
    server.put("cars/b", "v1", &bytes).await;
    let second = Registry::open(RegistryConfig::new(dir.path()));
    assert!(matches!(second, Err(RegistryError::InUse(_))));
    server.stop().await;
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.path().join(name)).unwrap()).unwrap()
    };
    assert_eq!(read("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
    let index = read("index.json");
    let names: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["cars/a:v1", "cars/b:v1"]);
    assert_eq!(index["manifests"][1]["digest"], json!(Digest::of(&bytes)));

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("thesis.tex"), b"x").unwrap();
    let refused = Registry::open(RegistryConfig::new(other.path()));
    assert!(matches!(refused, Err(RegistryError::NotALayout(_))));
    assert!(other.path().join("thesis.tex").is_file());
}

/// A folder that was not closed, or is of before repositories noted their blobs, is made whole;
/// a closed one is not looked through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_mended_after_an_end_that_was_none() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    server.image("cars/a", "v1", b"layer").await;
    let subject = json!({ "mediaType": super::MANIFEST, "digest": Digest::of(b"x"), "size": 1 });
    let signed = image(b"layer", &json!({ "subject": subject }));
    server.put("cars/a", "signed", &signed).await;
    server.stop().await;
    let repo = dir.path().join("repositories/cars/a");
    let entry = repo.join("_referrers").join(Digest::of(b"x").hex());
    fs::remove_dir_all(repo.join("_blobs")).unwrap();
    fs::rename(entry.join(Digest::of(&signed).hex()), entry.join("0".repeat(64))).unwrap();
    assert_eq!(crate::check(dir.path()).unwrap().len(), 6);

    Server::start(&dir).await.stop().await;
    assert_eq!(crate::check(dir.path()).unwrap().len(), 6, "it was closed");
    fs::remove_file(dir.path().join("closed")).unwrap();
    let server = Server::start(&dir).await;
    let list = server.get(&format!("/v2/cars/a/referrers/{}", Digest::of(b"x"))).await.json();
    assert_eq!(list["manifests"][0]["digest"], json!(Digest::of(&signed)));
    server.stop().await;
    assert_eq!(crate::check(dir.path()).unwrap(), [""; 0]);
}
