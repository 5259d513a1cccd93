//! Every answer of the webhook, over a real socket.

use std::fmt::Write as _;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{REPOSITORY, SECRET, Served, ZERO, commit, intake, push_body, route, shared};
use crate::service::{
    request::MAX_BODY,
    route::{Route, Routes},
    secret::{Secrets, sign},
    store::{RunFilter, Store},
    webhook::Intake,
};

struct World {
    served: Served,
    store: Store,
    http: Client,
    _dir: tempfile::TempDir,
}

impl World {
    async fn with(make: impl FnOnce(&Store) -> Intake) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s.db")).unwrap();
        let served = Served::start(make(&store).router()).await;
        let http = Client::builder().no_proxy().build().unwrap();
        Self { served, store, http, _dir: dir }
    }

    async fn new() -> Self {
        let tags = Route { tag_pattern: "v*".to_owned(), ..route("octo/car", "car") };
        Self::with(|store| intake(store, vec![route(REPOSITORY, "hello"), tags])).await
    }

    fn request(&self, id: &str, event: &str, body: impl Into<Vec<u8>>) -> RequestBuilder {
        let body = body.into();
        let signature = sign(SECRET.as_bytes(), &body);
        self.http
            .post(self.served.url("/webhook"))
            .header("content-type", "application/json")
            .header("x-github-event", event)
            .header("x-github-delivery", id)
            .header("x-hub-signature-256", signature)
            .body(body)
    }

    async fn push(&self, id: &str, body: &Value) -> (u16, Value) {
        answer(self.request(id, "push", body.to_string())).await
    }

    async fn count(&self) -> usize {
        self.store.runs(RunFilter::default()).await.unwrap().len()
    }
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| panic!("{status}: {}", String::from_utf8_lossy(&bytes)));
    if status >= 400 {
        for field in ["code", "message", "hint"] {
            assert!(body["error"][field].is_string(), "{status} without {field}: {body}");
        }
    }
    (status, body)
}

#[tokio::test]
async fn a_tag_is_accepted_once_whoever_tells_it() {
    let world = World::new().await;
    let body = push_body("OCTO/Car", "v1", &commit(1), &commit(1));
    let (status, first) = world.push("d1", &body).await;
    assert_eq!((status, first["delivery"].as_str()), (202, Some("d1")));
    let run = world.store.run(first["run"].as_str().unwrap()).await.unwrap();
    assert_eq!((run.repository.as_str(), run.counter, run.tag.as_str()), ("octo/car", 1, "v1"));
    assert_eq!(run.job().tag_object, None);
    // The same delivery again, and the same content under another id.
    for id in ["d1", "d2"] {
        let (status, again) = world.push(id, &body).await;
        assert_eq!((status, &again["run"]), (202, &first["run"]), "{id}");
    }
    assert_eq!(world.count().await, 1);
    // An id belongs to one body.
    let other = push_body("octo/car", "v9", &commit(9), &commit(9));
    let (status, told) = world.push("d1", &other).await;
    assert_eq!((status, told["error"]["code"].as_str()), (409, Some("delivery-reused")));
    assert_eq!(world.count().await, 1);
}

#[tokio::test]
async fn annotated_forced_and_deleted_tags() {
    let world = World::new().await;
    let (status, told) =
        world.push("a1", &push_body("octo/car", "v1", &commit(7), &commit(1))).await;
    assert_eq!(status, 202);
    let run = world.store.run(told["run"].as_str().unwrap()).await.unwrap();
    assert_eq!(run.commit.as_deref(), Some(commit(1).as_str()));
    assert_eq!(run.job().tag_object, Some(commit(7)));
    // Re-annotated at the same commit: the same release.
    let mut again = push_body("octo/car", "v1", &commit(8), &commit(1));
    again["forced"] = json!(true);
    assert_eq!(world.push("a2", &again).await.1["run"], told["run"]);
    // Moved: refused, an alert, no run; twice: still one alert.
    let mut moved = push_body("octo/car", "v1", &commit(2), &commit(2));
    moved["forced"] = json!(true);
    moved["before"] = json!(commit(7));
    for id in ["m1", "m2"] {
        let (status, refused) = world.push(id, &moved).await;
        assert_eq!((status, refused["error"]["code"].as_str()), (409, Some("tag-moved")));
    }
    // Moved before anything was heard of it: taken, and said.
    let mut early = push_body("octo/car", "v0", &commit(4), &commit(4));
    early["before"] = json!(commit(3));
    assert_eq!(world.push("e1", &early).await.0, 202);
    // Deleted and made again elsewhere: a move in two deliveries.
    let mut deleted = push_body("octo/car", "v1", ZERO, ZERO);
    deleted["deleted"] = json!(true);
    deleted["head_commit"] = json!(null);
    let (status, gone) = world.push("x1", &deleted).await;
    assert!(status == 200 && gone["ignored"].as_str().unwrap().contains("deleted"), "{gone}");
    let again = push_body("octo/car", "v1", &commit(3), &commit(3));
    assert_eq!(world.push("x2", &again).await.0, 409);
    assert_eq!(world.count().await, 2);
    let mut alerts = world.store.alerts().await.unwrap();
    alerts.sort_by_key(|a| a.message.clone());
    let found: Vec<_> = alerts.iter().map(|a| (a.code.as_str(), a.tag.as_str(), a.times)).collect();
    let want = [("tag-moved", "v1", 2), ("tag-moved", "v1", 1), ("tag-moved-before", "v0", 1)];
    assert_eq!(found, want);
}

