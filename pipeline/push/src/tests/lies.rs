//! What registries do that they should not, and what becomes of it.

use std::time::Instant;

use axum::http::Method;
use pitlane_fetch::FetchError;
use pitlane_release::oci::LAYER_TAR;

use super::{
    liar::{Fault, Liar},
    *,
};
use crate::PushError;

fn layer() -> Inline {
    let bytes: Vec<u8> = (0..1_000_003u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    Inline::new(LAYER_TAR, bytes)
}

/// The whole chain of causes, as people see it.
fn words(error: &PushError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_tried_again() {
    let liar = Liar::start().await;
    for (method, path) in [
        (Method::HEAD, "/blobs/"),
        (Method::POST, "/uploads/"),
        (Method::PUT, "/manifests/"),
        (Method::GET, "/manifests/"),
    ] {
        for status in [500, 503, 429] {
            liar.fault(method.clone(), path, 1, Fault::Status(status, None));
        }
        // Of four tries three fail.
        let client = liar.client();
        let name = format!("{method}{path}");
        push(&client, name.as_bytes(), Some("v1")).await;
        liar.honest();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_pass_says_so_and_may_be_tried_later() {
    let liar = Liar::start().await;
    liar.fault(Method::POST, "/uploads/", 100, Fault::Status(503, None));
    let error = liar.client().blob(&layer()).await.unwrap_err();
    assert_eq!(liar.asked("POST", "/uploads/"), 4);
    let PushError::Network { tries: 4, source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source, FetchError::Status { status: 503, .. }), "{error:?}");
    liar.honest();
    // What will not pass is not tried again.
    liar.fault(Method::POST, "/uploads/", 100, Fault::Status(405, None));
    let error = liar.client().blob(&layer()).await.unwrap_err();
    assert!(matches!(error, PushError::Refused { status: 405, .. }), "{error}");
    assert_eq!(liar.asked("POST", "/uploads/"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_asks_for_time_gets_it_within_reason() {
    let liar = Liar::start().await;
    liar.fault(Method::POST, "/uploads/", 1, Fault::Status(429, Some("1")));
    let began = Instant::now();
    liar.client().blob(&layer()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    // The longest pause of these tests is 1.5 s, whatever is asked for.
    liar.fault(Method::PUT, "/manifests/", 1, Fault::Status(429, Some("86400")));
    let began = Instant::now();
    let (_, manifest) = image(b"layer", &json!({}));
    push(&liar.client(), b"layer", None).await;
    assert!(liar.client().manifest(&manifest, MANIFEST, None).await.is_ok());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// An upload that breaks in the middle goes on from where the registry says that it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_upload_goes_on() {
    let liar = Liar::start().await;
    for (cuts, chunk) in [
        (vec![400_000], None),
        (vec![1, 300_000, 500_000], None),
        (vec![0], None),
        (vec![100_000], Some(250_000)),
    ] {
        liar.honest();
        let mut bytes = format!("{cuts:?}{chunk:?}").into_bytes();
        bytes.resize(1_000_003, b'x');
        let layer = Inline::new(LAYER_TAR, bytes);
        let mut methods = vec![if chunk.is_some() { Method::PATCH } else { Method::PUT }];
        methods.resize(cuts.len(), Method::PATCH);
        // A single byte cannot be told from none, so the upload begins anew, by PUT.
        if cuts.first() == Some(&1) {
            methods[1] = Method::PUT;
        }
        for (method, cut) in methods.into_iter().zip(&cuts) {
            liar.fault(method, "/uploads/", 1, Fault::Cut(*cut));
        }
        let client = liar.with(Options { chunk_bytes: chunk, ..options(TOKEN) });
        client.blob(&layer).await.unwrap();
        assert!(liar.asked("GET", "/uploads/") >= 1, "{cuts:?}: nobody asked how far it is");
        assert_eq!(client.uploaded(), 1_000_003);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_answer_is_lost_is_found() {
    let liar = Liar::start().await;
    liar.fault(Method::PUT, "/uploads/", 1, Fault::After(500));
    let client = liar.client();
    client.blob(&layer()).await.unwrap();
    assert_eq!(liar.asked("POST", "/uploads/"), 1);
    assert_eq!(liar.asked("PUT", "/uploads/"), 1, "it is not sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_the_registry_forgot_begins_again() {
    let liar = Liar::start().await;
    liar.fault(Method::PUT, "/uploads/", 1, Fault::Cut(1000));
    liar.fault(Method::GET, "/uploads/", 1, Fault::Status(404, None));
    let client = liar.client();
    client.blob(&layer()).await.unwrap();
    assert_eq!(liar.asked("PUT", "/uploads/"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_otherwise_is_not_tagged() {
    let liar = Liar::start().await;
    push(&liar.client(), b"layer", None).await;
    for (what, method, path, fault, word) in [
        (
            "other bytes",
            Method::GET,
            "/manifests/sha256:",
            Fault::Other(b"{}"),
            "gives back sha256:44136fa355b3678a",
        ),
        ("nothing", Method::PUT, "/manifests/sha256:", Fault::Pretend(201), "gives back nothing"),
        ("half of it", Method::GET, "/manifests/sha256:", Fault::Truncated, "failed after 4 tries"),
        ("no end", Method::GET, "/manifests/sha256:", Fault::Endless, "more than 4194304 bytes"),
    ] {
        liar.honest();
        liar.fault(method, path, 100, fault);
        let (_, manifest) = image(b"layer", &json!({ "annotations": { "what": what } }));
        let began = Instant::now();
        let error = liar.client().manifest(&manifest, MANIFEST, Some("v1")).await.unwrap_err();
        assert!(words(&error).contains(word), "{what}: {}", words(&error));
        assert_eq!(liar.asked("PUT", "/manifests/v1"), 0, "{what}: tagged");
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        liar.honest();
        assert!(liar.client().get("v1").await.unwrap().is_none(), "{what}");
        // The same to an honest registry is tagged.
        liar.client().manifest(&manifest, MANIFEST, Some("honest")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_did_not_arrive_is_missed() {
    let liar = Liar::start().await;
    liar.fault(Method::PUT, "/uploads/", 1, Fault::Pretend(201));
    let error = liar.client().blob(&layer()).await.unwrap_err();
    assert!(matches!(&error, PushError::Altered { found, .. } if found == "nothing"), "{error}");
    // An endless answer to an upload that succeeded is nobody's concern.
    liar.fault(Method::PUT, "/manifests/", 1, Fault::Endless);
    let (_, manifest) = image(b"layer", &json!({}));
    let error = liar.client().manifest(&manifest, MANIFEST, None).await.unwrap_err();
    assert!(words(&error).contains("gives back nothing"), "{}", words(&error));
}

/// Neither bytes nor logins follow the registry to another place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_elsewhere() {
    let liar = Liar::start().await;
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/v2/x", trap.local_addr().unwrap());
    let userinfo = format!("http://user@{}/v2/x", liar.address);
    let (_, manifest) = image(b"layer", &json!({}));
    push(&liar.client(), b"layer", None).await;
    for (what, method, path, fault) in [
        ("start", Method::POST, "/uploads/", Fault::Redirect(to.clone())),
        ("upload", Method::PUT, "/uploads/", Fault::Redirect(to.clone())),
        ("place of the upload", Method::POST, "/uploads/", Fault::Location(to.clone())),
        ("user in the address", Method::POST, "/uploads/", Fault::Location(userinfo)),
        ("manifest", Method::PUT, "/manifests/", Fault::Redirect(to.clone())),
        ("read back", Method::GET, "/manifests/", Fault::Redirect(to.clone())),
    ] {
        liar.honest();
        liar.fault(method, path, 1, fault);
        let client = liar.client();
        let error = if path == "/uploads/" {
            client.blob(&layer()).await.unwrap_err()
        } else {
            client.manifest(&manifest, MANIFEST, Some("v1")).await.unwrap_err()
        };
        assert!(matches!(error, PushError::Elsewhere { .. }), "{what}: {error:?}");
    }
    let came = tokio::time::timeout(Duration::from_millis(300), trap.accept()).await;
    assert!(came.is_err(), "somebody followed");
}

/// Registries whose tags stay: the same content is fine, another is refused by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_that_do_not_move() {
    let liar = Liar::start().await;
    let first = push(&liar.client(), b"layer", Some("v1")).await;
    for status in [400, 403, 409, 412] {
        liar.honest();
        liar.fault(Method::PUT, "/manifests/v1", 100, Fault::Status(status, None));
        // A client that knows nothing, with the same content: no PUT of the tag.
        assert_eq!(push(&liar.client(), b"layer", Some("v1")).await, first);
        assert_eq!(liar.asked("PUT", "/manifests/v1"), 0);
        let (_, other) = image(b"layer", &json!({ "annotations": { "n": status.to_string() } }));
        let error = liar.client().manifest(&other, MANIFEST, Some("v1")).await.unwrap_err();
        let PushError::TagTaken { have, want, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*have, *want), (first, Digest::of(&other)));
        assert!(error.to_string().contains("choose another tag"), "{error}");
        assert_eq!(liar.asked("PUT", "/manifests/v1"), 1, "once, and not again and again");
    }
}

/// Two releases that finish at once write the same tag: who comes second finds it done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_tag_at_once() {
    let liar = Liar::start().await;
    let first = push(&liar.client(), b"layer", None).await;
    liar.fault(Method::PUT, "/manifests/v1", 1, Fault::After(409));
    assert_eq!(push(&liar.client(), b"layer", Some("v1")).await, first);
}
