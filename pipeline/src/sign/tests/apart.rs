//! What a signer process signs, and what it does not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_release::{
    Digest,
    facts::MODEL,
    golden::GOLDEN,
    lap::LAP,
    provenance::PROVENANCE,
    simple::SimpleSigning,
    statement::{COSIGN_SIGN, PAYLOAD_TYPE, RELEASE, STATEMENT_V1},
};
use serde_json::{Value, json};

use crate::{
    attest::signature,
    sbom::CYCLONEDX,
    sign::{
        apart::{
            Allowed,
            judge::KNOWN,
            wire::{Answer, Ask, Code, MAX_PAYLOAD, Refusal, Request},
        },
        sigtag,
    },
};

fn statement() -> Value {
    serde_json::to_value(signature(&Digest::of("image"))).unwrap()
}

/// With one place changed.
fn with(at: &str, value: Value) -> Value {
    let mut changed = statement();
    match changed.pointer_mut(at) {
        Some(place) => *place = value,
        None => drop(changed.as_object_mut().unwrap().insert(at[1..].to_owned(), value)),
    }
    changed
}

fn judge(payload: impl AsRef<[u8]>) -> Result<Vec<String>, Code> {
    let judged = Allowed::default().judge(Ask::Statement, payload.as_ref());
    judged.map(|judged| judged.subjects).map_err(|refusal| refusal.code)
}

#[test]
fn statements_are_signed_in_their_envelope() {
    let payload = statement().to_string();
    let judged = Allowed::default().judge(Ask::Statement, payload.as_bytes()).unwrap();
    let head = format!("DSSEv1 28 {PAYLOAD_TYPE} {} ", payload.len());
    assert_eq!(judged.message, [head.as_bytes(), payload.as_bytes()].concat());
    assert_eq!(judged.predicate, COSIGN_SIGN);
    assert_eq!(judged.subjects, [Digest::of("image").to_string()]);
    // A type of which only the outline is read.
    let mut bom = with("/predicateType", json!(CYCLONEDX));
    bom["predicate"] = json!({ "bomFormat": "CycloneDX" });
    judge(bom.to_string()).unwrap();
}

#[test]
fn everything_else_is_refused() {
    let hex = Digest::of("image").hex();
    let many: Vec<Value> = vec![json!({ "digest": { "sha256": hex } }); 65];
    let pae = sigstore_types::pae(PAYLOAD_TYPE, statement().to_string().as_bytes());
    let twice = statement().to_string().replacen('{', "{\"predicateType\":\"x\",", 1);
    for (payload, code) in [
        (Digest::of("image").as_bytes().to_vec(), Code::Statement),
        (hex.clone().into_bytes(), Code::Statement),
        (pae, Code::Statement),
        (b"{}".to_vec(), Code::Statement),
        (b"[1]".to_vec(), Code::Statement),
        (twice.into_bytes(), Code::Statement),
        (format!("{}x", statement()).into_bytes(), Code::Statement),
        (b"[".repeat(100_000), Code::Statement),
        (vec![0xff; 1000], Code::Statement),
    ] {
        assert_eq!(judge(&payload).unwrap_err(), code, "{}", String::from_utf8_lossy(&payload));
    }
    for (at, value, code) in [
        ("/_type", json!("https://in-toto.io/Statement/v0.1"), Code::Statement),
        ("/predicateType", json!("https://example.org/mine/v1"), Code::Predicate),
        ("/predicateType", json!(7), Code::Statement),
        ("/predicate", json!({ "more": 1 }), Code::Statement),
        ("/predicate", json!("text"), Code::Statement),
        ("/subject", json!([]), Code::Statement),
        ("/subject", json!(many), Code::Statement),
        ("/subject/0/digest", json!({}), Code::Statement),
        ("/subject/0/digest/sha256", json!(""), Code::Statement),
        ("/subject/0/digest/sha256", json!("A".repeat(64)), Code::Statement),
        ("/subject/0/digest/sha256", json!("a".repeat(129)), Code::Statement),
        ("/subject/0", json!({ "digest": { "a\nb": "00" } }), Code::Statement),
        ("/subject/0", json!({ "digest": { "sha256": hex }, "uri": "x" }), Code::Statement),
        ("/extra", json!(1), Code::Statement),
    ] {
        let changed = with(at, value);
        assert_eq!(judge(changed.to_string()).unwrap_err(), code, "{changed}");
    }
    // What has a type of ours must be one.
    for kind in [RELEASE, PROVENANCE, LAP, MODEL, GOLDEN] {
        let hollow = with("/predicateType", json!(kind)).to_string();
        assert_eq!(judge(hollow).unwrap_err(), Code::Statement, "{kind}");
    }
    assert_eq!(STATEMENT_V1, statement()["_type"]);
}

