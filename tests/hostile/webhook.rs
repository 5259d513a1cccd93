//! Deliveries: signatures, headers, bodies, forms, names.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use hmac::Mac as _;
use serde_json::{Value, json};

use super::{Answer, Table, world::World};
use crate::common::http;

const FORM: &str = "application/x-www-form-urlencoded";
/// A commit that no repository has.
const COMMIT: &str = "1111111111111111111111111111111111111111";

/// A delivery before it is sent; the good one starts a run.
struct Ask {
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// What is signed, if it is not the body.
    signed: Option<Vec<u8>>,
    /// By which secret, if it is not the service's.
    secret: Option<String>,
    /// Headers with the signature; the right one when absent.
    signatures: Option<Vec<(&'static str, String)>>,
}

type Edit = fn(&mut Ask);

fn push() -> Value {
    json!({
        "ref": "refs/tags/v9.9.9", "before": "0".repeat(40), "after": COMMIT, "created": true,
        "deleted": false, "forced": false, "head_commit": { "id": COMMIT },
        "repository": { "full_name": "team/donkeycar" },
    })
}

fn good() -> Ask {
    Ask {
        method: "POST",
        path: "/webhook",
        headers: vec![
            ("Content-Type", "application/json".to_owned()),
            ("X-GitHub-Event", "push".to_owned()),
            ("X-GitHub-Delivery", "hostile-1".to_owned()),
        ],
        body: push().to_string().into_bytes(),
        signed: None,
        secret: None,
        signatures: None,
    }
}

impl Ask {
    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
    }

    /// Changes a field of the push.
    fn field(&mut self, name: &str, value: Value) {
        let mut body = push();
        body[name] = value;
        self.body = body.to_string().into_bytes();
    }

    fn tag(&mut self, tag: &str) {
        self.field("ref", json!(format!("refs/tags/{tag}")));
    }

    fn repository(&mut self, name: &str) {
        self.field("repository", json!({ "full_name": name }));
    }

    fn text(&mut self, body: impl Into<Vec<u8>>) {
        self.body = body.into();
    }

    fn form(&mut self, body: &str) {
        self.set("Content-Type", FORM);
        self.text(body);
    }

    fn signature(&self, secret: &str) -> String {
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(self.signed.as_ref().unwrap_or(&self.body));
        format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
    }

    fn send(mut self, world: &World) -> Answer {
        let right = self.signature(self.secret.as_deref().unwrap_or(&world.secret));
        let signatures =
            self.signatures.take().unwrap_or_else(|| vec![("X-Hub-Signature-256", right.clone())]);
        self.headers.extend(signatures);
        let headers: Vec<(&str, String)> =
            self.headers.into_iter().map(|(name, value)| (name, value.replace("RIGHT", &right))).collect();
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let host = world.lane.webhook_host();
        let answer = http::send(self.method, host, self.path, &headers, &self.body);
        told(&answer.expect("an answer"))
    }
}

/// The answer's status and code; its message, or why nothing is done.
fn told(answer: &http::Answer) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
        return Answer::new(answer.status.to_string(), String::from_utf8_lossy(&answer.body));
    };
    let error = &body["error"];
    match (error["code"].as_str(), body["ignored"].as_str()) {
        (Some(code), _) => {
            assert!(!error["hint"].as_str().unwrap().is_empty(), "{body}");
            Answer::new(format!("{} {code}", answer.status), error["message"].as_str().unwrap())
        }
        (_, Some(why)) => Answer::new(format!("{} ignored", answer.status), why),
        _ => Answer::new(answer.status.to_string(), body.to_string()),
    }
}

fn signature(name: &'static str, value: &str) -> Option<Vec<(&'static str, String)>> {
    Some(vec![(name, value.to_owned())])
}

