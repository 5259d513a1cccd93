//! Webhooks: what arrives, and what receivers can do to us.

use std::time::{Duration, Instant};

use hmac::{Hmac, Mac as _};
use pitlane_notify::{End, Notifier, Outbox as _, Stats};
use sha2::Sha256;

use super::{
    receiver::{Answer, Receiver},
    support::{Log, Pki, released, secret, section, start, until},
};

const SECRET: &str = "a-secret-of-the-receiver";

fn webhook(url: &str, more: &str) -> String {
    format!("channels:\n- name: hook\n  webhook: {{url: '{url}'}}\n{more}")
}

/// As docs/notify.md tells receivers to do it.
fn verify(headers: &dyn Fn(&str) -> String, body: &[u8], secret: &str, now: i64) -> bool {
    let time = headers("x-pitlane-timestamp");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    let Some(given) = headers("x-pitlane-signature-256").strip_prefix("sha256=").map(hex::decode)
    else {
        return false;
    };
    let fresh = (now - time.parse::<i64>().unwrap()).abs() <= 300;
    given.is_ok_and(|given| mac.verify_slice(&given).is_ok()) && fresh
}

#[tokio::test]
async fn a_signed_event_arrives_and_a_changed_one_is_found() {
    let receiver = Receiver::new(|_| Answer::status("204 No Content")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = secret(folder.path(), "secret", &format!("{SECRET}\n"));
    let (outbox, couriers) = start(&format!(
        "source: https://pitlane.example\nchannels:\n- name: hook\n  webhook: {{url: '{}', \
         secretFile: '{}'}}\n",
        receiver.url(),
        file.display()
    ));
    let event = released("v1.0.0");
    outbox.put(&event, ["hook"]);
    couriers.wake();
    until("the event arrives", || outbox.is_empty()).await;
    let asked = receiver.asked().remove(0);
    assert_eq!(asked.target, "/hook");
    let header = |name: &str| asked.headers.get(name).cloned().unwrap_or_default();
    assert_eq!(header("content-type"), "application/cloudevents+json; charset=UTF-8");
    assert_eq!(header("x-pitlane-delivery"), event.id.as_str());
    let sent = asked.json();
    assert_eq!(sent["id"], event.id.as_str());
    assert_eq!(sent["source"], "https://pitlane.example");
    assert_eq!(sent["data"]["about"]["tag"], "v1.0.0");

    let now = jiff::Timestamp::now().as_second();
    assert!(verify(&header, &asked.body, SECRET, now));
    assert!(!verify(&header, &asked.body, "another", now));
    assert!(!verify(&header, &[&asked.body[..], b" "].concat(), SECRET, now));
    assert!(!verify(&header, &asked.body, SECRET, now + 301), "a replay");
    let replayed = |name: &str| match name {
        "x-pitlane-timestamp" => (now + 301).to_string(),
        _ => header(name),
    };
    assert!(!verify(&replayed, &asked.body, SECRET, now + 301), "a replay with a new time");
    // What receivers of GitHub's webhooks check.
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(&asked.body);
    let whole = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    assert_eq!(header("x-hub-signature-256"), whole);
}

#[tokio::test]
async fn what_fails_is_tried_again_in_order() {
    let receiver = Receiver::new(|number| match number {
        0 => Answer::status("500 Internal Server Error"),
        1 => Answer::Say("429 Too Many Requests", vec!["retry-after: 2".into()], String::new()),
        _ => Answer::status("200 OK"),
    })
    .await;
    let (outbox, couriers) = start(&webhook(&receiver.url(), ""));
    let (one, two) = (released("v1.0.0"), released("v2.0.0"));
    let started = Instant::now();
    outbox.put(&one, ["hook"]);
    outbox.put(&two, ["hook"]);
    couriers.wake();
    until("both arrive", || outbox.is_empty()).await;
    assert!(started.elapsed() >= Duration::from_millis(2500), "both waits were kept");
    let ids: Vec<_> = receiver.asked().iter().map(|asked| asked.json()["id"].clone()).collect();
    let (one, two) = (one.id.as_str(), two.id.as_str());
    assert_eq!(ids, [one, one, one, two]);
    let stats = Stats { delivered: 2, failed_tries: 2, ..Stats::default() };
    assert_eq!(couriers.stats()["hook"], stats);
}

#[tokio::test]
async fn what_is_not_wanted_is_given_up_and_the_next_goes_on() {
    let elsewhere = Receiver::new(|_| Answer::status("200 OK")).await;
    let to = format!("location: {}", elsewhere.url());
    let receiver = Receiver::new(move |number| match number {
        0 => Answer::Say("307 Temporary Redirect", vec![to.clone()], String::new()),
        1 => Answer::status("404 Not Found"),
        _ => Answer::status("200 OK"),
    })
    .await;
    let log = Log::default();
    let _guard = log.keep();
    let (outbox, couriers) = start(&webhook(&receiver.url(), ""));
    for tag in ["v1", "v2", "v3"] {
        outbox.put(&released(tag), ["hook"]);
    }
    couriers.wake();
    until("the last arrives", || outbox.is_empty()).await;
    assert_eq!(receiver.asked().len(), 3, "one try each");
    assert_eq!(elsewhere.asked().len(), 0, "no redirect is followed");
    let stats = Stats { delivered: 1, failed_tries: 2, given_up: 2, dropped: 0 };
    assert_eq!(couriers.stats()["hook"], stats);
    assert!(log.text().contains("gave up telling channel hook"), "{}", log.text());
}

#[tokio::test]
async fn endless_answers_have_an_end() {
    let receiver = Receiver::new(|number| match number {
        0 => Answer::Endless("500 Internal Server Error"),
        1 => Answer::Endless("200 OK"),
        _ => Answer::status("200 OK"),
    })
    .await;
    let (outbox, couriers) = start(&webhook(&receiver.url(), ""));
    let started = Instant::now();
    outbox.put(&released("v1"), ["hook"]);
    outbox.put(&released("v2"), ["hook"]);
    couriers.wake();
    until("both arrive", || outbox.is_empty()).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(receiver.asked().len(), 3);
}

#[tokio::test]
async fn a_channel_that_hangs_holds_up_no_other() {
    let hanging = Receiver::new(|_| Answer::Hang).await;
    let good = Receiver::new(|_| Answer::status("200 OK")).await;
    let yaml = format!(
        "channels:\n- name: hanging\n  webhook: {{url: '{}'}}\n- name: good\n  \
         webhook: {{url: '{}'}}\n",
        hanging.url(),
        good.url()
    );
    let (outbox, couriers) = start(&yaml);
    let started = Instant::now();
    for number in 0..50 {
        outbox.put(&released(&format!("v{number}")), ["hanging", "good"]);
        couriers.wake();
    }
    assert!(started.elapsed() < Duration::from_secs(1), "putting waits for nobody");
    until("the good one has all", || couriers.stats()["good"].delivered == 50).await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(couriers.stats()["hanging"].delivered, 0);
    couriers.stop(Duration::from_millis(200)).await;
    assert!(started.elapsed() < Duration::from_secs(4), "stopping does not wait for it either");
    assert_eq!(outbox.len(), 50, "nothing that was not told is forgotten");
}

#[tokio::test]
async fn too_many_are_dropped_counted_and_logged() {
    let log = Log::default();
    let _guard = log.keep();
    let receiver = Receiver::new(|_| Answer::status("503 Service Unavailable")).await;
    let (outbox, couriers) = start(&webhook(&receiver.url(), "  queue: 3\n"));
    for number in 0..10 {
        outbox.put(&released(&format!("v{number}")), ["hook"]);
    }
    couriers.wake();
    until("seven are dropped", || couriers.stats()["hook"].dropped == 7).await;
    assert_eq!(outbox.len(), 3);
    let oldest = outbox.next("hook").await.unwrap().unwrap();
    assert_eq!(oldest.event, released("v7"), "the newest are kept");
    assert!(log.text().contains("dropped the oldest notifications of channel hook"));
}

#[tokio::test]
async fn tries_end() {
    let receiver = Receiver::new(|_| Answer::status("500 Internal Server Error")).await;
    let (outbox, couriers) = start(&webhook(&receiver.url(), "  retry: {attempts: 2}\n"));
    outbox.put(&released("v1"), ["hook"]);
    couriers.wake();
    until("it is given up", || outbox.is_empty()).await;
    assert_eq!(receiver.asked().len(), 2);
    assert_eq!(couriers.stats()["hook"].given_up, 1);
}

#[tokio::test]
async fn what_was_not_told_is_told_after_a_restart() {
    let receiver = Receiver::new(|_| Answer::Hang).await;
    let address = receiver.address;
    let yaml = webhook(&receiver.url(), "");
    let (outbox, couriers) = start(&yaml);
    outbox.put(&released("v1"), ["hook"]);
    couriers.wake();
    until("it is asked", || receiver.asked().len() == 1).await;
    drop(couriers);
    drop(receiver);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let couriers = Notifier::open(&section(&yaml)).unwrap().start(&outbox);
    // Nobody listens at first.
    until("a try fails", || couriers.stats()["hook"].failed_tries >= 1).await;
    let receiver = Receiver::at(address, None, |_| Answer::status("200 OK")).await;
    until("it arrives", || outbox.is_empty()).await;
    assert_eq!(receiver.asked()[0].json()["id"], released("v1").id.as_str());
    let id = released("v1").id;
    outbox.ack("hook", &id, &End::Delivered).await.unwrap();
}

#[tokio::test]
async fn certificates_of_a_private_authority() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new(folder.path());
    let tls = Some(pki.server_der.clone());
    let address = "127.0.0.1:0".parse().unwrap();
    let receiver = Receiver::at(address, tls, |_| Answer::status("200 OK")).await;
    let url = format!("https://localhost:{}/hook", receiver.address.port());
    let ca = pki.ca.display();
    let yaml = format!(
        "channels:\n- name: trusting\n  webhook: {{url: '{url}', caFile: '{ca}'}}\n- name: \
         doubting\n  webhook: {{url: '{url}'}}\n"
    );
    let log = Log::default();
    let _guard = log.keep();
    let (outbox, couriers) = start(&yaml);
    outbox.put(&released("v1"), ["trusting", "doubting"]);
    couriers.wake();
    until("one arrives, one fails", || {
        let stats = couriers.stats();
        stats["trusting"].delivered == 1 && stats["doubting"].failed_tries == 1
    })
    .await;
    assert_eq!(receiver.asked().len(), 1);
    assert!(log.text().contains("certificate"), "{}", log.text());
}

