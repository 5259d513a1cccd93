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

fn good(number: usize) -> Ask {
    Ask {
        method: "POST",
        path: "/webhook",
        headers: vec![
            ("Content-Type", "application/json".to_owned()),
            ("X-GitHub-Event", "push".to_owned()),
            ("X-GitHub-Delivery", format!("hostile-{number}")),
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
        let headers: Vec<(&str, String)> = self
            .headers
            .into_iter()
            .map(|(name, value)| (name, value.replace("RIGHT", &right)))
            .collect();
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

fn signature(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    vec![(name, value.to_owned())]
}

/// What it is, what is changed in the good delivery, the status with the code, the words.
const ROWS: &[(&str, Edit, &str, &str)] = rows! {
    // Signatures.
    "signed is another body": |a| a.signed = Some(b"{}".to_vec())
        => "401 signature", "X-Hub-Signature-256 does not match the body";
    "signed is the body without its last byte": |a| {
        a.body.push(b' ');
        a.signed = Some(a.body[..a.body.len() - 1].to_vec());
    } => "401 signature", "X-Hub-Signature-256 does not match the body";
    "signed with nothing": |a| a.secret = Some(String::new())
        => "401 signature", "X-Hub-Signature-256 does not match the body";
    "no signature": |a| a.signatures = Some(vec![])
        => "401 signature", "X-Hub-Signature-256 is missing";
    "an old signature alone": |a| {
        a.signatures = Some(signature("X-Hub-Signature", &format!("sha1={}", "0".repeat(40))));
    } => "401 signature", "X-Hub-Signature-256 is missing";
    "a signature in another scheme": |a| {
        a.signatures = Some(signature("X-Hub-Signature-256", &format!("sha512={}", "0".repeat(128))));
    } => "401 signature", "X-Hub-Signature-256 is not sha256= and 64 hexadecimal digits";
    "a signature one digit short": |a| {
        a.signatures = Some(signature("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(63))));
    } => "401 signature", "X-Hub-Signature-256 is not sha256= and 64 hexadecimal digits";
    "the right signature twice": |a| {
        a.signatures = Some(vec![
            ("X-Hub-Signature-256", "RIGHT".to_owned()),
            ("X-Hub-Signature-256", "RIGHT".to_owned()),
        ]);
    } => "401 signature", "X-Hub-Signature-256 is not sha256= and 64 hexadecimal digits";
    "two signatures in one line": |a| {
        a.signatures = Some(signature("X-Hub-Signature-256", "RIGHT, RIGHT"));
    } => "401 signature", "X-Hub-Signature-256 is not sha256= and 64 hexadecimal digits";
    "the right signature and a word": |a| {
        a.signatures = Some(signature("X-Hub-Signature-256", "RIGHT;x"));
    } => "401 signature", "X-Hub-Signature-256 is not sha256= and 64 hexadecimal digits";
    // Requests.
    "a patch of JSON": |a| a.set("Content-Type", "application/json-patch+json")
        => "415 content-type", "content type `application/json-patch+json` is not taken";
    "a multipart form": |a| a.set("Content-Type", "multipart/form-data; boundary=x")
        => "415 content-type", "content type `multipart/form-data` is not taken";
    "an escape code as type": |a| a.set("Content-Type", "text/\u{1b}[2J") => "400", "";
    "a delete": |a| a.method = "DELETE" => "405 method", "this takes POST alone";
    "the API's path": |a| a.path = "/rollback" => "404 path", "nothing is here";
    "a path that climbs": |a| a.path = "/webhook/../runs" => "404 path", "nothing is here";
    "a path with a slash more": |a| a.path = "/webhook/" => "404 path", "nothing is here";
    "no event": |a| a.headers.retain(|(name, _)| *name != "X-GitHub-Event")
        => "400 headers", "X-GitHub-Event is missing";
    "an event of many words": |a| a.set("X-GitHub-Event", &"push ".repeat(30))
        => "400 headers", "X-GitHub-Event is missing";
    "no delivery": |a| a.headers.retain(|(name, _)| *name != "X-GitHub-Delivery")
        => "400 headers", "X-GitHub-Delivery is missing or unreadable";
    "a delivery with a space": |a| a.set("X-GitHub-Delivery", "a b")
        => "400 headers", "X-GitHub-Delivery is missing or unreadable";
    "a delivery of a page": |a| a.set("X-GitHub-Delivery", &"d".repeat(101))
        => "400 headers", "X-GitHub-Delivery is missing or unreadable";
    "an event nobody knows": |a| a.set("X-GitHub-Event", "push\u{7f}") => "400", "";
    "an event with markup": |a| a.set("X-GitHub-Event", "<b>push</b>")
        => "200 ignored", "`<b>push</b>` starts nothing";
    // Bodies.
    "nothing": |a| a.text("")
        => "400 payload", "the body is not a JSON object: it does not start with `{`";
    "a list of the fields": |a| a.text(format!("[{}]", push()))
        => "400 payload", "the body is not a JSON object: it does not start with `{`";
    "null": |a| a.text("null")
        => "400 payload", "the body is not a JSON object: it does not start with `{`";
    "two documents": |a| a.text(format!("{}{}", push(), push()))
        => "400 payload", "the body is not a JSON object: trailing characters at line 1 column 284";
    "cut short": |a| a.body.truncate(a.body.len() - 2)
        => "400 payload", "the body is not a JSON object: EOF while parsing an object at line 1 \
           column 281";
    "a byte order mark": |a| a.text(format!("\u{feff}{}", push()))
        => "400 payload", "the body is not a JSON object: it does not start with `{`";
    "bytes that are no text": |a| {
        let at = a.body.windows(4).position(|four| four == b"tags").unwrap();
        a.body[at] = 0xff;
    } => "400 payload", "the body is not a JSON object: invalid unicode code point at line 1 \
           column 227";
    "half a surrogate": |a| {
        a.text(push().to_string().replace("v9.9.9", "\\ud800"));
    } => "400 payload", "the body is not a JSON object: unexpected end of hex escape at line 1 \
           column 238";
    "a hundred thousand lists": |a| a.text(format!("{{\"x\":{}", "[".repeat(100_000)))
        => "400 payload", "the body is not a JSON object: EOF while parsing a list at line 1 \
           column 100005";
    "a field twice": |a| {
        a.text(push().to_string().replacen('{', "{\"ref\":\"refs/tags/v8\",", 1));
    } => "400 payload", "the body is not a JSON object: duplicate field `ref` at line 1 column \
           240";
    "no number": |a| a.text("{\"after\":NaN}")
        => "400 payload", "the body is not a JSON object: expected value at line 1 column 10";
    "a number too large": |a| a.text("{\"after\":1e999}")
        => "400 payload", "the body is not a JSON object: number out of range at line 1 column 14";
    "packed": |a| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&a.body).unwrap();
        a.body = packed.finish().unwrap();
        a.set("Content-Encoding", "gzip");
    } => "400 payload", "the body is not a JSON object: it does not start with `{`";
    "an empty object": |a| a.text("{}")
        => "400 payload", "the push has no usable `repository.full_name`: missing";
    "a ref that is a number": |a| a.field("ref", json!(7))
        => "400 payload", "the push has no usable `ref`: missing";
    "no object": |a| a.field("after", Value::Null)
        => "400 payload", "the push has no usable `after`: missing";
    "an object that is a branch": |a| a.field("after", json!("main"))
        => "400 payload", "the push has no usable `after`: `main` is not a commit (40 lower-case \
           hexadecimal digits)";
    "an object in capitals": |a| a.field("after", json!("A".repeat(40)))
        => "400 payload", "the push has no usable `after`: \
           `AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA` is not a commit (40 lower-case hexadecimal \
           digits)";
    "an object of another hash": |a| a.field("after", json!("1".repeat(64)))
        => "400 payload", "the push has no usable `after`: \
           `1111111111111111111111111111111111111111111111111111111111111111` is not a commit \
           (40 lower-case hexadecimal digits)";
    "a commit that is an option": |a| {
        a.field("head_commit", json!({ "id": "--upload-pack=touch /tmp/x" }));
    } => "400 payload", "the push has no usable `head_commit.id`: `--upload-pack=touch /tmp/x` \
           is not a commit (40 lower-case hexadecimal digits)";
    // Forms.
    "a form without a payload": |a| a.form("a=1&b=2")
        => "400 payload", "the form has no readable `payload` field";
    "a form with two payloads": |a| a.form("payload=%7B%7D&payload=%7B%7D")
        => "400 payload", "the form has no readable `payload` field";
    "a form that ends in a percent": |a| a.form("payload=%7B%7D%")
        => "400 payload", "the form has no readable `payload` field";
    "a form with no digits": |a| a.form("payload=%zz")
        => "400 payload", "the form has no readable `payload` field";
    "a form in capitals": |a| a.form("PAYLOAD=%7B%7D")
        => "400 payload", "the form has no readable `payload` field";
    "a form encoded twice": |a| a.form("payload=%257B%257D")
        => "400 payload", "the body is not a JSON object: it does not start with `{`";
    "JSON that says it is a form": |a| a.set("Content-Type", FORM)
        => "400 payload", "the form has no readable `payload` field";
    "a form that says it is JSON": |a| a.text("payload=%7B%7D")
        => "400 payload", "the body is not a JSON object: it does not start with `{`";
    // Names.
    "a repository nobody lists": |a| a.repository("team/other")
        => "404 repository-not-listed", "team/other is not on this service's list";
    "a repository that climbs": |a| a.repository("team/donkeycar/../../etc")
        => "400 payload", "the push has no usable `repository.full_name`: \
           `team/donkeycar/../../etc` is not a repository name (OWNER/NAME: letters, digits and \
           . _ -)";
    "a repository with a letter of another script": |a| a.repository("team/donk\u{435}ycar")
        => "400 payload", "the push has no usable `repository.full_name`: `team/donkеycar` is \
           not a repository name (OWNER/NAME: letters, digits and . _ -)";
    "a repository with a zero": |a| a.repository("team/donkeycar\0")
        => "400 payload", "the push has no usable `repository.full_name`: `team/donkeycar\0` is \
           not a repository name (OWNER/NAME: letters, digits and . _ -)";
    "a repository that is an option": |a| a.repository("--help/donkeycar")
        => "400 payload", "the push has no usable `repository.full_name`: `--help/donkeycar` is \
           not a repository name (OWNER/NAME: letters, digits and . _ -)";
    "no repository": |a| a.field("repository", Value::Null)
        => "400 payload", "the push has no usable `repository.full_name`: missing";
    "a branch called like a tag": |a| a.field("ref", json!("refs/heads/refs/tags/v1"))
        => "200 ignored", "not the push of a tag";
    "a tag that climbs": |a| a.tag("../../heads/main")
        => "200 ignored", "`../../heads/main` is not a release tag (at most 128 letters, digits \
           and . _ -; no slash, so that the image can carry it)";
    "a tag in a folder": |a| a.tag("a/b")
        => "200 ignored", "`a/b` is not a release tag (at most 128 letters, digits and . _ -; no \
           slash, so that the image can carry it)";
    "a tag that is an option": |a| a.tag("-rf")
        => "200 ignored", "`-rf` is not a release tag (at most 128 letters, digits and . _ -; no \
           slash, so that the image can carry it)";
    "a tag that is a command": |a| a.tag("v1;reboot")
        => "200 ignored", "`v1;reboot` is not a release tag (at most 128 letters, digits and . _ \
           -; no slash, so that the image can carry it)";
    "a tag of two lines": |a| a.tag("v1\nv2")
        => "200 ignored", "`v1\nv2` is not a release tag (at most 128 letters, digits and . _ -; \
           no slash, so that the image can carry it)";
    "a tag with two dots": |a| a.tag("v1..v2")
        => "200 ignored", "`v1..v2` is not a release tag (at most 128 letters, digits and . _ -; \
           no slash, so that the image can carry it)";
    "a tag that is a lock": |a| a.tag("v1.lock")
        => "200 ignored", "`v1.lock` is not a release tag (at most 128 letters, digits and . _ \
           -; no slash, so that the image can carry it)";
    "a tag that is a list of referrers": |a| a.tag("sha256-0000")
        => "200 ignored", "`sha256-0000` is not a release tag (at most 128 letters, digits and . \
           _ -; no slash, so that the image can carry it)";
    "a tag that is a release's own": |a| a.tag("_release-0000")
        => "200 ignored", "`_release-0000` is not a release tag (at most 128 letters, digits and \
           . _ -; no slash, so that the image can carry it)";
    "a tag too long": |a| a.tag(&"v".repeat(129)) => "200 ignored",
           "`vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv` \
           is not a release tag (at most 128 letters, digits and . _ -; no slash, so that the \
           image can carry it)";
    "a tag of nothing": |a| a.tag("")
        => "200 ignored", "`` is not a release tag (at most 128 letters, digits and . _ -; no \
           slash, so that the image can carry it)";
    "a tag that no pattern wants": |a| a.tag("nightly")
        => "200 ignored", "tag nightly matches no pattern of team/donkeycar";
    "a released tag at another commit": |a| a.tag("v1.0.0")
        => "409 tag-moved", "the tag was released at RELEASED and now names \
           1111111111111111111111111111111111111111";
    "a deletion": |a| a.field("deleted", json!(true))
        => "200 ignored", "tag v9.9.9 was deleted: recorded, nothing to run";
};

#[test]
fn deliveries() {
    let world = World::new();
    let mut table = Table::default();
    for (number, (what, edit, code, says)) in ROWS.iter().enumerate() {
        let mut ask = good(number);
        edit(&mut ask);
        let got = world.unchanged(&mut table, what, || ask.send(&world));
        let recorded =
            world.lane.git(&world.lane.bare("donkeycar"), &["rev-parse", "v1.0.0^{commit}"]);
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
const RAW: &[(&str, &str, &str, &str, &str)] = rows! {
    "more bytes than are taken": "Content-Length: 26214401", "{"
        => "413 too-large", "the body is larger than 26214400 bytes";
    "two lengths": "Content-Length: 2\r\nContent-Length: 3", "{}" => "400", "";
    "a length below nothing": "Content-Length: -1", "{}" => "400", "";
    "a length and chunks": "Content-Length: 2\r\nTransfer-Encoding: chunked", "0\r\n\r\n"
        => "401 signature", "X-Hub-Signature-256 does not match the body";
    "a chunk without end": "Transfer-Encoding: chunked", "fffffffffffffffff\r\n"
        => "400 body", "the body broke off";
};

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
