//! The table of named changes.

use serde_json::{Value, json};

use super::{
    bases::{Base, bases},
    edit::{
        CERTIFICATE, ENTRY, SIGNATURE, STAMP, add, at, body, bytes, cut, empty, flip, insert,
        is_v2, longer, note, note_signatures, remove, set,
    },
};
/// Changes the bundle, and says whether it could.
type Edit = fn(&mut Value) -> bool;

/// One log entry's field.
macro_rules! entry {
    ($field:literal) => {
        &format!("{ENTRY}/{}", $field)
    };
}

const MUTATIONS: &[(&str, Edit)] = &[
    // the signature and what it is over
    ("signature flipped", |b| flip(b, &SIGNATURE)),
    ("signature cut", |b| cut(b, &SIGNATURE)),
    ("signature longer", |b| longer(b, &SIGNATURE)),
    ("signature empty", |b| empty(b, &SIGNATURE)),
    ("message digest flipped", |b| flip(b, &["/messageSignature/messageDigest/digest"])),
    ("message digest by another hash", |b| {
        set(b, "/messageSignature/messageDigest/algorithm", "SHA2_512")
    }),
    ("payload flipped", |b| flip(b, &["/dsseEnvelope/payload"])),
    ("payload longer", |b| bytes(b, &["/dsseEnvelope/payload"], |p| p.push(b' '))),
    ("payload type", |b| set(b, "/dsseEnvelope/payloadType", "application/json")),
    ("two envelope signatures", |b| {
        at(b, "/dsseEnvelope/signatures").is_some_and(|list| {
            let list = list.as_array_mut().unwrap();
            list.push(list[0].clone());
            true
        })
    }),
    ("no envelope signature", |b| set(b, "/dsseEnvelope/signatures", json!([]))),
    // the signer
    ("certificate flipped", |b| flip(b, &CERTIFICATE)),
    ("certificate cut", |b| cut(b, &CERTIFICATE)),
    ("certificate longer", |b| longer(b, &CERTIFICATE)),
    ("certificate empty", |b| empty(b, &CERTIFICATE)),
    ("certificate's own signature flipped", |b| {
        bytes(b, &CERTIFICATE, |c| *c.last_mut().unwrap() ^= 1)
    }),
    ("chain empty", |b| {
        set(b, "/verificationMaterial/x509CertificateChain/certificates", json!([]))
    }),
    ("no signer", |b| {
        ["certificate", "x509CertificateChain", "publicKey"]
            .iter()
            .any(|field| remove(b, "/verificationMaterial", field))
    }),
    ("a key beside the certificate", |b| {
        insert(b, "/verificationMaterial", "publicKey", json!({"hint": "x"}))
    }),
    ("a certificate beside the key", |b| {
        b.pointer("/verificationMaterial/publicKey").is_some()
            && insert(b, "/verificationMaterial", "certificate", json!({"rawBytes": "MAA="}))
    }),
    // the promise and its time
    ("promise flipped", |b| flip(b, &[entry!("inclusionPromise/signedEntryTimestamp")])),
    ("promise cut", |b| cut(b, &[entry!("inclusionPromise/signedEntryTimestamp")])),
    ("promise empty", |b| empty(b, &[entry!("inclusionPromise/signedEntryTimestamp")])),
    ("promise gone, its time left", |b| remove(b, ENTRY, "inclusionPromise")),
    ("a promise in Rekor v2", |b| {
        is_v2(b) && insert(b, ENTRY, "inclusionPromise", json!({"signedEntryTimestamp": "MAA="}))
    }),
    ("integrated a second later", |b| add(b, entry!("integratedTime"), 1)),
    ("integrated a second before", |b| add(b, entry!("integratedTime"), -1)),
    ("integrated in the future", |b| add(b, entry!("integratedTime"), 2_000_000_000)),
    ("integrated never", |b| remove(b, ENTRY, "integratedTime")),
    ("integrated at zero", |b| set(b, entry!("integratedTime"), "0")),
    ("integrated before 1970", |b| set(b, entry!("integratedTime"), "-1")),
    ("integrated time as words", |b| set(b, entry!("integratedTime"), "now")),
    ("a time in Rekor v2", |b| is_v2(b) && insert(b, ENTRY, "integratedTime", json!("1749729740"))),
    // the entry
    ("no entry", |b| set(b, "/verificationMaterial/tlogEntries", json!([]))),
    ("index moved", |b| add(b, entry!("logIndex"), 1)),
    ("index negative", |b| set(b, entry!("logIndex"), "-1")),
    ("index padded", |b| set(b, entry!("logIndex"), "007")),
    ("index gone", |b| remove(b, ENTRY, "logIndex")),
    ("log id flipped", |b| flip(b, &[entry!("logId/keyId")])),
    ("log id flipped behind its hint", |b| {
        bytes(b, &[entry!("logId/keyId")], |id| *id.last_mut().unwrap() ^= 1)
    }),
    ("log id empty", |b| empty(b, &[entry!("logId/keyId")])),
    ("log id of another log", |b| {
        // Rekor v2 of the public-good instance.
        set(b, entry!("logId/keyId"), "zxGZFVvd0FEmjR8WrFwMdcAJ9vtaY/QXf44Y1wUeP6A=")
    }),
    ("kind hashedrekord", |b| set(b, entry!("kindVersion/kind"), "hashedrekord")),
    ("kind dsse", |b| set(b, entry!("kindVersion/kind"), "dsse")),
    ("kind intoto", |b| set(b, entry!("kindVersion/kind"), "intoto")),
    ("kind unknown", |b| set(b, entry!("kindVersion/kind"), "rpm")),
    ("version 0.0.1", |b| set(b, entry!("kindVersion/version"), "0.0.1")),
    ("version 0.0.2", |b| set(b, entry!("kindVersion/version"), "0.0.2")),
    ("version unknown", |b| set(b, entry!("kindVersion/version"), "9")),
    ("body flipped", |b| flip(b, &[entry!("canonicalizedBody")])),
    ("body longer", |b| bytes(b, &[entry!("canonicalizedBody")], |body| body.push(b' '))),
    ("body empty", |b| empty(b, &[entry!("canonicalizedBody")])),
    ("body of another kind", |b| body(b, |body| body["kind"] = "rpm".into())),
    ("body of another version", |b| body(b, |body| body["apiVersion"] = "0.0.9".into())),
    // the proof
    ("proof gone", |b| remove(b, ENTRY, "inclusionProof")),
    ("proof empty", |b| set(b, entry!("inclusionProof"), json!({}))),
    ("proof index moved", |b| add(b, entry!("inclusionProof/logIndex"), 1)),
    ("proof of a larger tree", |b| add(b, entry!("inclusionProof/treeSize"), 1)),
    ("proof of an empty tree", |b| set(b, entry!("inclusionProof/treeSize"), "0")),
    ("proof's root flipped", |b| flip(b, &[entry!("inclusionProof/rootHash")])),
    ("proof's root empty", |b| empty(b, &[entry!("inclusionProof/rootHash")])),
    ("hash flipped", |b| flip(b, &[entry!("inclusionProof/hashes/0")])),
    ("hash short", |b| cut(b, &[entry!("inclusionProof/hashes/0")])),
    ("hash missing", |b| {
        at(b, entry!("inclusionProof/hashes"))
            .is_some_and(|hashes| hashes.as_array_mut().unwrap().pop().is_some())
    }),
    ("hash more", |b| {
        at(b, entry!("inclusionProof/hashes")).is_some_and(|hashes| {
            hashes.as_array_mut().unwrap().push("A".repeat(43).add_pad().into());
            true
        })
    }),
    ("a thousand hashes", |b| {
        set(b, entry!("inclusionProof/hashes"), vec!["A".repeat(43).add_pad(); 1000])
    }),
    // the checkpoint
    ("checkpoint gone", |b| remove(b, entry!("inclusionProof"), "checkpoint")),
    ("checkpoint empty", |b| note(b, |_| String::new())),
    ("checkpoint without signatures", |b| {
        note(b, |text| format!("{}\n\n", text.split("\n\n").next().unwrap()))
    }),
    ("checkpoint's signatures flipped", |b| {
        note_signatures(b, |_, _| true, |bytes| *bytes.last_mut().unwrap() ^= 1)
    }),
    ("checkpoint's hints flipped", |b| note_signatures(b, |_, _| true, |bytes| bytes[0] ^= 1)),
    ("checkpoint's signatures cut", |b| note_signatures(b, |_, _| true, |bytes| bytes.truncate(5))),
    ("checkpoint of another origin", |b| note(b, |text| format!("x{text}"))),
    ("checkpoint with a line more", |b| note(b, |text| text.replacen("\n\n", "\nx\n\n", 1))),
    ("checkpoint with a third part", |b| note(b, |text| format!("{text}\nx\n"))),
    ("checkpoint of a larger tree", |b| {
        note(b, |text| {
            let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
            lines[1].push('0');
            lines.join("\n")
        })
    }),
    // the timestamp
    ("stamp flipped", |b| flip(b, &STAMP)),
    ("stamp cut", |b| cut(b, &STAMP)),
    ("stamp empty", |b| empty(b, &STAMP)),
    ("no stamp in Rekor v2", |b| {
        is_v2(b) && remove(b, "/verificationMaterial", "timestampVerificationData")
    }),
    ("too many stamps", |b| {
        let path = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
        at(b, path).is_some_and(|list| {
            let Some(first) = list.get(0).cloned() else { return false };
            *list = Value::Array(vec![first; 17]);
            true
        })
    }),
    // the bundle
    ("both contents, an envelope more", |b| {
        let envelope = json!({"payload": "e30=", "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": "MAA="}]});
        insert(b, "", "dsseEnvelope", envelope)
    }),
    ("both contents, a message more", |b| {
        insert(b, "", "messageSignature", json!({"signature": "MAA="}))
    }),
    ("both contents, by a second spelling", |b| {
        insert(b, "", "message_signature", json!({"signature": "MAA="}))
    }),
    ("no content", |b| remove(b, "", "messageSignature") || remove(b, "", "dsseEnvelope")),
    ("unknown field", |b| insert(b, "", "note", json!("x"))),
    ("unknown field in the entry", |b| insert(b, ENTRY, "log_index", json!("1"))),
    ("media type unknown", |b| set(b, "/mediaType", "application/vnd.dev.sigstore.bundle.v9+json")),
    ("media type gone", |b| remove(b, "", "mediaType")),
    ("v0.3 with a chain", |b| {
        b.pointer("/verificationMaterial/x509CertificateChain").is_some()
            && set(b, "/mediaType", "application/vnd.dev.sigstore.bundle.v0.3+json")
    }),
    ("v0.2 with a certificate alone", |b| {
        b.pointer("/verificationMaterial/certificate").is_some()
            && set(b, "/mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.2")
    }),
    ("no material", |b| set(b, "/verificationMaterial", json!({}))),
];

