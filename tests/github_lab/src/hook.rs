//! Webhooks: what is to be told, how it is signed and sent, what goes wrong on the way, and what
//! GitHub remembers of it.

use std::time::{Duration, Instant};

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    answer::encode,
    world::{World, time},
};

/// GitHub gives up after this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a payload is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/json`.
    Json,
    /// `application/x-www-form-urlencoded`, as the field `payload`.
    Form,
}

/// A webhook.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) id: u64,
    /// Of which App; a repository's hook otherwise.
    pub(crate) app: Option<u64>,
    pub(crate) url: String,
    pub(crate) secret: String,
    pub(crate) form: Form,
    pub(crate) events: Vec<String>,
}

impl Hook {
    pub(crate) fn wants(&self, event: &str) -> bool {
        event == "ping" || self.events.iter().any(|e| e == "*" || e == event)
    }

    pub(crate) fn json(&self, base: &str, repository: &str) -> Value {
        let content_type = if self.form == Form::Json { "json" } else { "form" };
        let url = format!("{base}/repos/{repository}/hooks/{}", self.id);
        let mut hook = json!({
            "type": "Repository", "id": self.id, "name": "web", "active": true,
            "events": self.events,
            "config": { "content_type": content_type, "insecure_ssl": "0", "url": self.url },
            "updated_at": time(crate::git::EPOCH), "created_at": time(crate::git::EPOCH),
            "url": url, "test_url": format!("{url}/test"), "ping_url": format!("{url}/pings"),
            "deliveries_url": format!("{url}/deliveries"),
            "last_response": { "code": null, "status": "unused", "message": null },
        });
        if let Some(app) = self.app {
            hook["type"] = json!("App");
            hook["app_id"] = json!(app);
        }
        hook
    }
}

/// What is still to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) hook: Hook,
    pub(crate) guid: String,
    pub(crate) event: String,
    pub(crate) payload: Value,
    pub(crate) redelivery: bool,
    pub(crate) repository: Option<u64>,
    pub(crate) installation: Option<u64>,
}

/// What was sent, or could not be.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: u64,
    pub(crate) sent: Outgoing,
    pub(crate) at: i64,
    pub(crate) took: f64,
    pub(crate) status: String,
    pub(crate) code: u16,
    pub(crate) headers: Value,
    pub(crate) answer: String,
}

impl Delivery {
    pub(crate) fn json(&self, whole: bool) -> Value {
        let payload = &self.sent.payload;
        let mut delivery = json!({
            "id": self.id, "guid": self.sent.guid, "delivered_at": time(self.at),
            "redelivery": self.sent.redelivery, "duration": self.took, "status": self.status,
            "status_code": self.code, "event": self.sent.event,
            "action": payload.get("action").cloned(), "installation_id": self.sent.installation,
            "repository_id": self.sent.repository, "throttled_at": null,
        });
        if whole {
            delivery["url"] = json!(self.sent.hook.url);
            delivery["request"] = json!({ "headers": self.headers, "payload": payload });
            delivery["response"] = json!({ "headers": {}, "payload": self.answer });
        }
        delivery
    }
}

/// What goes wrong with what is sent next. Numbers count what is sent, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// The receiver is not reached; GitHub remembers that.
    Drop(usize),
    /// Nothing is sent and nothing remembered.
    Vanish(usize),
    /// It is sent twice, the second time under another GUID.
    Duplicate(usize),
    /// It is sent twice under the same GUID.
    Repeat(usize),
    /// It waits this long.
    Delay(usize, Duration),
    /// It is sent with a signature by another secret.
    Forge(usize),
    /// All is sent in the opposite order.
    Reverse,
}

/// A GUID that was not given before.
pub(crate) fn guid(world: &mut World) -> String {
    format!("{:08x}-1ab0-11f0-8000-0000000001ab", world.id())
}

/// Lines an event up for every hook that wants it.
pub(crate) fn announce(world: &mut World, repository: &str, event: &str, payload: &Value) {
    let Some(found) = world.repositories.get(repository) else { return };
    let id = found.id;
    let app = world.apps.iter().find(|app| app.repositories.contains(repository));
    let installation = app.map(|app| app.installation);
    let own = found.hooks.iter().map(|hook| (hook.clone(), None));
    let of_app = world.app_hook.iter().filter(|_| installation.is_some());
    let hooks: Vec<(Hook, Option<u64>)> =
        own.chain(of_app.map(|hook| (hook.clone(), installation))).collect();
    for (hook, installation) in hooks.into_iter().filter(|(hook, _)| hook.wants(event)) {
        let mut payload = payload.clone();
        if let Some(id) = installation {
            payload["installation"] = json!({ "id": id, "node_id": format!("I_lab{id}") });
        }
        let guid = guid(world);
        world.outbox.push(Outgoing {
            hook,
            guid,
            event: event.to_owned(),
            payload,
            redelivery: false,
            repository: Some(id),
            installation,
        });
    }
}