/// Receivers repeat what they were told, and so would their error pages.
#[tokio::test]
async fn no_secret_is_logged() {
    let repeats = |said: String| {
        move |number| match number {
            0 => Answer::Say("500 Internal Server Error", Vec::new(), said.clone()),
            _ => Answer::Say("403 Forbidden", Vec::new(), said.clone()),
        }
    };
    let chat = Receiver::new(repeats("no webhook services/T0TEAM/xoxb-1234567890".into())).await;
    let said = format!("no webhook xoxb-1234567890 by {SECRET}");
    let hook = Receiver::new(repeats(said)).await;
    let folder = tempfile::tempdir().unwrap();
    let address = |receiver: &Receiver| {
        format!("http://{}/services/T0TEAM/xoxb-1234567890", receiver.address)
    };
    let chat_url = secret(folder.path(), "chat", &address(&chat));
    let hook_url = secret(folder.path(), "hook", &address(&hook));
    let key = secret(folder.path(), "key", SECRET);
    let yaml = format!(
        "channels:\n- name: chat\n  slack: {{urlFile: '{}'}}\n- name: hook\n  webhook: \
         {{urlFile: '{}', secretFile: '{}'}}\n",
        chat_url.display(),
        hook_url.display(),
        key.display()
    );
    let log = Log::default();
    let guard = log.keep();
    let opened = Notifier::open(&section(&yaml)).unwrap();
    let shown = format!("{opened:?}");
    let outbox = std::sync::Arc::new(pitlane_notify::MemoryOutbox::new(10));
    outbox.put(&released("v1"), ["chat", "hook"]);
    let couriers = opened.start(&outbox);
    until("both are given up", || outbox.is_empty()).await;
    drop((couriers, guard));
    let ours: String = log.text() + &shown;
    for said in ["answers 500", "answers 403", "no webhook ***/T0TEAM/***", "no webhook *** by ***"]
    {
        assert!(ours.contains(said), "{said}: {ours}");
    }
    for secret in ["xoxb-1234567890", SECRET] {
        // The libraries' own lines are beyond us at this level, and are not ours to keep.
        let lines = ours.lines().filter(|line| line.contains(secret));
        let lines: Vec<&str> = lines.filter(|line| line.contains("pitlane")).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
}

#[tokio::test]
async fn a_chat_gets_text_and_blocks() {
    let receiver = Receiver::new(|_| Answer::Say("200 OK", Vec::new(), "ok".into())).await;
    let folder = tempfile::tempdir().unwrap();
    let url = secret(folder.path(), "url", &receiver.url());
    let yaml = format!(
        "channels:\n- name: chat\n  filter: {{severity: info}}\n  slack: {{urlFile: '{}'}}\n",
        url.display()
    );
    let notifier = Notifier::open(&section(&yaml)).unwrap();
    let event = released("v1<!channel>");
    assert_eq!(notifier.channels_for(&event), ["chat"]);
    let outbox = std::sync::Arc::new(pitlane_notify::MemoryOutbox::new(10));
    outbox.put(&event, notifier.channels_for(&event));
    let couriers = notifier.start(&outbox);
    until("it arrives", || couriers.stats()["chat"].delivered == 1).await;
    let sent = receiver.asked().remove(0).json();
    let text = sent["text"].as_str().unwrap();
    assert!(text.contains("`v1&lt;!channel&gt;` of `team/car` is released"), "{text}");
    assert_eq!(sent["blocks"][0]["type"], "section");
}