/// What it is, what is changed in the good delivery, the status with the code, the words.
const ROWS: &[(&str, Edit, &str, &str)] = &[
    // Signatures.
    ("signed is another body", |a| a.signed = Some(b"{}".to_vec()), "", ""),
    ("signed is the body without its last byte", |a| {
        a.body.push(b' ');
        a.signed = Some(a.body[..a.body.len() - 1].to_vec());
    }, "", ""),
    ("signed with nothing", |a| a.secret = Some(String::new()), "", ""),
    ("no signature", |a| a.signatures = Some(vec![]), "", ""),
    ("an old signature alone", |a| {
        a.signatures = signature("X-Hub-Signature", &format!("sha1={}", "0".repeat(40)));
    }, "", ""),
    ("a signature in another scheme", |a| {
        a.signatures = signature("X-Hub-Signature-256", &format!("sha512={}", "0".repeat(128)));
    }, "", ""),
    ("a signature one digit short", |a| {
        a.signatures = signature("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(63)));
    }, "", ""),
    ("the right signature twice", |a| {
        a.signatures = Some(vec![
            ("X-Hub-Signature-256", "RIGHT".to_owned()),
            ("X-Hub-Signature-256", "RIGHT".to_owned()),
        ]);
    }, "", ""),
    ("two signatures in one line", |a| {
        a.signatures = signature("X-Hub-Signature-256", "RIGHT, RIGHT");
    }, "", ""),
    ("the right signature and a word", |a| {
        a.signatures = signature("X-Hub-Signature-256", "RIGHT;x");
    }, "", ""),
    // Requests.
    ("a patch of JSON", |a| a.set("Content-Type", "application/json-patch+json"), "", ""),
    ("a multipart form", |a| a.set("Content-Type", "multipart/form-data; boundary=x"), "", ""),
    ("an escape code as type", |a| a.set("Content-Type", "text/\u{1b}[2J"), "", ""),
    ("a delete", |a| a.method = "DELETE", "", ""),
    ("the API's path", |a| a.path = "/rollback", "", ""),
    ("a path that climbs", |a| a.path = "/webhook/../runs", "", ""),
    ("a path with a slash more", |a| a.path = "/webhook/", "", ""),
    ("no event", |a| a.headers.retain(|(name, _)| *name != "X-GitHub-Event"), "", ""),
    ("an event of many words", |a| a.set("X-GitHub-Event", &"push ".repeat(30)), "", ""),
    ("no delivery", |a| a.headers.retain(|(name, _)| *name != "X-GitHub-Delivery"), "", ""),
    ("a delivery with a space", |a| a.set("X-GitHub-Delivery", "a b"), "", ""),
    ("a delivery of a page", |a| a.set("X-GitHub-Delivery", &"d".repeat(101)), "", ""),
    ("an event nobody knows", |a| a.set("X-GitHub-Event", "push\u{7f}"), "", ""),
    ("an event with markup", |a| a.set("X-GitHub-Event", "<b>push</b>"), "", ""),
    // Bodies.
    ("nothing", |a| a.text(""), "", ""),
    ("a list of the fields", |a| a.text(format!("[{}]", push())), "", ""),
    ("null", |a| a.text("null"), "", ""),
    ("two documents", |a| a.text(format!("{}{}", push(), push())), "", ""),
    ("cut short", |a| a.body.truncate(a.body.len() - 2), "", ""),
    ("a byte order mark", |a| a.text(format!("\u{feff}{}", push())), "", ""),
    ("bytes that are no text", |a| {
        let at = a.body.windows(4).position(|four| four == b"tags").unwrap();
        a.body[at] = 0xff;
    }, "", ""),
    ("half a surrogate", |a| {
        a.text(push().to_string().replace("v9.9.9", "\\ud800"));
    }, "", ""),
    ("a hundred thousand lists", |a| a.text(format!("{{\"x\":{}", "[".repeat(100_000))), "", ""),
    ("a field twice", |a| {
        a.text(push().to_string().replacen('{', "{\"ref\":\"refs/tags/v8\",", 1));
    }, "", ""),
    ("no number", |a| a.text("{\"after\":NaN}"), "", ""),
    ("a number too large", |a| a.text("{\"after\":1e999}"), "", ""),
    ("packed", |a| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&a.body).unwrap();
        a.body = packed.finish().unwrap();
        a.set("Content-Encoding", "gzip");
    }, "", ""),
    ("an empty object", |a| a.text("{}"), "", ""),
    ("a ref that is a number", |a| a.field("ref", json!(7)), "", ""),
    ("no object", |a| a.field("after", Value::Null), "", ""),
    ("an object that is a branch", |a| a.field("after", json!("main")), "", ""),
    ("an object in capitals", |a| a.field("after", json!("A".repeat(40))), "", ""),
    ("an object of another hash", |a| a.field("after", json!("1".repeat(64))), "", ""),
    ("a commit that is an option", |a| {
        a.field("head_commit", json!({ "id": "--upload-pack=touch /tmp/x" }));
    }, "", ""),
    // Forms.
    ("a form without a payload", |a| a.form("a=1&b=2"), "", ""),
    ("a form with two payloads", |a| a.form("payload=%7B%7D&payload=%7B%7D"), "", ""),
    ("a form that ends in a percent", |a| a.form("payload=%7B%7D%"), "", ""),
    ("a form with no digits", |a| a.form("payload=%zz"), "", ""),
    ("a form in capitals", |a| a.form("PAYLOAD=%7B%7D"), "", ""),
    ("a form encoded twice", |a| a.form("payload=%257B%257D"), "", ""),
    ("JSON that says it is a form", |a| a.set("Content-Type", FORM), "", ""),
    ("a form that says it is JSON", |a| a.text("payload=%7B%7D"), "", ""),
    // Names.
    ("a repository nobody lists", |a| a.repository("team/other"), "", ""),
    ("a repository that climbs", |a| a.repository("team/donkeycar/../../etc"), "", ""),
    ("a repository with a letter of another script", |a| a.repository("team/donk\u{435}ycar"), "", ""),
    ("a repository with a zero", |a| a.repository("team/donkeycar\0"), "", ""),
    ("a repository that is an option", |a| a.repository("--help/donkeycar"), "", ""),
    ("no repository", |a| a.field("repository", Value::Null), "", ""),
    ("a branch called like a tag", |a| a.field("ref", json!("refs/heads/refs/tags/v1")), "", ""),
    ("a tag that climbs", |a| a.tag("../../heads/main"), "", ""),
    ("a tag in a folder", |a| a.tag("a/b"), "", ""),
    ("a tag that is an option", |a| a.tag("-rf"), "", ""),
    ("a tag that is a command", |a| a.tag("v1;reboot"), "", ""),
    ("a tag of two lines", |a| a.tag("v1\nv2"), "", ""),
    ("a tag with two dots", |a| a.tag("v1..v2"), "", ""),
    ("a tag that is a lock", |a| a.tag("v1.lock"), "", ""),
    ("a tag that is a list of referrers", |a| a.tag("sha256-0000"), "", ""),
    ("a tag that is a release's own", |a| a.tag("_release-0000"), "", ""),
    ("a tag too long", |a| a.tag(&"v".repeat(129)), "", ""),
    ("a tag of nothing", |a| a.tag(""), "", ""),
    ("a tag that no pattern wants", |a| a.tag("nightly"), "", ""),
    ("a released tag at another commit", |a| a.tag("v1.0.0"), "", ""),
    ("a deletion", |a| a.field("deleted", json!(true)), "", ""),
];

