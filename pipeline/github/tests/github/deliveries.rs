//! Deliveries over real HTTP: what arrives, what does not, and how it is found and sent again.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use pitlane_github::{Hook, undelivered};
use pitlane_github_lab::{Form, Mischief};
use serde_json::Value;
use sha2::Sha256;

use crate::common::{Setup, tag};

const SECRET: &str = "between us";

/// A receiver that checks signatures, and remembers what it took: GUID, event, payload.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<(String, String, Value)>>>);

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text =
        |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(&body);
    let signed = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    if text("x-hub-signature-256") != signed {
        return StatusCode::UNAUTHORIZED;
    }
    let json = if text("content-type") == "application/json" {
        body.to_vec()
    } else {
        decode(body.strip_prefix(b"payload=").unwrap())
    };
    let payload = serde_json::from_slice(&json).unwrap();
    receiver.0.lock().unwrap().push((text("x-github-delivery"), text("x-github-event"), payload));
    StatusCode::ACCEPTED
}

fn decode(form: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(form).unwrap();
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        out.extend(hex::decode(&part[..2]).unwrap());
        out.extend(&part.as_bytes()[2..]);
    }
    out
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let app = Router::new().route("/webhook", post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (receiver, url)
    }

    /// What arrived since the last time: event and ref.
    fn take(&self) -> Vec<String> {
        let took = std::mem::take(&mut *self.0.lock().unwrap());
        let word = |(_, event, body): &(String, String, Value)| {
            format!("{event} {}", body["ref"].as_str().unwrap_or("-"))
        };
        took.iter().map(word).collect()
    }

    fn guids(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(guid, ..)| guid.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_arrive_is_found_and_sent_again() {
    let setup = Setup::new();
    let (receiver, url) = Receiver::start().await;
    let client = setup.client();
    let (lab, commit) = (&setup.lab, setup.commit.as_str());
    let id = lab.hook("octo/car", &url, SECRET, Form::Json).unwrap();
    assert_eq!(client.find_hook(&setup.repo, &url).await.unwrap(), Some(id));
    assert_eq!(client.find_hook(&setup.repo, "https://else/").await.unwrap(), None);
    let hook = Hook::Repository { repository: setup.repo.clone(), id };
    lab.deliver(&[]).await;
    assert_eq!(receiver.take(), ["ping -"]);

    // The pushes of v2 (0) and v3 (2) are lost, one on the way and one by a wrong secret.
    lab.push_tags("octo/car", &[("v2", Some(commit)), ("v3", Some(commit))]).unwrap();
    lab.deliver(&[Mischief::Drop(0), Mischief::Forge(2)]).await;
    assert_eq!(receiver.take(), ["create v2", "create v3"]);
    let all = client.deliveries(&hook, Timestamp::UNIX_EPOCH).await.unwrap();
    let codes: Vec<u16> = all.iter().map(|one| one.status_code).collect();
    assert_eq!(codes, [202, 401, 202, 502, 202], "newest first");
    let missed = undelivered(&all, "push");
    assert_eq!(missed.len(), 2);
    let read = client.delivery(&hook, missed[1].id).await.unwrap();
    assert_eq!(
        (&read.payload["ref"], &read.payload["after"]),
        (&"refs/tags/v2".into(), &commit.into())
    );
    for one in &missed {
        client.redeliver(&hook, one.id).await.unwrap();
    }
    lab.deliver(&[]).await;
    assert_eq!(receiver.guids(), [missed[0].guid.clone(), missed[1].guid.clone()]);
    assert_eq!(receiver.take(), ["push refs/tags/v3", "push refs/tags/v2"]);
    let all = client.deliveries(&hook, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(undelivered(&all, "push"), Vec::<&pitlane_github::Delivery>::new());
    assert_eq!(all.iter().filter(|one| one.redelivery).count(), 2);
    // Nothing is as new as tomorrow.
    let later = Timestamp::now() + Duration::from_hours(24);
    assert_eq!(client.deliveries(&hook, later).await.unwrap(), []);
    // Another hook, another delivery.
    let other = Hook::Repository { repository: setup.repo.clone(), id: id + 1 };
    assert_eq!(client.deliveries(&other, later).await.unwrap_err().status(), Some(404));
    assert_eq!(client.delivery(&hook, 1).await.unwrap_err().status(), Some(404));
    assert_eq!(client.redeliver(&hook, 1).await.unwrap_err().status(), Some(404));
}

#[tokio::test(flavor = "multi_thread")]
async fn mischief_is_as_told() {
    let setup = Setup::new();
    let (receiver, url) = Receiver::start().await;
    let (lab, commit) = (&setup.lab, setup.commit.as_str());
    lab.hook("octo/car", &url, SECRET, Form::Form).unwrap();
    lab.forget_lined_up();
    lab.push_tags("octo/car", &[("v2", Some(commit)), ("v3", Some(commit))]).unwrap();
    let began = Instant::now();
    let pause = Duration::from_millis(150);
    let mischief = [
        Mischief::Reverse,
        Mischief::Vanish(1),
        Mischief::Duplicate(0),
        Mischief::Repeat(2),
        Mischief::Delay(3, pause),
    ];
    lab.deliver(&mischief).await;
    assert!(began.elapsed() >= pause);
    let guids = receiver.guids();
    assert_eq!(guids[1], guids[2], "repeated");
    assert_ne!(guids[3], guids[4], "duplicated");
    let want = [
        "create v3",
        "push refs/tags/v3",
        "push refs/tags/v3",
        "push refs/tags/v2",
        "push refs/tags/v2",
    ];
    assert_eq!(receiver.take(), want);
    // A moved and a deleted tag; deleting and making anew is two.
    let second = lab.commit("octo/car", &[("a", b"b")], "another").unwrap();
    lab.deliver(&[]).await;
    assert_eq!(receiver.take(), ["push refs/heads/main"]);
    lab.push_tags("octo/car", &[("v2", Some(&second)), ("v3", None)]).unwrap();
    lab.push_tags("octo/car", &[("v3", Some(&second))]).unwrap();
    lab.deliver(&[]).await;
    let want =
        ["push refs/tags/v2", "push refs/tags/v3", "delete v3", "push refs/tags/v3", "create v3"];
    assert_eq!(receiver.take(), want);
    // More than three at once: silence.
    let four = ["a", "b", "c", "d"].map(|name| (name, Some(commit)));
    lab.push_tags("octo/car", &four).unwrap();
    lab.deliver(&[]).await;
    assert_eq!(receiver.take(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apps_hook_has_deliveries_of_its_own_and_they_have_pages() {
    let setup = Setup::new();
    let (receiver, url) = Receiver::start().await;
    let client = setup.client();
    let (lab, commit) = (&setup.lab, setup.commit.as_str());
    lab.app_hook(&setup.app, &url, SECRET);
    lab.deliver(&[]).await;
    for n in 0..60 {
        lab.push_tags("octo/car", &[(&format!("v2.{n}"), Some(commit))]).unwrap();
    }
    lab.deliver(&[Mischief::Drop(0)]).await;
    assert_eq!(receiver.take().len(), 120);
    let all = client.deliveries(&Hook::App, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(all.len(), 121, "a hundred on the first page, and the rest");
    let missed = undelivered(&all, "push");
    assert_eq!(missed.len(), 1);
    let read = client.delivery(&Hook::App, missed[0].id).await.unwrap();
    assert_eq!(read.payload["installation"]["id"], setup.app.installation);
    client.redeliver(&Hook::App, missed[0].id).await.unwrap();
    lab.deliver(&[]).await;
    assert_eq!(receiver.take(), ["push refs/tags/v2.0"]);
    // A person is no App.
    let person = setup.person(crate::common::ALL);
    let error = person.deliveries(&Hook::App, Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert!(client.resolve_tag(&setup.repo, &tag("v2.1")).await.unwrap().is_some());
}