#[test]
fn a_shorter_list_signs_less() {
    let laps = Allowed::only(&[LAP.to_owned()]).unwrap();
    let refused = laps.judge(Ask::Statement, statement().to_string().as_bytes()).unwrap_err();
    assert_eq!(refused.code, Code::Predicate);
    assert_eq!(Allowed::only(&["x".to_owned()]).unwrap_err(), "x");
    Allowed::only(&KNOWN.map(str::to_owned)).unwrap();
    // The same thing said in cosign's older way takes the same permission.
    let payload = sigtag::payload(&"r.example/car".parse().unwrap(), &Digest::of("i")).unwrap();
    assert_eq!(laps.judge(Ask::SimpleSigning, &payload).unwrap_err().code, Code::Predicate);
    Allowed::default().judge(Ask::SimpleSigning, &payload).unwrap();
}

#[test]
fn simple_signing_is_signed_as_cosign_spells_it() {
    let (repository, digest) = ("r.example/car".parse().unwrap(), Digest::of("image"));
    let good = sigtag::payload(&repository, &digest).unwrap();
    let judge = |payload: &[u8]| Allowed::default().judge(Ask::SimpleSigning, payload);
    let judged = judge(&good).unwrap();
    assert_eq!((judged.message, judged.subjects), (good.clone(), vec![digest.to_string()]));
    let text = String::from_utf8(good).unwrap();
    let mut more = SimpleSigning::of(&repository, digest);
    more.optional = Some(json!({ "creator": "x" }));
    for bad in [
        text.replacen('{', "{ ", 1),
        text.replace("cosign container", "atomic container"),
        text.replacen("{\"critical\":{", "{\"critical\":{\"more\":1,", 1),
        serde_json::to_string(&more).unwrap(),
        statement().to_string(),
        digest.hex(),
    ] {
        assert_ne!(bad, text);
        assert_eq!(judge(bad.as_bytes()).unwrap_err().code, Code::SimpleSigning, "{bad}");
    }
    // Neither passes for the other.
    let statement = Allowed::default().judge(Ask::Statement, text.as_bytes()).unwrap_err();
    assert_eq!(statement.code, Code::Statement);
}

#[test]
fn requests_are_read_strictly() {
    let good = Request::sign(Ask::Statement, b"{}");
    let line = serde_json::to_string(&good).unwrap();
    assert_eq!(Request::parse(line.as_bytes()).unwrap(), good);
    for (bad, code) in [
        (r#"{"ask":"digest","payload":"AAAA"}"#, Code::Request),
        (r#"{"ask":"statement","payload":"AAAA","hash":"sha256"}"#, Code::Request),
        (r#"{"ask":"statement","payload":"not base64"}"#, Code::Request),
        (r#"{"ask":"statement"}"#, Code::Request),
        ("", Code::Request),
    ] {
        let read = Request::parse(bad.as_bytes()).and_then(|request| request.bytes());
        assert_eq!(read.unwrap_err().code, code, "{bad}");
    }
    let long = Request { ask: Ask::Statement, payload: STANDARD.encode(vec![0; MAX_PAYLOAD + 1]) };
    assert_eq!(long.bytes().unwrap_err().code, Code::TooLarge);
    // What a caller sent cannot write into a terminal or fill a log.
    let refusal = Refusal::new(Code::Predicate, "a\u{1b}[2J\n".repeat(1000));
    assert!(refusal.message.len() <= 400 && !refusal.message.contains(['\u{1b}', '\n']));
    assert_eq!(refusal.to_string().lines().count(), 1);
    let answer = serde_json::to_string(&Answer::Refused(refusal)).unwrap();
    assert!(answer.starts_with(r#"{"refused":{"code":"predicate","message":"#), "{answer:.80}");
}
