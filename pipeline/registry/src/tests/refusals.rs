//! Every refusal: what is asked, and with which status and code it is answered.

use super::{Digest, MANIFEST, Server, TOKEN, image};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn a_table_of_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    server.image("cars/a", "v1", b"layer").await;
    let none = format!("sha256:{}", "0".repeat(64));
    let here = Digest::of(b"layer");
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let long = "a".repeat(300);
    let upload = "0".repeat(32);
    let started = server.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await;
    let location = started.header("location").to_owned();
    let foreign = location.replace("cars/a", "cars/b");

    let table: &[(&str, &[&str], &str, u16, &str)] = &[
        // Addresses that are none, and names that would leave the folder.
        ("GET /", &[], "", 404, "UNSUPPORTED"),
        ("GET /v1/", &[], "", 404, "UNSUPPORTED"),
        ("GET /v2/cars/a", &[], "", 404, "UNSUPPORTED"),
        ("GET /v2/../../etc/passwd/tags/list", &[], "", 400, "NAME_INVALID"),
        ("GET /v2/cars/../b/tags/list", &[], "", 400, "NAME_INVALID"),
        ("GET /v2/%2e%2e/%2e%2e/tags/list", &[], "", 400, "NAME_INVALID"),
        ("GET /v2/cars%2fa/tags/list", &[], "", 400, "NAME_INVALID"),
        ("GET /v2/cars%00/tags/list", &[], "", 400, "NAME_INVALID"),
        ("GET /v2/cars//a/tags/list", &[], "", 400, "NAME_INVALID"),
        ("GET /v2/Cars/tags/list", &[], "", 400, "NAME_INVALID"),
        ("GET /v2/cars/a/_tags/tags/list", &[], "", 400, "NAME_INVALID"),
        (&format!("GET /v2/{long}/tags/list"), &[], "", 400, "NAME_INVALID"),
        ("GET /v2/cars/a/manifests/..", &[], "", 400, "MANIFEST_INVALID"),
        ("GET /v2/cars/a/manifests/%2e%2e%2findex.json", &[], "", 400, "MANIFEST_INVALID"),
        (&format!("GET /v2/cars/a/manifests/{long}"), &[], "", 400, "MANIFEST_INVALID"),
        ("GET /v2/cars/a/blobs/../../../lock", &[], "", 404, "UNSUPPORTED"),
        ("GET /v2/cars/a/blobs/sha256:..%2f..%2flock", &[], "", 400, "DIGEST_INVALID"),
        ("PATCH /v2/cars/a/blobs/uploads/..%2flock", &[], "x", 404, "BLOB_UPLOAD_UNKNOWN"),
        // What is not here.
        ("GET /v2/nobody/tags/list", &[], "", 404, "NAME_UNKNOWN"),
        ("GET /v2/nobody/manifests/v1", &[], "", 404, "NAME_UNKNOWN"),
        ("GET /v2/cars/a/manifests/v2", &[], "", 404, "MANIFEST_UNKNOWN"),
        (&format!("GET /v2/cars/a/manifests/{none}"), &[], "", 404, "MANIFEST_UNKNOWN"),
        (&format!("GET /v2/cars/a/manifests/{here}"), &[], "", 404, "MANIFEST_UNKNOWN"),
        (&format!("GET /v2/cars/a/blobs/{none}"), &[], "", 404, "BLOB_UNKNOWN"),
        (&format!("DELETE /v2/cars/a/blobs/{none}"), &[], "", 404, "BLOB_UNKNOWN"),
        ("DELETE /v2/cars/a/manifests/v2", &[], "", 404, "MANIFEST_UNKNOWN"),
        // Digests.
        (&format!("GET /v2/cars/a/blobs/{sha512}"), &[], "", 400, "DIGEST_INVALID"),
        (&format!("GET /v2/cars/a/manifests/{sha512}"), &[], "", 400, "DIGEST_INVALID"),
        (&format!("GET /v2/cars/a/referrers/{sha512}"), &[], "", 400, "DIGEST_INVALID"),
        ("GET /v2/cars/a/referrers/v1", &[], "", 400, "DIGEST_INVALID"),
        (
            &format!("POST /v2/cars/a/blobs/uploads/?digest={sha512}"),
            &[],
            "x",
            400,
            "DIGEST_INVALID",
        ),
        (&format!("POST /v2/cars/a/blobs/uploads/?digest={none}"), &[], "x", 400, "DIGEST_INVALID"),
        (
            &format!("POST /v2/cars/a/blobs/uploads/?mount={sha512}&from=cars/b"),
            &[],
            "",
            400,
            "DIGEST_INVALID",
        ),
        (
            &format!("POST /v2/cars/a/blobs/uploads/?mount={none}&from=../b"),
            &[],
            "",
            400,
            "NAME_INVALID",
        ),
        // Uploads.
        (&format!("PATCH /v2/cars/a/blobs/uploads/{upload}"), &[], "x", 404, "BLOB_UPLOAD_UNKNOWN"),
        (
            &format!("PUT /v2/cars/a/blobs/uploads/{upload}?digest={none}"),
            &[],
            "",
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
        (&format!("PATCH {foreign}"), &[], "x", 404, "BLOB_UPLOAD_UNKNOWN"),
        (&format!("DELETE {foreign}"), &[], "", 404, "BLOB_UPLOAD_UNKNOWN"),
        (&format!("PATCH {location}"), &["Content-Range: 1-1"], "x", 416, "BLOB_UPLOAD_INVALID"),
        (&format!("PATCH {location}"), &["Content-Range: x"], "x", 400, "BLOB_UPLOAD_INVALID"),
        (&format!("PATCH {location}"), &["Content-Range: 0-0"], "xy", 400, "SIZE_INVALID"),
        (&format!("PATCH {location}"), &["Content-Range: 0-4"], "xy", 400, "SIZE_INVALID"),
        (&format!("PUT {location}"), &[], "", 400, "DIGEST_INVALID"),
        (&format!("PUT {location}?digest=x"), &[], "", 400, "DIGEST_INVALID"),
        // Methods and queries.
        ("POST /v2/cars/a/manifests/v1", &[], "x", 405, "UNSUPPORTED"),
        ("PUT /v2/", &[], "", 405, "UNSUPPORTED"),
        ("POST /token", &[], "x", 405, "UNSUPPORTED"),
        ("PUT /v2/cars/a/tags/list", &[], "", 405, "UNSUPPORTED"),
        ("GET /v2/cars/a/blobs/uploads/", &[], "", 405, "UNSUPPORTED"),
        ("GET /v2/cars/a/tags/list?n=-1", &[], "", 400, "UNSUPPORTED"),
        ("GET /v2/_catalog?n=x", &[], "", 400, "UNSUPPORTED"),
        // Ranges.
        (
            &format!("GET /v2/cars/a/blobs/{here}"),
            &["Range: bytes=5-"],
            "",
            416,
            "BLOB_UPLOAD_INVALID",
        ),
        // In use.
        (&format!("DELETE /v2/cars/a/blobs/{here}"), &[], "", 403, "DENIED"),
    ];
    for (line, headers, body, status, code) in table {
        let answer = server.push(line, headers, body.as_bytes()).await;
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code), "{line} {headers:?}");
    }
    assert_eq!(server.get(&format!("/v2/cars/a/blobs/{here}")).await.body, b"layer");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_that_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let good = server.image("cars/a", "v1", b"layer").await;
    let index = |bytes: &[u8], size: usize| {
        let child = json!({ "mediaType": MANIFEST, "digest": Digest::of(bytes), "size": size });
        json!({ "schemaVersion": 2, "manifests": [child] }).to_string().into_bytes()
    };
    let wrong_size = String::from_utf8(good.clone()).unwrap().replace("\"size\":5", "\"size\":6");
    let other = format!("sha256:{}", "1".repeat(64));
    let (oci_index, large) = ("application/vnd.oci.image.index.v1+json", vec![b' '; (4 << 20) + 1]);
    for (what, reference, kind, bytes, status, code) in [
        (
            "a missing layer",
            "v2",
            MANIFEST,
            image(b"absent", &json!({})),
            400,
            "MANIFEST_BLOB_UNKNOWN",
        ),
        ("a wrong size", "v2", MANIFEST, wrong_size.into_bytes(), 400, "MANIFEST_INVALID"),
        ("a missing child", "v2", oci_index, index(b"absent", 6), 400, "MANIFEST_BLOB_UNKNOWN"),
        (
            "a child that is a blob",
            "v2",
            oci_index,
            index(b"layer", 5),
            400,
            "MANIFEST_BLOB_UNKNOWN",
        ),
        ("a child's wrong size", "v2", oci_index, index(&good, 1), 400, "MANIFEST_INVALID"),
        ("another digest", &other, MANIFEST, good.clone(), 400, "DIGEST_INVALID"),
        ("another type", "v2", "text/plain", good.clone(), 400, "MANIFEST_INVALID"),
        ("no JSON", "v2", MANIFEST, b"layer".to_vec(), 400, "MANIFEST_INVALID"),
        ("too large", "v2", MANIFEST, large, 413, "SIZE_INVALID"),
    ] {
        let kind = format!("Content-Type: {kind}");
        let line = format!("PUT /v2/cars/a/manifests/{reference}");
        let answer = server.push(&line, &[&kind], &bytes).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}");
    }
    // A child in another repository does not count: a pull would not find it under this name.
    let kind = format!("Content-Type: {oci_index}");
    let bytes = index(&good, good.len());
    assert_eq!(
        server.push("PUT /v2/cars/b/manifests/v1", &[&kind], &bytes).await.code(),
        "MANIFEST_BLOB_UNKNOWN"
    );
    assert_eq!(server.push("PUT /v2/cars/a/manifests/v2", &[&kind], &bytes).await.status, 201);
    assert_eq!(server.get("/v2/cars/b/tags/list").await.code(), "NAME_UNKNOWN");
    // Nothing of the refused ones is left over.
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_do_what() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let digest = server.blob("cars/a", b"blob").await;
    server.image("cars/a", "v1", b"blob").await;
    let upload = server.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await;
    let upload = upload.header("location");

    let ping = server.get("/v2/").await;
    assert_eq!((ping.status, ping.code().as_str()), (401, "UNAUTHORIZED"));
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"pitlane\"", server.address);
    assert_eq!(ping.header("www-authenticate"), realm);
    let wrong = "Authorization: Bearer not-the-token-at-all";
    for line in [
        "POST /v2/cars/a/blobs/uploads/".to_owned(),
        format!("POST /v2/cars/a/blobs/uploads/?mount={digest}&from=cars/a"),
        format!("PATCH {upload}"),
        format!("PUT {upload}?digest={digest}"),
        format!("GET {upload}"),
        format!("DELETE {upload}"),
        "PUT /v2/cars/a/manifests/v1".to_owned(),
        "DELETE /v2/cars/a/manifests/v1".to_owned(),
        format!("DELETE /v2/cars/a/blobs/{digest}"),
    ] {
        for headers in [&[][..], &[wrong], &["Authorization: Bearer anonymous"]] {
            let answer = server.ask(&line, headers, b"").await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (401, "UNAUTHORIZED"),
                "{line} {headers:?}"
            );
        }
    }
    // A wrong login is told so, also where none is needed.
    assert_eq!(server.ask("GET /v2/cars/a/tags/list", &[wrong], b"").await.status, 401);
    assert_eq!(server.get("/v2/cars/a/tags/list").await.status, 200);

    // The token endpoint: a login gets a pass that pushes, nobody gets one that reads.
    let anonymous = server.get("/token?scope=repository:cars/a:pull").await.json();
    assert_eq!(anonymous["token"], "anonymous");
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let basic = |password: &str| {
        format!("Authorization: Basic {}", STANDARD.encode(format!("ci:{password}")))
    };
    let pass = server.ask("GET /token", &[&basic(TOKEN)], b"").await.json();
    let bearer = format!("Authorization: Bearer {}", pass["token"].as_str().unwrap());
    assert_eq!(server.ask("POST /v2/cars/a/blobs/uploads/", &[&bearer], b"").await.status, 202);
    assert_eq!(
        server.ask("POST /v2/cars/a/blobs/uploads/", &[&basic(TOKEN)], b"").await.status,
        202
    );
    assert_eq!(server.ask("GET /v2/", &[&bearer], b"").await.status, 200);
    assert_eq!(server.ask("GET /token", &[&basic("wrong-wrong-wrong")], b"").await.status, 401);
    server.stop().await;

    let private = Server::with(&dir, |config| config.anonymous_pull = false).await;
    for path in
        ["/v2/", "/v2/cars/a/tags/list", "/v2/cars/a/manifests/v1", "/v2/_catalog", "/token"]
    {
        let answer = private.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.header("www-authenticate").starts_with("Basic "), "{path}");
        assert_eq!(
            private.ask(&format!("GET {path}"), &[&basic(TOKEN)], b"").await.status,
            200,
            "{path}"
        );
    }
    private.stop().await;

    let closed = Server::with(&dir, |config| config.push_token = None).await;
    assert_eq!(closed.get("/v2/").await.status, 200);
    assert_eq!(closed.ask("POST /v2/cars/a/blobs/uploads/", &[], b"").await.code(), "DENIED");
    assert_eq!(closed.push("POST /v2/cars/a/blobs/uploads/", &[], b"").await.code(), "DENIED");
    closed.stop().await;

    let kept = Server::with(&dir, |config| config.allow_delete = false).await;
    for line in
        ["DELETE /v2/cars/a/manifests/v1".to_owned(), format!("DELETE /v2/cars/a/blobs/{digest}")]
    {
        let answer = kept.push(&line, &[], b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "UNSUPPORTED"), "{line}");
    }
    kept.stop().await;
}
