//! Edits of a bundle's JSON. Each says whether there was anything to edit.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Where the first log entry lies.
pub(super) const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

/// The value at a path below the bundle.
pub(super) fn at<'a>(bundle: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    bundle.pointer_mut(path).filter(|value| !value.is_null())
}

/// The paths of the signature, whichever it is.
pub(super) const SIGNATURE: [&str; 2] =
    ["/messageSignature/signature", "/dsseEnvelope/signatures/0/sig"];

/// The paths of the signer's certificate, whichever it is.
pub(super) const CERTIFICATE: [&str; 2] = [
    "/verificationMaterial/certificate/rawBytes",
    "/verificationMaterial/x509CertificateChain/certificates/0/rawBytes",
];

/// The path of the first timestamp.
pub(super) const STAMP: [&str; 1] =
    ["/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp"];

/// Changes the bytes of the first of these base64 texts that is there.
pub(super) fn bytes(bundle: &mut Value, paths: &[&str], edit: impl FnOnce(&mut Vec<u8>)) -> bool {
    for path in paths {
        let Some(value) = at(bundle, path) else { continue };
        let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
        edit(&mut bytes);
        *value = STANDARD.encode(bytes).into();
        return true;
    }
    false
}

/// Flips a bit in the middle.
pub(super) fn flip(bundle: &mut Value, paths: &[&str]) -> bool {
    bytes(bundle, paths, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })
}

/// Cuts the last byte off.
pub(super) fn cut(bundle: &mut Value, paths: &[&str]) -> bool {
    bytes(bundle, paths, |bytes| {
        bytes.pop().unwrap();
    })
}

/// Appends a byte.
pub(super) fn longer(bundle: &mut Value, paths: &[&str]) -> bool {
    bytes(bundle, paths, |bytes| bytes.push(0))
}

/// Leaves nothing.
pub(super) fn empty(bundle: &mut Value, paths: &[&str]) -> bool {
    bytes(bundle, paths, Vec::clear)
}

/// Replaces the value at a path that is there.
pub(super) fn set(bundle: &mut Value, path: &str, to: impl Into<Value>) -> bool {
    let Some(value) = at(bundle, path) else { return false };
    let to = to.into();
    let changed = *value != to;
    *value = to;
    changed
}

/// Adds to the integer, written as text, at a path that is there.
pub(super) fn add(bundle: &mut Value, path: &str, more: i64) -> bool {
    let Some(value) = at(bundle, path) else { return false };
    let number: i64 = value.as_str().unwrap().parse().unwrap();
    *value = (number + more).to_string().into();
    true
}

/// Takes a field away.
pub(super) fn remove(bundle: &mut Value, path: &str, field: &str) -> bool {
    at(bundle, path).is_some_and(|value| value.as_object_mut().unwrap().remove(field).is_some())
}

/// Puts a field that was not there.
pub(super) fn insert(bundle: &mut Value, path: &str, field: &str, value: Value) -> bool {
    let Some(object) = at(bundle, path).and_then(Value::as_object_mut) else { return false };
    !object.contains_key(field) && object.insert(field.to_owned(), value).is_none()
}

/// Changes the checkpoint's text.
pub(super) fn note(bundle: &mut Value, edit: impl FnOnce(&str) -> String) -> bool {
    let path = format!("{ENTRY}/inclusionProof/checkpoint/envelope");
    let Some(value) = at(bundle, &path) else { return false };
    *value = edit(value.as_str().unwrap()).into();
    true
}

/// Changes the bytes of the checkpoint's signatures that are picked by their number.
pub(super) fn note_signatures(
    bundle: &mut Value,
    pick: impl Fn(usize, &str) -> bool,
    edit: impl Fn(&mut Vec<u8>),
) -> bool {
    let mut changed = false;
    note(bundle, |text| {
        let (body, signatures) = text.split_once("\n\n").unwrap();
        let lines = signatures.lines().enumerate().map(|(number, line)| {
            let (who, signature) = line.rsplit_once(' ').unwrap();
            if !pick(number, who) {
                return line.to_owned();
            }
            changed = true;
            let mut bytes = STANDARD.decode(signature).unwrap();
            edit(&mut bytes);
            format!("{who} {}", STANDARD.encode(bytes))
        });
        let lines: Vec<String> = lines.collect();
        format!("{body}\n\n{}\n", lines.join("\n"))
    });
    changed
}

/// Changes the log entry's body as JSON.
pub(super) fn body(bundle: &mut Value, edit: impl FnOnce(&mut Value)) -> bool {
    bytes(bundle, &[&format!("{ENTRY}/canonicalizedBody")], |bytes| {
        let mut value: Value = serde_json::from_slice(bytes).unwrap();
        edit(&mut value);
        *bytes = value.to_string().into_bytes();
    })
}

/// Whether the entry is of Rekor v2.
pub(super) fn is_v2(bundle: &Value) -> bool {
    let kind = &bundle["verificationMaterial"]["tlogEntries"][0]["kindVersion"];
    *kind == json!({"kind": "hashedrekord", "version": "0.0.2"})
}
