//! Manifests come back as they went in; tags move; deletes take what belongs together.

use super::{Digest, MANIFEST, Server, image};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_bytes_by_tag_and_digest() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    server.image("cars/a", "v1", b"layer").await;
    // Spaces and order are part of the bytes.
    let mut bytes = image(b"layer", &json!({}));
    bytes.extend_from_slice(b"\n  \n");
    let digest = Digest::of(&bytes);
    let put = server.put("cars/a", "v1", &bytes).await;
    assert_eq!(put.status, 201);
    assert_eq!(put.header("docker-content-digest"), digest.to_string());
    assert_eq!(put.header("location"), format!("/v2/cars/a/manifests/{digest}"));
    for reference in ["v1".to_owned(), digest.to_string(), digest.to_string().replace(':', "%3A")] {
        let path = format!("/v2/cars/a/manifests/{reference}");
        let got = server.get(&path).await;
        assert_eq!((got.status, got.body.as_slice()), (200, bytes.as_slice()), "{reference}");
        assert_eq!(got.header("content-type"), MANIFEST);
        assert_eq!(got.header("docker-content-digest"), digest.to_string());
        let head = server.ask(&format!("HEAD {path}"), &[], b"").await;
        assert_eq!(head.header("content-length"), bytes.len().to_string());
        assert!(head.body.is_empty());
        let same = server
            .ask(&format!("GET {path}"), &[&format!("If-None-Match: \"{digest}\"")], b"")
            .await;
        assert_eq!(same.status, 304);
    }
    // The manifest that the tag left is still there by digest.
    let before = Digest::of(image(b"layer", &json!({})));
    assert_eq!(server.get(&format!("/v2/cars/a/manifests/{before}")).await.status, 200);
    // The same PUT again changes nothing and costs nothing.
    let used = server.registry.used_bytes();
    assert_eq!(server.put("cars/a", "v1", &bytes).await.status, 201);
    assert_eq!(server.put("cars/a", &digest.to_string(), &bytes).await.status, 201);
    assert_eq!(server.registry.used_bytes(), used);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let bytes = server.image("cars/a", "v1", b"layer").await;
    server.put("cars/a", "v2", &bytes).await;
    server.image("cars/a", "v3", b"another").await;
    let digest = Digest::of(&bytes);
    let subject = json!({ "mediaType": MANIFEST, "digest": digest, "size": bytes.len() });
    let referrer = image(b"layer", &json!({ "subject": subject }));
    server.put("cars/a", &Digest::of(&referrer).to_string(), &referrer).await;
    let list = format!("/v2/cars/a/referrers/{digest}");
    assert_eq!(server.get(&list).await.json()["manifests"].as_array().unwrap().len(), 1);

    // A tag goes alone.
    assert_eq!(server.push("DELETE /v2/cars/a/manifests/v1", &[], b"").await.status, 202);
    assert_eq!(server.get("/v2/cars/a/manifests/v1").await.code(), "MANIFEST_UNKNOWN");
    assert_eq!(server.get("/v2/cars/a/manifests/v2").await.status, 200);
    // A referrer leaves its list.
    let line = format!("DELETE /v2/cars/a/manifests/{}", Digest::of(&referrer));
    assert_eq!(server.push(&line, &[], b"").await.status, 202);
    assert!(server.get(&list).await.json()["manifests"].as_array().unwrap().is_empty());
    // A manifest goes with its tags, and only these.
    assert_eq!(
        server.push(&format!("DELETE /v2/cars/a/manifests/{digest}"), &[], b"").await.status,
        202
    );
    assert_eq!(server.get("/v2/cars/a/tags/list").await.json()["tags"], json!(["v3"]));
    // Its layer is now nobody's; the config still belongs to v3.
    let blob = |bytes: &[u8]| format!("DELETE /v2/cars/a/blobs/{}", Digest::of(bytes));
    let used = server.registry.used_bytes();
    assert_eq!(server.push(&blob(b"layer"), &[], b"").await.status, 202);
    assert_eq!(server.registry.used_bytes(), used - 5);
    assert_eq!(server.push(&blob(b"layer"), &[], b"").await.status, 404);
    assert_eq!(server.push(&blob(b"{}"), &[], b"").await.code(), "DENIED");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pushes_at_once_all_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let server = std::sync::Arc::new(Server::start(&dir).await);
    let pushes = (0..24).map(|n: u32| {
        let server = std::sync::Arc::clone(&server);
        tokio::spawn(async move {
            // Half of them push the same layer.
            let layer = vec![u8::try_from(n % 12).unwrap(); 10_000];
            server.image(&format!("cars/{}", n % 4), &format!("v{n}"), &layer).await;
        })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await.unwrap();
    }
    for n in 0..24 {
        let got = server.get(&format!("/v2/cars/{}/manifests/v{n}", n % 4)).await;
        assert_eq!(got.status, 200);
        let layer = got.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
        assert_eq!(server.get(&format!("/v2/cars/0/blobs/{layer}")).await.body.len(), 10_000);
    }
    std::sync::Arc::into_inner(server).unwrap().stop().await;
}
