//! The webhook: events, forms, signature headers; and the whole handler over a store.

use std::sync::LazyLock;

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pitlane_pipeline::service::{
    Intake, Route, Routes, Secrets, Store,
    event::{Event, form_payload, parse},
    secret::{Signature, sign},
};

use super::{text, wait};
use crate::{Reached, Target};

const WORDS: &[&str] = &[
    "\"ref\":\"refs/tags/v1\"",
    "\"ref\":\"refs/heads/main\"",
    "\"after\":\"0000000000000000000000000000000000000000\"",
    "\"before\":\"1111111111111111111111111111111111111111\"",
    "\"deleted\":true",
    "\"forced\":\"true\"",
    "\"head_commit\":null",
    "\"repository\":{\"full_name\":\"team/car\"}",
    "payload=",
    "%7B%22",
    "&payload=",
    "x-github-event: push",
    "x-github-delivery: d-1",
    "content-type: application/x-www-form-urlencoded",
    "x-hub-signature-256: sha256=",
    "content-length: 99999999",
];

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "webhook-event",
        run: event,
        more: &["shared:conformance/github-webhooks/*"],
        words: WORDS,
        max: 20_000,
    },
    Target { name: "webhook-http", run: http, more: &[], words: WORDS, max: 6_000 },
];

fn event(input: &[u8]) -> Reached {
    let found = parse("push", input);
    if let Ok(Event::Tag(push)) = &found {
        let hex = |id: &str| id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(hex(&push.object) && push.commit.as_deref().is_none_or(hex), "{push:?}");
        assert!(!push.tag.contains(['/', '\n', ' ']) && !push.tag.starts_with('-'), "{push:?}");
        assert_eq!(push.repository.matches('/').count(), 1, "{push:?}");
    }
    let form = form_payload(input);
    if let Ok(payload) = &form {
        assert!(payload.len() <= input.len());
        let _ = parse("push", payload);
    }
    let signature = Signature::parse(text(input)).ok_or("no signature header");
    Reached::of(&found).and(Reached::of(&form)).and(Reached::of(&signature))
}

const SECRET: &[u8] = b"fuzzing-is-no-secret";

type App = TowerToHyperService<axum::Router>;

/// One webhook for the process: what it stores only grows.
static APP: LazyLock<(App, tempfile::TempDir)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("runs.db")).unwrap();
    let route = Route {
        repository: "team/car".into(),
        pipeline: "car".into(),
        car_kind: "donkeycar".into(),
        tag_pattern: "v*".into(),
        allow_moved_tags: false,
        supersede: false,
    };
    let mut secrets = Secrets::new();
    secrets.add_lines(SECRET, None, "fuzzing").unwrap();
    let intake = Intake::new(store, Routes::new(vec![route]).unwrap(), secrets);
    (TowerToHyperService::new(intake.router()), dir)
});

/// Header lines, an empty line, the body. A signature is added unless a header brings one.
fn http(input: &[u8]) -> Reached {
    let (head, body) = super::registry::head_and_body(input);
    let mut request = Request::post("/webhook");
    let mut signed = false;
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")).take(40) {
        signed |= name.eq_ignore_ascii_case("x-hub-signature-256");
        request = request.header(name, value);
    }
    if !signed {
        request = request.header("x-hub-signature-256", sign(SECRET, body));
    }
    let Ok(request) = request.body(Body::from(body.to_vec())) else {
        return Reached::refused("no request");
    };
    let (status, answer) = wait(async {
        let answer = APP.0.call(request).await.unwrap();
        let status = answer.status();
        (status, to_bytes(answer.into_body(), 1 << 20).await.expect("a short answer"))
    });
    assert!(!status.is_server_error(), "{status} {}", String::from_utf8_lossy(&answer));
    assert!(!signed || !status.is_success(), "a signature was forged: {status}");
    let kind = String::from_utf8_lossy(&answer).chars().take(120).collect::<String>();
    if status.is_success() {
        Reached::accepted(kind.split(':').next().unwrap_or(""))
    } else {
        Reached::refused(kind)
    }
}
