//! Tokens with fewer rights: what each of them may not, by whole requests.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Answer, Digest, Server, TOKEN, image};
use crate::Access;

const CI: &str = "ci-token-0123456789";
const READER: &str = "reader-token-0123456789";
const JANITOR: &str = "janitor-token-0123456789";

fn access(anonymous: &str) -> Access {
    let token = |name: &str, token: &str, rights: &str, repositories: &str| {
        let hash = hex::encode(Sha256::digest(token));
        format!(
            "  - {{name: {name}, sha256: {hash}, rights: [{rights}], repositories: [{repositories}]}}\n"
        )
    };
    Access::parse(&format!(
        "apiVersion: pitlane.dev/v1\nkind: RegistryTokens\nanonymousPull: [{anonymous}]\ntokens:\n{}{}{}",
        token("ci", CI, "push", "cars/*"),
        token("reader", READER, "pull", "cars/donkey"),
        token("janitor", JANITOR, "delete, pull", "cars/donkey"),
    ))
    .unwrap()
}

impl Server {
    async fn as_who(&self, token: &str, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        let login = format!("Authorization: Basic {}", STANDARD.encode(format!("x:{token}")));
        let login = if token.is_empty() { "X-Nobody: 1".to_owned() } else { login };
        self.ask(line, &[&[login.as_str()], headers].concat(), body).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_and_repositories() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with(&dir, |config| config.access = access("public/*")).await;
    let manifest = server.image("cars/donkey", "v1", b"layer").await;
    server.image("secret/car", "v1", b"secret layer").await;
    server.image("public/base", "v1", b"public layer").await;
    let kind = format!("Content-Type: {}", super::MANIFEST);
    let layer = Digest::of(b"layer");
    let (donkey, secret) = ("cars/donkey/manifests/v1", "secret/car/manifests/v1");
    let public = "public/base/manifests/v1";
    for (token, line, want) in [
        ("", format!("GET /v2/{donkey}"), 401),
        ("", format!("GET /v2/{public}"), 200),
        ("", format!("PUT /v2/{public}"), 401),
        (READER, format!("GET /v2/{donkey}"), 200),
        (READER, format!("GET /v2/cars/donkey/blobs/{layer}"), 200),
        (READER, format!("GET /v2/{secret}"), 403),
        (READER, format!("GET /v2/{public}"), 200),
        (READER, format!("PUT /v2/{donkey}"), 403),
        (READER, format!("DELETE /v2/{donkey}"), 403),
        (READER, "POST /v2/cars/donkey/blobs/uploads/".to_owned(), 403),
        (CI, "GET /v2/cars/donkey/tags/list".to_owned(), 200),
        (CI, format!("PUT /v2/{donkey}"), 201),
        (CI, format!("DELETE /v2/{donkey}"), 403),
        (CI, format!("PUT /v2/{secret}"), 403),
        (CI, "POST /v2/carsx/blobs/uploads/".to_owned(), 403),
        (JANITOR, format!("PUT /v2/{donkey}"), 403),
        (JANITOR, format!("DELETE /v2/{secret}"), 403),
        (JANITOR, format!("DELETE /v2/{donkey}"), 202),
        (JANITOR, format!("GET /v2/{donkey}"), 404),
        ("wrong-wrong-wrong-wrong", format!("GET /v2/{public}"), 401),
    ] {
        let body: &[u8] = if line.starts_with("PUT") { &manifest } else { b"" };
        let answer = server.as_who(token, &line, &[&kind], body).await;
        assert_eq!(answer.status, want, "{token} {line}: {answer:?}");
    }
    // Everybody sees the repositories that they may pull.
    for (token, want) in [
        ("", json!(["public/base"])),
        (READER, json!(["cars/donkey", "public/base"])),
        (TOKEN, json!(["cars/donkey", "public/base", "secret/car"])),
    ] {
        let list = server.as_who(token, "GET /v2/_catalog", &[], b"").await;
        assert_eq!(list.json()["repositories"], want, "{token}");
    }
    server.stop().await;
    // A right to delete is nothing where deletes are off.
    let kept = Server::with(&dir, |config| {
        config.access = access("");
        config.allow_delete = false;
    })
    .await;
    let line = format!("DELETE /v2/cars/donkey/manifests/{}", Digest::of(&manifest));
    assert_eq!(kept.as_who(JANITOR, &line, &[], b"").await.status, 405);
    kept.stop().await;
}

/// Knowing a digest is no permission to read it, to mount it, or to build on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_read_where_it_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with(&dir, |config| config.access = access("public/*")).await;
    server.image("secret/car", "v1", b"secret layer").await;
    server.image("public/base", "v1", b"public layer").await;
    let (secret, public) = (Digest::of(b"secret layer"), Digest::of(b"public layer"));
    for (digest, want) in [(secret, 404), (public, 404)] {
        for method in ["GET", "HEAD"] {
            let line = format!("{method} /v2/cars/donkey/blobs/{digest}");
            assert_eq!(server.as_who(CI, &line, &[], b"").await.status, want, "{line}");
        }
        let tagged = format!("If-None-Match: \"{digest}\"");
        let line = format!("GET /v2/cars/donkey/blobs/{digest}");
        assert_eq!(server.as_who(CI, &line, &[&tagged], b"").await.status, want);
    }
    let mount = |digest, from: &str| {
        format!("POST /v2/cars/donkey/blobs/uploads/?mount={digest}&from={from}")
    };
    // Not from where it may not read, not where it is not, not out of nowhere.
    for line in [
        mount(secret, "secret/car"),
        mount(secret, "public/base"),
        format!("POST /v2/cars/donkey/blobs/uploads/?mount={secret}"),
    ] {
        assert_eq!(server.as_who(CI, &line, &[], b"").await.status, 202, "{line}");
    }
    let kind = format!("Content-Type: {}", super::MANIFEST);
    server.as_who(CI, "POST /v2/cars/donkey/blobs/uploads/", &[], b"").await;
    let config = format!("POST /v2/cars/donkey/blobs/uploads/?digest={}", Digest::of(b"{}"));
    assert_eq!(server.as_who(CI, &config, &[], b"{}").await.status, 201);
    let put = "PUT /v2/cars/donkey/manifests/v1";
    let stolen = server.as_who(CI, put, &[&kind], &image(b"secret layer", &json!({}))).await;
    assert_eq!(stolen.code(), "MANIFEST_BLOB_UNKNOWN");
    // What it may read it may mount, and then build on.
    let built = image(b"public layer", &json!({}));
    assert_eq!(server.as_who(CI, put, &[&kind], &built).await.code(), "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(server.as_who(CI, &mount(public, "public/base"), &[], b"").await.status, 201);
    assert_eq!(server.as_who(CI, put, &[&kind], &built).await.status, 201);
    let line = format!("GET /v2/cars/donkey/blobs/{public}");
    assert_eq!(server.as_who(CI, &line, &[], b"").await.body, b"public layer");
    // Who may read all builds on all, as before.
    let built = image(b"secret layer", &json!({}));
    assert_eq!(server.put("cars/other", "v1", &built).await.status, 201);
    let line = format!("GET /v2/cars/other/blobs/{secret}");
    assert_eq!(server.as_who(CI, &line, &[], b"").await.body, b"secret layer");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_for_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with(&dir, |config| config.access = access("public/*")).await;
    let fetch = async |scope: &str| {
        let line = format!("GET /token?service=pitlane{scope}");
        let answer = server.as_who(CI, &line, &[], b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        format!("Authorization: Bearer {}", answer.json()["token"].as_str().unwrap())
    };
    let start = |repo: &str| format!("POST /v2/{repo}/blobs/uploads/");
    let one = fetch("&scope=repository:cars/a:pull,push&scope=repository:cars/c:pull").await;
    assert_eq!(server.ask(&start("cars/a"), &[&one], b"").await.status, 202);
    for repo in ["cars/b", "cars/c"] {
        let refused = server.ask(&start(repo), &[&one], b"").await;
        assert_eq!(refused.status, 401, "{repo}");
        let challenge = refused.header("www-authenticate");
        let want = format!("scope=\"repository:{repo}:pull,push\",error=\"insufficient_scope\"");
        assert!(challenge.ends_with(&want), "{challenge}");
    }
    let all = fetch("").await;
    assert_eq!(server.ask(&start("cars/b"), &[&all], b"").await.status, 202);
    // Asking for more than the token has gives no more.
    let greedy = fetch("&scope=repository:secret/car:*").await;
    assert_eq!(server.ask(&start("secret/car"), &[&greedy], b"").await.status, 403);
    // A pass fetches no pass.
    assert_eq!(server.ask("GET /token", &[&all], b"").await.status, 401);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_has_its_share() {
    let dir = tempfile::tempdir().unwrap();
    let change = |config: &mut crate::RegistryConfig| config.limits.repository_bytes = 3000;
    let server = Server::with(&dir, change).await;
    let post = |repo: &str, bytes: &[u8]| {
        format!("POST /v2/{repo}/blobs/uploads/?digest={}", Digest::of(bytes))
    };
    server.blob("a", &[1; 1400]).await;
    let full = server.push(&post("a", &[2; 1601]), &[], &[2; 1601]).await;
    assert_eq!((full.status, full.code().as_str()), (507, "DENIED"));
    // Another repository has room, and a mount counts as well.
    server.blob("b", &[2; 1601]).await;
    let mount = format!("POST /v2/a/blobs/uploads/?mount={}&from=b", Digest::of([2; 1601]));
    assert_eq!(server.push(&mount, &[], b"").await.status, 507);
    // The same blob again costs nothing; what is deleted is free again, also after a restart.
    server.blob("a", &[1; 1400]).await;
    server.blob("a", &[5; 1500]).await;
    let delete = format!("DELETE /v2/a/blobs/{}", Digest::of([1; 1400]));
    assert_eq!(server.push(&delete, &[], b"").await.status, 202);
    server.blob("a", &[3; 1000]).await;
    server.stop().await;
    let server = Server::with(&dir, change).await;
    assert_eq!(server.push(&post("a", &[4; 501]), &[], &[4; 501]).await.status, 507);
    server.blob("a", &[4; 400]).await;
    server.stop().await;
}