#[tokio::test]
async fn moves_build_again_where_the_route_allows_them() {
    let allowed = Route { allow_moved_tags: true, ..route("octo/car", "car") };
    let world = World::with(|store| intake(store, vec![allowed])).await;
    let mut runs = Vec::new();
    for (id, n) in [("1", 1), ("2", 2), ("3", 1)] {
        let body = push_body("octo/car", "latest", &commit(n), &commit(n));
        let (status, told) = world.push(id, &body).await;
        assert_eq!(status, 202);
        runs.push(told["run"].clone());
    }
    assert_ne!(runs[0], runs[1]);
    // A replayed old delivery makes no new release of the old commit.
    assert_eq!(runs[0], runs[2]);
}

#[tokio::test]
async fn forms() {
    let world = World::new().await;
    let json = push_body("octo/car", "v1", &commit(1), &commit(1)).to_string();
    let mut encoded = String::new();
    for byte in json.bytes() {
        write!(encoded, "%{byte:02x}").unwrap();
    }
    let form = "application/x-www-form-urlencoded";
    let body = format!("payload={encoded}");
    let signed = |body: &str, over: &str| {
        world
            .http
            .post(world.served.url("/webhook"))
            .header("content-type", form)
            .header("x-github-event", "push")
            .header("x-github-delivery", "f1")
            .header("x-hub-signature-256", sign(SECRET.as_bytes(), over.as_bytes()))
            .body(body.to_owned())
    };
    assert_eq!(answer(signed(&body, &json)).await.0, 401, "signed is the form, not the JSON in it");
    assert_eq!(answer(signed("x=1", "x=1")).await.0, 400);
    assert_eq!(answer(signed(&body, &body)).await.0, 202);
}

#[tokio::test]
async fn what_is_refused_and_what_is_ignored() {
    let world = World::new().await;
    let good = push_body("octo/car", "v1", &commit(1), &commit(1)).to_string();
    let bare = || world.http.post(world.served.url("/webhook")).body(good.clone());
    let json = |r: RequestBuilder| r.header("content-type", "application/json");
    let signed = |r: RequestBuilder| {
        r.header("x-hub-signature-256", sign(SECRET.as_bytes(), good.as_bytes()))
    };
    let wrong = sign(b"wrong", good.as_bytes());
    let sha1 = format!("sha1={}", "0".repeat(40));
    let elsewhere = push_body("octo/other", "v1", &commit(1), &commit(1)).to_string();
    let branch = json!({"ref": "refs/heads/main", "after": commit(1),
        "repository": {"full_name": "octo/car"}});
    let pattern = push_body("octo/car", "nightly", &commit(1), &commit(1)).to_string();
    let cases: Vec<(&str, RequestBuilder, u16)> = vec![
        ("no content type", signed(bare()), 415),
        ("text", signed(bare()).header("content-type", "text/plain"), 415),
        ("no signature", json(bare()), 401),
        ("wrong secret", json(bare()).header("x-hub-signature-256", &wrong), 401),
        ("sha1", json(bare()).header("x-hub-signature-256", &sha1), 401),
        (
            "two signatures",
            world.request("i", "push", good.clone()).header("x-hub-signature-256", &wrong),
            401,
        ),
        ("no event, no id", signed(json(bare())), 400),
        ("no id", signed(json(bare())).header("x-github-event", "push"), 400),
        (
            "long id",
            signed(json(bare()))
                .header("x-github-event", "push")
                .header("x-github-delivery", "x".repeat(101)),
            400,
        ),
        ("not JSON", world.request("i", "push", "{\"ref\":"), 400),
        ("no push", world.request("i", "push", "{}"), 400),
        ("not listed", world.request("i", "push", elsewhere), 404),
        ("get", world.http.get(world.served.url("/webhook")), 405),
        ("put", world.http.put(world.served.url("/webhook")), 405),
        ("elsewhere", world.http.post(world.served.url("/")), 404),
        ("the API is not here", world.http.get(world.served.url("/runs")), 404),
        (
            "too large",
            json(bare()).header("x-hub-signature-256", &wrong).body(vec![b' '; MAX_BODY + 1]),
            413,
        ),
        ("ping", world.request("p", "ping", "{\"zen\":\"x\",\"hook_id\":1}"), 200),
        (
            "unsigned ping",
            json(world.http.post(world.served.url("/webhook")))
                .header("x-github-event", "ping")
                .header("x-github-delivery", "p")
                .body("{}"),
            401,
        ),
        ("branch", world.request("b", "push", branch.to_string()), 200),
        ("other event", world.request("c", "workflow_run", "{}"), 200),
        ("no pattern", world.request("n", "push", pattern), 200),
        ("healthz", world.http.get(world.served.url("/healthz")), 200),
    ];
    for (name, request, want) in cases {
        let (status, body) = answer(request).await;
        assert_eq!(status, want, "{name}: {body}");
    }
    let head = world.http.request(Method::HEAD, world.served.url("/webhook")).send().await.unwrap();
    assert_eq!(head.status(), 405);
    assert_eq!(world.count().await, 0, "nothing of this made a run");
    // The very delivery that was refused is taken once it is right.
    assert_eq!(answer(world.request("i", "push", good)).await.0, 202);
}

