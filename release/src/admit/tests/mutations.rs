//! Every field of good evidence, changed: nothing that somebody signed may say something else and
//! still be admitted. What may differ is listed by name.

use serde_json::{Value, json};

use super::world::World;
use crate::{Digest, Evidence, bundle::Bundle};

/// Fields that no signature covers and nothing follows from, by document and JSON pointer: which
/// key to try first, and that there are no timestamps (absent, null and empty are the same).
const LEGAL: [(&str, &str); 4] = [
    ("bundle", "/verificationMaterial/timestampVerificationData"),
    ("bundle", "/verificationMaterial/publicKey"),
    ("bundle", "/verificationMaterial/publicKey/hint"),
    ("bundle", "/dsseEnvelope/signatures/0/keyid"),
];

/// Puts other bytes in the place of the old ones.
type Put = fn(&mut Evidence, &[u8], Vec<u8>);

/// The documents of good evidence, each with a way to put another in its place.
fn documents(evidence: &Evidence) -> Vec<(&'static str, Vec<u8>, Put)> {
    let mut all: Vec<(&'static str, Vec<u8>, Put)> = vec![
        ("index", evidence.top.clone(), |e, _, new| e.top = new),
        ("manifest", evidence.manifest.clone().unwrap(), |e, _, new| e.manifest = Some(new)),
        ("config", evidence.config.clone().unwrap(), |e, _, new| e.config = Some(new)),
        ("bundle", evidence.statements[0].clone(), |e, _, new| e.statements[0] = new),
    ];
    for named in evidence.named.values() {
        all.push(("evidence", named.clone(), |e, old, new| {
            let digest = Digest::of(old);
            e.named.insert(digest, new);
        }));
    }
    all
}

/// Every place in a document, as a JSON pointer.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                pointers(value, &format!("{at}/{number}"), found);
            }
        }
        _ => {}
    }
}

/// Other values for a field, each of another sort.
fn others(value: &Value) -> Vec<Value> {
    let mut found = vec![Value::Null, json!([]), json!({}), json!("x"), json!(0), json!(true)];
    match value {
        Value::String(text) if !text.is_empty() => {
            // One character, at both ends and in the middle.
            for at in [0, text.len() / 2, text.len() - 1] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                found.extend(String::from_utf8(bytes).ok().map(Value::from));
            }
            found.push(text.to_uppercase().into());
            found.push(format!("{text} ").into());
            found.push(text[..text.len() - 1].into());
        }
        Value::Number(number) => {
            let number = number.as_u64().unwrap_or_default();
            found.push(json!(number.wrapping_add(1)));
            found.push(json!(-1));
        }
        Value::Array(list) if !list.is_empty() => {
            found.push(Value::Array([list.as_slice(), list.as_slice()].concat()));
            found.push(Value::Array(list[1..].to_vec()));
        }
        _ => {}
    }
    found.retain(|other| other != value);
    found
}

/// The same bytes: proto3 JSON takes base64 with and without padding.
fn padded(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_str(), other.as_str()) else { return false };
    one != other && one.trim_end_matches('=') == other.trim_end_matches('=')
}

#[test]
fn no_field_can_be_changed() {
    let world = World::new();
    let good = world.evidence();
    assert_eq!(world.code(&good), "admitted");
    let (mut tried, mut legal, mut wrong) = (0, 0, Vec::new());
    for (name, bytes, put) in documents(&good) {
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let mut places = Vec::new();
        pointers(&value, "", &mut places);
        for place in &places {
            for other in others(value.pointer(place).unwrap()) {
                let mut changed = value.clone();
                *changed.pointer_mut(place).unwrap() = other.clone();
                let mut evidence = good.clone();
                put(&mut evidence, &bytes, changed.to_string().into_bytes());
                tried += 1;
                let code = world.code(&evidence);
                if code == "admitted" {
                    let same = padded(value.pointer(place).unwrap(), &other);
                    if !(same || LEGAL.contains(&(name, place))) {
                        wrong.push(format!("{name} {place} {other}"));
                    }
                    legal += 1;
                }
            }
        }
    }
    eprintln!("{tried} changed fields, {legal} of them legal");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 500, "{tried}");
}

