//! Keyless signing: what its services answer, what signing configurations and tokens say.

use std::{
    sync::{LazyLock, Mutex},
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, Uri},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use pitlane_pipeline::sign::keyless::{KeylessSigner, Services, TokenSource};
use pitlane_release::{
    Digest,
    sigstore::{Expect, Identity, Subject as About, TrustRoot, verify},
};
use pitlane_sigstore_lab::{Lab, Subject};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{signatures::SIGNED, wait};
use crate::{Reached, Target, template};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "signing-config",
        run: config,
        more: &[],
        words: &[
            "\"caUrls\":[]",
            "\"tsaUrls\":[]",
            "\"rekorTlogUrls\":[]",
            "\"selector\":\"EXACT\"",
            "\"selector\":\"ALL\"",
            "\"count\":4294967295",
            "\"count\":0",
            "\"majorApiVersion\":2",
            "\"operator\":\"\"",
            "\"validFor\":{\"start\":\"0000-01-01T00:00:00Z\"}",
            "\"url\":\"http://[::1]\"",
            "https://",
            "file:///",
        ],
        max: 20_000,
    },
    Target {
        name: "sigstore-services",
        run: services,
        more: &[],
        words: &[
            "v1 ",
            "v2 ",
            "statement",
            "message",
            "{{token}}",
            "{{answer}}",
            "edit\n",
            "\n30 1 9",
            "\n400 2 ",
            "\n0 1 [",
            "\n%%\n",
            "\"email_verified\":false",
            "\"exp\":0",
            "\"aud\":\"sigstore\"",
            "{\"signedCertificateEmbeddedSct\":{\"chain\":{\"certificates\":[\"\"]}}}",
            "\"logIndex\":-1",
            "\"inclusionProof\":null",
        ],
        max: 8_000,
    },
];

/// The holder of the lab's tokens.
const EMAIL: &str = "eve@example.org";
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a signing configuration is used at: it is read again each time.
const TYPE: &str = "application/vnd.dev.sigstore.signingconfig.v0.2+json";

/// A Sigstore instance, and a relay before it that changes what it answers.
struct Instance {
    lab: Lab,
    root: Vec<u8>,
    relay: String,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

static INSTANCE: LazyLock<Instance> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::start(folder.path()).unwrap();
    let root = std::fs::read(lab.trusted_root()).unwrap();
    let relay = wait(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(relayed);
        tokio::spawn(async move { axum::serve(listener, app).await });
        relay
    });
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    Instance { lab, root, relay, client, _folder: folder }
});

/// How the answers of certificate authority, log and timestamp authority are changed.
static CHANGES: Mutex<[Vec<u8>; 3]> = Mutex::new([Vec::new(), Vec::new(), Vec::new()]);

/// Asks the lab, and gives what the input makes of its answer. Never an error of HTTP: those are
/// tried again after a while, and hold nothing to read.
async fn relayed(uri: Uri, body: Bytes) -> (StatusCode, Vec<u8>) {
    let Instance { lab, client, .. } = &*INSTANCE;
    let at = lab.addresses();
    let path = uri.path();
    let below = |base: &str, prefix: &str| format!("{base}{}", &path[prefix.len()..]);
    let (part, url, media) = match path {
        _ if path.starts_with("/authority/") => (0, below(&at.authority, "/authority"), "json"),
        _ if path.starts_with("/log/") => (1, below(&at.log, "/log"), "json"),
        _ if path.starts_with("/old/") => (1, below(&at.old_log, "/old"), "json"),
        _ => (2, at.stamper.clone(), "timestamp-query"),
    };
    let media = format!("application/{media}");
    let asked = client.post(url).header("content-type", media).body(body).send().await;
    let answer = asked.unwrap().bytes().await.unwrap();
    let change = CHANGES.lock().unwrap()[part].clone();
    (StatusCode::OK, changed(&change, &answer))
}