trait AddPad {
    fn add_pad(self) -> String;
}

impl AddPad for String {
    fn add_pad(self) -> String {
        self + "="
    }
}

#[test]
fn every_change_is_refused() {
    let bases = bases();
    if bases.is_empty() {
        return;
    }
    let (mut runs, mut accepted) = (0, Vec::new());
    for (name, edit) in MUTATIONS {
        let mut applied = 0;
        for base in &bases {
            let mut bundle = base.bundle.clone();
            if !edit(&mut bundle) || bundle == base.bundle {
                continue;
            }
            applied += 1;
            if base.verify(&bundle).answer.is_ok() {
                accepted.push(format!("{name}: {}", base.name));
            }
        }
        assert!(applied > 0, "{name}: fits no base");
        runs += applied;
    }
    eprintln!("{} changes, {runs} changed bundles", MUTATIONS.len());
    assert!(accepted.is_empty(), "accepted:\n{}", accepted.join("\n"));
}

#[test]
fn parts_of_another_bundle_are_refused() {
    let bases = bases();
    let parts = [
        "/verificationMaterial/tlogEntries",
        "/verificationMaterial/certificate",
        "/verificationMaterial/timestampVerificationData",
        "/messageSignature",
        "/dsseEnvelope",
        "/verificationMaterial/tlogEntries/0/inclusionProof",
        "/verificationMaterial/tlogEntries/0/inclusionPromise",
        "/verificationMaterial/tlogEntries/0/canonicalizedBody",
    ];
    for base in &bases {
        for other in &bases {
            for part in parts {
                let (Some(own), Some(foreign)) =
                    (base.bundle.pointer(part), other.bundle.pointer(part))
                else {
                    continue;
                };
                // Two bases are one bundle but for the checkpoint's cosignatures.
                let stamps = part.ends_with("Data") && foreign["rfc3161Timestamps"] == json!([]);
                if own == foreign
                    || stamps
                    || base.name.contains("rekor2") && other.name.contains("rekor2")
                {
                    continue;
                }
                let mut bundle = base.bundle.clone();
                set(&mut bundle, part, foreign.clone());
                let verdict = base.verify(&bundle);
                assert!(verdict.answer.is_err(), "{} with {part} of {}", base.name, other.name);
            }
        }
    }
}

