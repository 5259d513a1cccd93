//! Tags, repositories and referrers, page by page.

use super::{Answer, Digest, MANIFEST, Server, image};
use serde_json::{Value, json};

/// The path of a `Link` header.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link");
    assert!(link.is_empty() || link.ends_with(">; rel=\"next\""), "{link}");
    link.strip_prefix('<').and_then(|l| l.split_once('>')).map(|(path, _)| path.to_owned())
}

async fn pages(server: &Server, first: &str, key: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut path = Some(first.to_owned());
    while let Some(at) = path {
        let answer = server.get(&at).await;
        assert_eq!(answer.status, 200, "{at}");
        pages.push(answer.json()[key].as_array().unwrap().clone());
        path = next(&answer);
    }
    pages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_and_repositories() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let bytes = server.image("cars/a", "v1", b"layer").await;
    for tag in ["v10", "v2", "Latest", "_x"] {
        server.put("cars/a", tag, &bytes).await;
    }
    let sorted = json!(["Latest", "_x", "v1", "v10", "v2"]);
    let all = server.get("/v2/cars/a/tags/list").await;
    assert_eq!(all.json(), json!({ "name": "cars/a", "tags": sorted }));
    assert_eq!(next(&all), None);
    let two = pages(&server, "/v2/cars/a/tags/list?n=2", "tags").await;
    assert_eq!(two.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(Value::from(two.concat()), sorted);
    // A start that is no tag itself, one past the end, and an empty page.
    assert_eq!(server.get("/v2/cars/a/tags/list?last=v11").await.json()["tags"], json!(["v2"]));
    assert_eq!(server.get("/v2/cars/a/tags/list?last=z").await.json()["tags"], json!([]));
    let none = server.get("/v2/cars/a/tags/list?n=0").await;
    assert_eq!((none.json()["tags"].clone(), next(&none)), (json!([]), None));
    // A repository that has manifests and no tag exists.
    server.blob("cars/b/c", b"{}").await;
    server.put("cars/b/c", &Digest::of(&bytes).to_string(), &bytes).await;
    assert_eq!(server.get("/v2/cars/b/c/tags/list").await.json()["tags"], json!([]));
    assert_eq!(server.get("/v2/cars/b/tags/list").await.code(), "NAME_UNKNOWN");
    let all = pages(&server, "/v2/_catalog?n=1", "repositories").await;
    assert_eq!(all.concat(), ["cars/a", "cars/b/c"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn referrers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let bytes = server.image("cars/a", "v1", b"layer").await;
    let digest = Digest::of(&bytes);
    let subject = json!({ "mediaType": MANIFEST, "digest": digest, "size": bytes.len() });
    let list = format!("/v2/cars/a/referrers/{digest}");
    let empty = server.get(&list).await;
    assert_eq!(empty.header("content-type"), "application/vnd.oci.image.index.v1+json");
    assert_eq!(empty.json()["manifests"], json!([]));

    let laps = image(
        b"layer",
        &json!({
            "subject": subject, "artifactType": "application/laps", "annotations": { "laps": "3" },
        }),
    );
    // Without an artifactType the config's media type stands for it.
    let plain = image(b"layer", &json!({ "subject": subject }));
    for referrer in [&laps, &plain] {
        let put = server.put("cars/a", &Digest::of(referrer).to_string(), referrer).await;
        assert_eq!((put.status, put.header("oci-subject")), (201, digest.to_string().as_str()));
    }
    assert_eq!(server.get(&list).await.json()["manifests"].as_array().unwrap().len(), 2);
    let filtered = server.get(&format!("{list}?artifactType=application/laps")).await;
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    assert_eq!(
        filtered.json()["manifests"],
        json!([{
            "mediaType": MANIFEST, "digest": Digest::of(&laps), "size": laps.len(),
            "artifactType": "application/laps", "annotations": { "laps": "3" },
        }])
    );
    let by_config =
        server.get(&format!("{list}?artifactType=application%2Fvnd.oci.empty.v1%2Bjson")).await;
    assert_eq!(by_config.json()["manifests"][0]["digest"], json!(Digest::of(&plain)));
    let none = server.get(&format!("{list}?artifactType=a/b")).await;
    assert_eq!(none.json()["manifests"], json!([]));
    // Another repository's list is its own, and a subject may come later or never.
    assert_eq!(server.get(&list.replace("cars/a", "cars/b")).await.json()["manifests"], json!([]));
    let later = Digest::of(b"not here");
    let early = image(
        b"layer",
        &json!({ "subject": { "mediaType": MANIFEST, "digest": later, "size": 8 } }),
    );
    assert_eq!(
        server.put("cars/a", "early", &early).await.header("oci-subject"),
        later.to_string()
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_referrers_comes_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with(&dir, |config| config.sync = false).await;
    let bytes = server.image("cars/a", "v1", b"layer").await;
    let digest = Digest::of(&bytes);
    let subject = json!({ "mediaType": MANIFEST, "digest": digest, "size": bytes.len() });
    // Three of 2 MB each do not fit into one page of 4 MiB.
    let note = "x".repeat(2_000_000);
    for n in 0..3 {
        let annotations = json!({ "note": note, "n": n.to_string() });
        let referrer = image(b"layer", &json!({ "subject": subject, "annotations": annotations }));
        assert_eq!(server.put("cars/a", &format!("r{n}"), &referrer).await.status, 201);
    }
    let pages = pages(&server, &format!("/v2/cars/a/referrers/{digest}"), "manifests").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    let mut digests: Vec<_> = pages.concat().iter().map(|e| e["digest"].to_string()).collect();
    digests.dedup();
    assert_eq!(digests.len(), 3);
    server.stop().await;
}