#[test]
fn deliveries() {
    let world = World::new();
    let mut table = Table::default();
    for (what, edit, code, says) in ROWS {
        let mut ask = good();
        edit(&mut ask);
        let got = world.unchanged(&mut table, what, || ask.send(&world));
        let recorded = world.lane.git(&world.lane.bare("donkeycar"), &["rev-parse", "v1.0.0^{commit}"]);
        let tamed = Answer::new(got.code, world.tame(&got.says, &[(&recorded, "RELEASED")]));
        table.row(what, &tamed, code, says);
    }
    for (what, head, body, code, says) in RAW {
        let got = world.unchanged(&mut table, what, || raw(&world, head, body));
        table.row(what, &got, code, says);
    }
    table.end(ROWS.len() + RAW.len());
}

/// Requests that no client makes: what it is, the head, the start of the body.
const RAW: &[(&str, &str, &str, &str, &str)] = &[
    ("more bytes than are taken", "Content-Length: 26214401", "{", "", ""),
    ("two lengths", "Content-Length: 2\r\nContent-Length: 3", "{}", "", ""),
    ("a length below nothing", "Content-Length: -1", "{}", "", ""),
    ("a length and chunks", "Content-Length: 2\r\nTransfer-Encoding: chunked", "0\r\n\r\n", "", ""),
    ("a chunk without end", "Transfer-Encoding: chunked", "fffffffffffffffff\r\n", "", ""),
];

fn raw(world: &World, head: &str, body: &str) -> Answer {
    let host = world.lane.webhook_host();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = format!(
        "POST /webhook HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         X-Hub-Signature-256: sha256={}\r\nConnection: close\r\n{head}\r\n\r\n{body}",
        "0".repeat(64)
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).unwrap_or("closed").to_owned();
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    match serde_json::from_str::<Value>(body) {
        Ok(said) => Answer::new(
            format!("{status} {}", said["error"]["code"].as_str().unwrap_or("?")),
            said["error"]["message"].as_str().unwrap_or("?"),
        ),
        Err(_) => Answer::new(status, body),
    }
}