#[test]
fn no_bit_can_be_flipped() {
    let world = World::new();
    let good = world.evidence();
    let mut tried = 0;
    for (name, bytes, put) in documents(&good) {
        // A prime step reaches every kind of place in a fraction of the time.
        for bit in (0..bytes.len() * 8).step_by(13) {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut evidence = good.clone();
            put(&mut evidence, &bytes, changed.clone());
            tried += 1;
            if world.code(&evidence) == "admitted" {
                let was: Value = serde_json::from_slice(&bytes).unwrap();
                let is: Value = serde_json::from_slice(&changed).unwrap();
                let only_legal = LEGAL.iter().any(|(document, place)| {
                    let mut is = is.clone();
                    let Some(theirs) = is.pointer_mut(place) else { return false };
                    *theirs = was.pointer(place).cloned().unwrap_or_default();
                    *document == name && is == was
                });
                assert!(only_legal || is == was, "{name} bit {bit}");
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

/// A statement's payload, taken out, changed and signed by a stranger or put under the signature
/// that was there.
#[test]
fn documents_that_were_put_together_anew() {
    type Edit = fn(&mut Value);
    let world = World::new();
    let good = world.evidence();
    let bundle = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
    let lap = good.named.values().next().unwrap().clone();
    let table: &[(&str, &str, Edit)] = &[
        ("a lap's envelope in the statement's place", "attestation-only", |_| {}),
        ("both contents", "unsigned", |b| {
            b["messageSignature"] = json!({ "signature": "AA==" });
        }),
        ("two signatures", "unsigned", |b| {
            let one = b["dsseEnvelope"]["signatures"][0].clone();
            b["dsseEnvelope"]["signatures"] = json!([one.clone(), one]);
        }),
        ("no signature", "unsigned", |b| b["dsseEnvelope"]["signatures"] = json!([])),
        ("another payload type", "unsigned", |b| {
            b["dsseEnvelope"]["payloadType"] = "text/plain".into();
        }),
        ("another media type", "unsigned", |b| b["mediaType"] = "application/json".into()),
        ("an empty payload", "altered-statement", |b| b["dsseEnvelope"]["payload"] = "".into()),
    ];
    for (number, (name, want, edit)) in table.iter().enumerate() {
        let mut evidence = good.clone();
        let mut changed = bundle(&good.statements[0]);
        if number == 0 {
            changed = bundle(&lap);
        }
        edit(&mut changed);
        evidence.statements = vec![changed.to_string().into_bytes()];
        assert_eq!(&world.code(&evidence), want, "{name}");
    }
    // The same key twice in a document: readers would disagree on which one counts.
    let text = String::from_utf8(good.statements[0].clone()).unwrap();
    for field in ["dsseEnvelope", "verificationMaterial", "mediaType", "payload", "signatures"] {
        let doubled =
            text.replacen(&format!("\"{field}\":"), &format!("\"{field}\":null,\"{field}\":"), 1);
        assert_ne!(doubled, text, "{field}");
        let mut evidence = good.clone();
        evidence.statements = vec![doubled.into_bytes()];
        assert_ne!(world.code(&evidence), "admitted", "{field} twice");
    }
    // Huge, deep, and nothing at all.
    for (name, bytes) in [
        ("deep", "[".repeat(100_000).into_bytes()),
        ("deep objects", "{\"a\":".repeat(50_000).into_bytes()),
        ("huge", vec![b' '; 5 * 1024 * 1024]),
        ("empty", Vec::new()),
        ("not text", vec![0xff; 64]),
    ] {
        let mut evidence = good.clone();
        evidence.statements = vec![bytes.clone()];
        assert_eq!(world.code(&evidence), "unsigned", "{name}");
        let mut evidence = good.clone();
        evidence.manifest = Some(bytes.clone());
        assert_eq!(world.code(&evidence), "altered-manifest", "{name}");
        let mut evidence = good.clone();
        evidence.named.values_mut().for_each(|named| named.clone_from(&bytes));
        assert_eq!(world.code(&evidence), "altered-evidence", "{name}");
    }
}

/// An index where a manifest belongs, and the reverse; a digest by another algorithm.
#[test]
fn index_and_child_and_other_digests() {
    let world = World::new();
    let good = world.evidence();
    let mut evidence = good.clone();
    evidence.manifest = Some(good.top.clone());
    assert_eq!(world.code(&evidence), "altered-manifest");
    let mut evidence = good.clone();
    evidence.top = good.manifest.clone().unwrap();
    assert_eq!(world.code(&evidence), "altered-manifest");

    // The platform manifest asked for by its own digest is a release, too.
    let mut child = good.clone();
    child.top = good.manifest.clone().unwrap();
    child.requested = world.image.repository.pin(Digest::of(&child.top));
    assert_eq!(world.code(&child), "admitted");
    // But not the other platform's.
    let other = &world.manifests[&crate::Platform::LinuxAmd64];
    child.top.clone_from(other);
    child.manifest = Some(other.clone());
    child.config = Some(world.configs[&crate::Platform::LinuxAmd64].clone());
    child.requested = world.image.repository.pin(Digest::of(other));
    assert_eq!(world.code(&child), "wrong-platform");

    // Subjects by another algorithm match nothing.
    let opened = Bundle::parse(&good.statements[0]).unwrap();
    let mut statement: Value = serde_json::from_slice(opened.untrusted_payload()).unwrap();
    for subject in statement["subject"].as_array_mut().unwrap() {
        let digest = subject["digest"]["sha256"].take();
        subject["digest"] = json!({ "sha512": digest });
    }
    let mut evidence = good.clone();
    evidence.statements = vec![world.ours.bundle(&statement)];
    assert_eq!(world.code(&evidence), "altered-statement");
}