#[test]
fn texts_that_are_no_bundle_are_refused() {
    for base in bases() {
        let text = base.bundle.to_string();
        let twice = text.replacen('{', r#"{"mediaType":"x","#, 1);
        let inner = text.replacen(r#""tlogEntries":"#, r#""tlogEntries":[],"tlogEntries":"#, 1);
        let deep = text.replacen(
            '{',
            &format!(r#"{{"x":{}1{},"#, "[".repeat(20_000), "]".repeat(20_000)),
            1,
        );
        for (name, bad) in [
            ("empty", String::new()),
            ("cut", text[..text.len() - 1].to_owned()),
            ("more behind", format!("{text}{text}")),
            ("byte order mark", format!("\u{feff}{text}")),
            ("a key twice", twice),
            ("a key twice inside", inner),
            ("20 000 deep", deep),
            ("20 000 deep, never closed", "[".repeat(20_000)),
            ("another document", r#"{"mediaType":"application/x"}"#.into()),
            ("too large", text.clone() + &" ".repeat(5 * 1024 * 1024)),
        ] {
            assert!(base.verify_text(bad.as_bytes()).answer.is_err(), "{}: {name}", base.name);
        }
    }
}

/// What the formats allow: a broken cosignature of a witness, and no stamp where the log's
/// promise proves the time.
#[test]
fn two_changes_are_legal() {
    let bases = bases();
    if bases.is_empty() {
        return;
    }
    let find = |part: &str| bases.iter().find(|base| base.name.ends_with(part)).unwrap();
    let witnesses = find("multiple-cosigs");
    let mut bundle = witnesses.bundle.clone();
    let witness = |_: usize, who: &str| !who.contains("rekor");
    assert!(note_signatures(&mut bundle, witness, |bytes| *bytes.last_mut().unwrap() ^= 1));
    witnesses.verify(&bundle).answer.unwrap();

    for part in ["rust-cosign-v3-blob", "managed-key-happy-path"] {
        let stamped: &Base = find(part);
        let mut bundle = stamped.bundle.clone();
        assert!(remove(&mut bundle, "/verificationMaterial", "timestampVerificationData"));
        assert_eq!(stamped.verify(&bundle).answer.unwrap().times().len(), 1);
    }
}

/// A chain may bring its intermediate, exactly as the trusted root has it, and no root.
#[test]
fn a_chain_brings_what_the_root_has() {
    let bases = bases();
    let Some(base) = bases.iter().find(|base| base.name.ends_with("happy-path-v0.1")) else {
        return;
    };
    let root = sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;
    let root: Value = serde_json::from_str(root).unwrap();
    let known = root["certificateAuthorities"][1]["certChain"]["certificates"].clone();
    let chain = "/verificationMaterial/x509CertificateChain/certificates";
    let with = |more: &[&Value]| {
        let mut bundle = base.bundle.clone();
        at(&mut bundle, chain)
            .unwrap()
            .as_array_mut()
            .unwrap()
            .extend(more.iter().copied().cloned());
        bundle
    };
    let (intermediate, top) = (&known[0], &known[1]);
    base.verify(&with(&[intermediate])).answer.unwrap();
    for more in [&[intermediate, top][..], &[top], &[intermediate, intermediate]] {
        assert_eq!(base.verify(&with(more)).answer.unwrap_err().code(), "bad-certificate");
    }
    let mut length = 0;
    let path = format!("{chain}/1/rawBytes");
    assert!(bytes(&mut with(&[intermediate]), &[&path], |bytes| length = bytes.len()));
    for position in 0..length {
        let mut bundle = with(&[intermediate]);
        bytes(&mut bundle, &[&path], |bytes| bytes[position] ^= 1 << (position % 8));
        assert!(base.verify(&bundle).answer.is_err(), "flipped at {position}");
    }
}
