//! Events as `CloudEvents` 1.0 in structured JSON, and the signature of a delivery. Pure.
//!
//! Sources: `CloudEvents` 1.0.2, "Context attributes" and "JSON event format"; the form of the
//! signature is that of GitHub's `X-Hub-Signature-256`.

use hmac::{Hmac, Mac as _};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::event::{About, Event, Link, Severity, What};

/// Media type of a structured event.
pub const MEDIA_TYPE: &str = "application/cloudevents+json; charset=UTF-8";
/// The signature over the raw body alone: what receivers of GitHub's webhooks check.
pub const BODY_SIGNATURE: &str = "x-hub-signature-256";
/// Seconds since 1970 at which this delivery was sent.
pub const TIMESTAMP: &str = "x-pitlane-timestamp";
/// The signature over the timestamp, a full stop, and the raw body: what refuses replays.
pub const SIGNATURE: &str = "x-pitlane-signature-256";
/// The event's id, the same for each try.
pub const DELIVERY: &str = "x-pitlane-delivery";
/// `type` of an event is this, its kind, and the version of its data.
const TYPE: &str = "dev.pitlane.";

/// `data` of an event: `schemas/event.json`.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Data<'a> {
    /// How much it matters.
    pub severity: Severity,
    /// Whom it is about.
    pub about: &'a About,
    /// What happened.
    pub what: &'a What,
    /// Where to read more.
    pub links: &'a [Link],
}

/// The event; `source` is a URI that stands for this instance.
pub fn cloud_event(event: &Event, source: &str) -> Value {
    let about = &event.about;
    let subject: Vec<&str> =
        [&about.repository, &about.tag].into_iter().flatten().map(String::as_str).collect();
    let mut whole = json!({
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": format!("{TYPE}{}.v1", event.kind().name()),
        "time": event.time.to_string(),
        "datacontenttype": "application/json",
        "data": Data {
            severity: event.severity(),
            about: &event.about,
            what: &event.what,
            links: &event.links,
        },
    });
    if !subject.is_empty() {
        // Must not be empty where it stands (section "subject").
        whole["subject"] = subject.join("@").into();
    }
    whole
}

/// `sha256=` and the HMAC-SHA-256 of the parts, hexadecimal.
fn signature(secret: &[u8], parts: &[&[u8]]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
    for part in parts {
        mac.update(part);
    }
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// The headers that prove who sent these bytes, and when (seconds since 1970).
pub fn signatures(secret: &[u8], sent: i64, body: &[u8]) -> [(&'static str, String); 3] {
    let time = sent.to_string();
    [
        (BODY_SIGNATURE, signature(secret, &[body])),
        (SIGNATURE, signature(secret, &[time.as_bytes(), b".", body])),
        (TIMESTAMP, time),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::samples;

    #[test]
    fn events_as_they_are_sent() {
        for event in samples() {
            let sent = cloud_event(&event, "https://pitlane.example");
            assert_eq!(sent["type"], format!("dev.pitlane.{}.v1", event.kind().name()));
            for attribute in sent.as_object().unwrap().keys() {
                let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
                assert!(attribute.bytes().all(lower), "{attribute}: naming conventions");
            }
        }
        let mut event = samples().remove(8);
        let sent = cloud_event(&event, "urn:pitlane");
        insta::assert_snapshot!(serde_json::to_string_pretty(&sent).unwrap(), @r#"
        {
          "data": {
            "about": {
              "carKind": "donkeycar",
              "commit": "af433fff2d93aed104018193e87f5ad31ec80ab0",
              "counter": 3,
              "pipeline": "donkeycar",
              "repository": "team/car",
              "run": "r12-5f3a9c01",
              "tag": "v1.0.0"
            },
            "links": [
              {
                "title": "run",
                "url": "https://pitlane.example/runs/r12-5f3a9c01"
              }
            ],
            "severity": "warning",
            "what": {
              "findings": {
                "critical": 1,
                "low": 3
              },
              "gate": "secrets",
              "kind": "gate-failed",
              "message": "1 finding of critical, at most 0"
            }
          },
          "datacontenttype": "application/json",
          "id": "14aa6219f56e48824a6295d7ff575d03",
          "source": "urn:pitlane",
          "specversion": "1.0",
          "subject": "team/car@v1.0.0",
          "time": "2026-11-21T09:24:59Z",
          "type": "dev.pitlane.gate-failed.v1"
        }
        "#);
        event.about = crate::About::default();
        assert!(cloud_event(&event, "urn:pitlane").get("subject").is_none());
    }

    /// The vector of GitHub's documentation, and of Python's `hmac` for the one with a time.
    #[test]
    fn signatures_are_those_of_others() {
        let secret = b"It's a Secret to Everybody";
        let [body, whole, time] = signatures(secret, 1_764_000_000, b"Hello, World!");
        assert_eq!(body.0, "x-hub-signature-256");
        assert_eq!(
            body.1,
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
        assert_eq!(
            whole.1,
            "sha256=e400107e54677b310c6fd8e101689566324146ff5ab3fffb9bad45981c224e38"
        );
        assert_eq!(time.1, "1764000000");
    }
}
