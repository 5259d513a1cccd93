//! MQTT with mosquitto: both versions, passwords, TLS, client certificates, permissions, outages.

use std::{fs, time::Duration};

use pitlane_notify::Stats;
use serde_json::Value;

use super::{
    brokers::{Broker, installed},
    support::{Log, Pki, released, secret, start, until},
};

const PASSWORDS: &str = "allow_anonymous false\npassword_file PASSWORDS";
const READER: [&str; 4] = ["-u", "reader", "-P", "secret"];

fn channel(broker: &Broker, more: &str) -> String {
    format!("channels:\n- name: broker\n  mqtt:\n    broker: localhost:{}\n{more}", broker.port)
}

#[tokio::test]
async fn the_latest_state_of_a_pipeline_is_retained() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let password = secret(folder.path(), "password", "secret\n");
    for version in ["5", "3.1.1"] {
        let broker = Broker::new(PASSWORDS);
        let yaml = channel(
            &broker,
            &format!(
                "    version: '{version}'\n    tls: false\n    user: pitlane\n    passwordFile: \
                 '{}'\n    eventTopic: 'pitlane/{{repository}}/{{tag}}/{{event}}'\n",
                password.display()
            ),
        );
        let reader = broker.reader("pitlane/+/+/run-released", 2, &READER);
        let (outbox, couriers) = start(&yaml);
        let (one, two) = (released("v1"), released("v2/#+\u{0}\u{fc}"));
        outbox.put(&one, ["broker"]);
        outbox.put(&two, ["broker"]);
        couriers.wake();
        until("both are told", || outbox.is_empty()).await;
        let stats = Stats { delivered: 2, ..Stats::default() };
        assert_eq!(couriers.stats()["broker"], stats, "at the first try");

        let read = broker.read(reader);
        assert_eq!(read.len(), 2, "{read:?}");
        assert!(read[0].starts_with("0 pitlane/team%2Fcar/v1/run-released "), "{read:?}");
        let escaped = "0 pitlane/team%2Fcar/v2%2F%23%2B%00%C3%BC/run-released ";
        assert!(read[1].starts_with(escaped), "{read:?}");
        let payload = &read[0][read[0].find('{').unwrap()..];
        let message: Value = serde_json::from_str(payload).unwrap();
        assert_eq!(message["id"], one.id.as_str());

        let kept = broker.retained("pitlane/#", &READER);
        assert_eq!(kept.len(), 1, "{kept:?}");
        let (topic, payload) = kept[0].split_once(' ').unwrap();
        assert_eq!(topic, "pitlane/donkeycar/state");
        let message: Value = serde_json::from_str(payload).unwrap();
        assert_eq!(message["id"], two.id.as_str());
    }
}

#[tokio::test]
async fn a_wrong_password_is_tried_again_and_not_shown() {
    if !installed() {
        return;
    }
    let broker = Broker::new(PASSWORDS);
    let folder = tempfile::tempdir().unwrap();
    let password = secret(folder.path(), "password", "wrong-password");
    let log = Log::default();
    let guard = log.keep();
    for version in ["5", "3.1.1"] {
        let yaml = channel(
            &broker,
            &format!(
                "    version: '{version}'\n    tls: false\n    user: pitlane\n    passwordFile: \
                 '{}'\n  retry: {{attempts: 2}}\n",
                password.display()
            ),
        );
        let (outbox, couriers) = start(&yaml);
        outbox.put(&released("v1"), ["broker"]);
        couriers.wake();
        until("it is given up", || couriers.stats()["broker"].given_up == 1).await;
        assert_eq!(couriers.stats()["broker"].failed_tries, 2);
    }
    drop(guard);
    let text = log.text();
    assert!(text.contains("NotAuthorized"), "{text}");
    assert!(!text.contains("wrong-password"), "{text}");
}