/// Either a text with `{{answer}}` in it; or, after a line `edit`, lines of place, length, and
/// what is put there instead.
fn changed(change: &[u8], answer: &[u8]) -> Vec<u8> {
    let Some(lines) = change.strip_prefix(b"edit\n") else {
        return template::fill(change, &|name| (name == "answer").then(|| answer.to_vec()));
    };
    let mut out = answer.to_vec();
    for line in lines.split(|byte| *byte == b'\n').take(20) {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<usize>().ok();
        let (Some(place), Some(length)) = (number(), number()) else { continue };
        let place = place % (out.len() + 1);
        let end = place.saturating_add(length).min(out.len());
        out.splice(place..end, words.next().unwrap_or_default().iter().copied());
    }
    out
}

/// A signing configuration: what is chosen is a choice that can be signed with.
fn config(input: &[u8]) -> Reached {
    let token = TokenSource::Text(Zeroizing::new(String::new()));
    let opened = Services::parse(input).and_then(|services| {
        let root = TrustRoot::public_good().expect("the library's own trusted root");
        // Chooses for now, and says so where there is nothing to choose.
        KeylessSigner::new(services, root, token, PATIENCE)
    });
    if opened.is_ok() {
        let read: Value = serde_json::from_slice(input).unwrap();
        assert_eq!(read["mediaType"], TYPE);
        let some = |name: &str| read[name].as_array().is_some_and(|list| !list.is_empty());
        assert!(some("caUrls") && some("rekorTlogUrls"), "nothing to sign with: {read}");
    }
    Reached::of(&opened)
}

/// Version of the log and kind of content, a token's claims, what three services answer.
fn services(input: &[u8]) -> Reached {
    let instance = &*INSTANCE;
    let documents = template::cut(input);
    let document = |number: usize| documents.get(number).copied().unwrap_or_default();
    let has = |word: &[u8]| document(0).windows(word.len()).any(|part| part == word);
    let (old, statement) = (has(b"v1"), has(b"statement"));
    let token = match document(1) {
        b"{{token}}" => instance.lab.token(&Subject::Person { email: EMAIL }),
        claims => format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)),
    };
    *CHANGES.lock().unwrap() = [2, 3, 4].map(|number| document(number).to_vec());
    let configured = configured(&instance.relay, old);
    let signer = Services::parse(configured.to_string().as_bytes()).and_then(|services| {
        let root = TrustRoot::parse(&instance.root).expect("the lab's trusted root");
        let token = TokenSource::Text(Zeroizing::new(token.clone()));
        KeylessSigner::new(services, root, token, PATIENCE)
    });
    let signer = signer.expect("the lab can be signed with");
    let digest = Digest::from_bytes([0x22; 32]);
    let sealed = wait(async {
        match statement {
            true => signer.seal(SIGNED).await,
            false => signer.sign_digest(digest).await,
        }
    });
    match &sealed {
        Ok(sealed) => {
            let issuer = &instance.lab.addresses().issuer;
            assert_eq!((sealed.san.as_str(), &sealed.issuer), (EMAIL, issuer));
            assert_eq!(sealed.subject, digest);
            let expect = Expect::identity(Identity::exact(EMAIL, issuer));
            let root = TrustRoot::parse(&instance.root).unwrap();
            let verdict = verify(&sealed.bytes, About::Digest(digest), &expect, &root).answer;
            verdict.expect("what is handed out verifies");
        }
        Err(error) => {
            let said = format!("{error} {error:?}");
            assert!(token.len() < 60 || !said.contains(&token), "a token is shown: {said}");
        }
    }
    Reached::of(&sealed)
}

/// The instance's signing configuration, by way of the relay.
fn configured(relay: &str, old: bool) -> Value {
    let service = |path: &str, version: u32| {
        json!([{ "url": format!("{relay}/{path}"), "majorApiVersion": version, "operator": "lab",
            "validFor": { "start": "2020-01-01T00:00:00Z" } }])
    };
    let stampers = if old { json!([]) } else { service("stamper", 1) };
    let log = if old { service("old", 1) } else { service("log", 2) };
    json!({
        "mediaType": TYPE,
        "caUrls": service("authority", 1),
        "rekorTlogUrls": log,
        "tsaUrls": stampers,
        "rekorTlogConfig": { "selector": "ANY" },
        "tsaConfig": { "selector": "ANY" },
    })
}