/// Lines up, in this order, what is left of the outbox after mischief: what to send, after which
/// wait, whether it is forged, whether the receiver is reached.
pub(crate) fn plan(
    world: &mut World,
    mischief: &[Mischief],
) -> Vec<(Outgoing, Duration, bool, bool)> {
    let mut planned = Vec::new();
    for (number, out) in std::mem::take(&mut world.outbox).into_iter().enumerate() {
        if mischief.contains(&Mischief::Vanish(number)) {
            continue;
        }
        let wait = mischief.iter().find_map(|m| match m {
            Mischief::Delay(n, wait) if *n == number => Some(*wait),
            _ => None,
        });
        let wait = wait.unwrap_or_default();
        let forged = mischief.contains(&Mischief::Forge(number));
        let reached = !mischief.contains(&Mischief::Drop(number));
        planned.push((out.clone(), wait, forged, reached));
        if mischief.contains(&Mischief::Repeat(number)) {
            planned.push((out.clone(), wait, forged, reached));
        }
        if mischief.contains(&Mischief::Duplicate(number)) {
            let out = Outgoing { guid: guid(world), ..out };
            planned.push((out, wait, forged, reached));
        }
    }
    if mischief.contains(&Mischief::Reverse) {
        planned.reverse();
    }
    planned
}

/// The body of a delivery and its content type.
pub(crate) fn body(form: Form, payload: &Value) -> (String, &'static str) {
    let json = payload.to_string();
    match form {
        Form::Json => (json, "application/json"),
        Form::Form => {
            let encoded = encode(&json).replace('/', "%2F");
            (format!("payload={encoded}"), "application/x-www-form-urlencoded")
        }
    }
}

/// `sha256=` and the HMAC of a body.
pub(crate) fn signature(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length is a key");
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Sends one delivery over HTTP; gives status, code, request headers, and the receiver's answer.
pub(crate) async fn send(
    client: &reqwest::Client,
    out: &Outgoing,
    forged: bool,
) -> (String, u16, Value, String, f64) {
    let (body, content_type) = body(out.hook.form, &out.payload);
    let secret = if forged { "somebody else's" } else { &out.hook.secret };
    let (kind, target) = match out.hook.app {
        Some(app) => ("integration", app),
        None => ("repository", out.repository.unwrap_or(0)),
    };
    let mut headers = vec![
        ("Accept", "*/*".to_owned()),
        ("Content-Type", content_type.to_owned()),
        ("User-Agent", "GitHub-Hookshot/1ab1ab1".to_owned()),
        ("X-GitHub-Delivery", out.guid.clone()),
        ("X-GitHub-Event", out.event.clone()),
        ("X-GitHub-Hook-ID", out.hook.id.to_string()),
        ("X-GitHub-Hook-Installation-Target-ID", target.to_string()),
        ("X-GitHub-Hook-Installation-Target-Type", kind.to_owned()),
    ];
    if !secret.is_empty() {
        headers.push(("X-Hub-Signature-256", signature(secret, &body)));
    }
    let mut request = client.post(&out.hook.url).timeout(PATIENCE).body(body);
    for (name, value) in &headers {
        request = request.header(*name, value);
    }
    let began = Instant::now();
    let answer = request.send().await;
    let took = began.elapsed().as_secs_f64();
    let headers: Value = headers.into_iter().map(|(n, v)| (n.to_owned(), json!(v))).collect();
    match answer {
        Ok(answer) => {
            let status = answer.status();
            let reason = status.canonical_reason().unwrap_or("Unknown").to_owned();
            let text = answer.text().await.unwrap_or_default();
            (reason, status.as_u16(), headers, text, took)
        }
        Err(error) if error.is_timeout() => {
            ("timed out".to_owned(), 504, headers, String::new(), took)
        }
        Err(_) => ("failed to connect to host".to_owned(), 502, headers, String::new(), took),
    }
}