#[tokio::test]
async fn tls_with_a_password_and_with_a_client_certificate() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (pki, password) = (Pki::new(folder.path()), secret(folder.path(), "password", "secret"));
    fs::create_dir(folder.path().join("other")).unwrap();
    let other = Pki::new(&folder.path().join("other"));
    let tls = format!(
        "cafile {}\ncertfile {}\nkeyfile {}",
        pki.ca.display(),
        pki.server.display(),
        pki.server_key.display()
    );
    let by_password = Broker::new(&format!("{PASSWORDS}\n{tls}"));
    let by_certificate =
        Broker::new(&format!("{tls}\nrequire_certificate true\nuse_identity_as_username true"));
    let login = format!("    user: pitlane\n    passwordFile: '{}'\n", password.display());
    let ca = |pki: &Pki| format!("    caFile: '{}'\n", pki.ca.display());
    let certificate = |pki: &Pki| {
        format!(
            "    clientCertificate: '{}'\n    clientKeyFile: '{}'\n",
            pki.client.display(),
            pki.client_key.display()
        )
    };
    for (broker, settings, good) in [
        (&by_password, ca(&pki) + &login, true),
        (&by_password, ca(&pki), false),
        // An authority that did not certify the broker; the system's.
        (&by_password, ca(&other) + &login, false),
        (&by_password, login.clone(), false),
        // To a port that speaks TLS without it.
        (&by_password, format!("    tls: false\n{login}"), false),
        (&by_certificate, ca(&pki) + &certificate(&pki), true),
        (&by_certificate, ca(&pki), false),
        (&by_certificate, ca(&pki) + &certificate(&other), false),
    ] {
        for version in ["5", "3.1.1"] {
            let once = format!("{settings}    version: '{version}'\n  retry: {{attempts: 1}}\n");
            let (outbox, couriers) = start(&channel(broker, &once));
            outbox.put(&released("v1"), ["broker"]);
            couriers.wake();
            until("it ends", || outbox.is_empty()).await;
            assert_eq!(couriers.stats()["broker"].delivered, u64::from(good), "{once}");
        }
    }
    let arguments = [&["--cafile", pki.ca.to_str().unwrap()][..], &READER].concat();
    assert_eq!(by_password.retained("pitlane/#", &arguments).len(), 1);
}

#[tokio::test]
async fn a_topic_that_is_not_permitted_is_given_up() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let list = secret(folder.path(), "acl", "topic readwrite other/#\n");
    let broker = Broker::new(&format!("allow_anonymous true\nacl_file {}", list.display()));
    let (outbox, couriers) = start(&channel(&broker, "    tls: false\n"));
    outbox.put(&released("v1"), ["broker"]);
    couriers.wake();
    until("it is given up", || couriers.stats()["broker"].given_up == 1).await;
    assert_eq!(couriers.stats()["broker"].failed_tries, 1);
}

#[tokio::test]
async fn a_broker_that_was_away_is_told_what_it_missed() {
    if !installed() {
        return;
    }
    let broker = Broker::new("allow_anonymous true");
    let (outbox, couriers) = start(&channel(&broker, "    tls: false\n"));
    outbox.put(&released("v1"), ["broker"]);
    couriers.wake();
    until("the first is told", || outbox.is_empty()).await;
    let port = broker.port;
    drop(broker);
    outbox.put(&released("v2"), ["broker"]);
    couriers.wake();
    until("a try fails", || couriers.stats()["broker"].failed_tries >= 1).await;
    let broker = Broker::at(port, "allow_anonymous true");
    until("the second is told", || outbox.is_empty()).await;
    let kept = broker.retained("pitlane/donkeycar/state", &[]);
    assert!(kept[0].contains(released("v2").id.as_str()), "{kept:?}");
    couriers.stop(Duration::from_secs(5)).await;
}

/// Not mosquitto: peers that accept, and then say nothing, rubbish, or too much.
#[tokio::test]
async fn what_is_no_broker_is_left() {
    use tokio::io::AsyncWriteExt as _;
    for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x20\xff\xff\xff\x7f", b"\x20\x03\x00"]
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(said).await.unwrap();
            let flood = vec![0x20; 65536];
            while stream.write_all(&flood).await.is_ok() {}
        });
        let yaml = format!(
            "channels:\n- name: broker\n  retry: {{attempts: 1}}\n  mqtt: {{broker: \
             'localhost:{port}', tls: false}}\n"
        );
        let (outbox, couriers) = start(&yaml);
        outbox.put(&released("v1"), ["broker"]);
        couriers.wake();
        until("it is given up", || couriers.stats()["broker"].given_up == 1).await;
        server.abort();
    }
}