#[tokio::test]
async fn secrets_of_one_repository_and_rotation() {
    let world = World::with(|store| {
        let mut secrets = Secrets::new();
        secrets.add_lines(b"old\nnew", Some("octo/car"), "test").unwrap();
        secrets.add_lines(b"other", Some("octo/truck"), "test").unwrap();
        let routes = Routes::new(vec![route("octo/car", "a"), route("octo/truck", "b")]).unwrap();
        Intake::new(store.clone(), routes, secrets)
    })
    .await;
    let send = |secret: &str, repository: &str, tag: &str| {
        let body = push_body(repository, tag, &commit(1), &commit(1)).to_string();
        let signature = sign(secret.as_bytes(), body.as_bytes());
        let request = world.http.post(world.served.url("/webhook")).body(body);
        answer(
            request
                .header("content-type", "application/json; charset=utf-8")
                .header("x-github-event", "push")
                .header("x-github-delivery", format!("{secret}-{tag}-{}", repository.len()))
                .header("x-hub-signature-256", signature),
        )
    };
    assert_eq!(send("old", "octo/car", "v1").await.0, 202);
    assert_eq!(send("new", "octo/car", "v2").await.0, 202);
    assert_eq!(send("other", "octo/truck", "v1").await.0, 202);
    assert_eq!(send("gone", "octo/car", "v3").await.0, 401);
    let (status, told) = send("other", "octo/car", "v3").await;
    assert_eq!(
        (status, told["error"]["code"].as_str()),
        (403, Some("secret-of-another-repository"))
    );
    // Only with a valid signature does anybody learn which repositories are listed.
    assert_eq!(send("gone", "octo/unlisted", "v3").await.0, 401);
    assert_eq!(send("new", "octo/unlisted", "v3").await.0, 404);
}

/// Real payloads of GitHub: each has one right answer.
#[tokio::test]
async fn githubs_own_payloads() {
    let Some(folder) = shared("conformance/github-webhooks") else { return };
    let world = World::new().await;
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let event = name.split(['.', '-']).next().unwrap();
        let body = std::fs::read(&path).unwrap();
        let listed =
            String::from_utf8_lossy(&body).contains("\"full_name\": \"Codertocat/Hello-World\"");
        let (status, told) = answer(world.request(&name, event, body)).await;
        let want = match event {
            "ping" => 200,
            _ if !listed => 404,
            "push" if name.starts_with("push.00") => 202,
            _ => 200,
        };
        assert_eq!(status, want, "{name}: {told}");
        seen += 1;
    }
    assert!(seen >= 20, "{seen} payloads");
    let runs = world.store.runs(RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].commit.as_deref(), Some("6113728f27ae82c7b1a177c8d03f9e96e0adf246"));
}

/// Sockets that say nothing or break off cost nothing and stop nobody else.
#[tokio::test]
async fn rude_clients() {
    let world = World::new().await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(world.served.address).await.unwrap();
        stream.write_all(b"POST /webhook HTTP/1.1\r\nContent-Le").await.unwrap();
        idle.push(stream);
    }
    let mut half = TcpStream::connect(world.served.address).await.unwrap();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         X-Hub-Signature-256: {}\r\nContent-Length: 100\r\n\r\n{{",
        sign(b"x", b"y")
    );
    half.write_all(head.as_bytes()).await.unwrap();
    drop(half);
    let mut huge = TcpStream::connect(world.served.address).await.unwrap();
    let filler = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(64 * 1024));
    drop(huge.write_all(filler.as_bytes()).await);
    let mut said = vec![0; 64];
    let n = huge.read(&mut said).await.unwrap_or(0);
    assert!(n == 0 || said.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&said));
    let body = push_body("octo/car", "v1", &commit(1), &commit(1));
    assert_eq!(world.push("d", &body).await.0, 202);
}
