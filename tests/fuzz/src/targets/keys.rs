//! What signing reads: private keys of every kind, and the `.sig` tags of others.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_pipeline::sign::{
    Signer, private_key,
    sigtag::{SigTag, config_of},
};
use pitlane_release::Digest;
use pkcs8::{
    EncryptedPrivateKeyInfo, SecretDocument,
    pkcs5::{EncryptionScheme, pbes2::Kdf},
};
use serde_json::Value;

use super::{fresh_folder, text};
use crate::{Reached, Target, template};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "private-key",
        run: private,
        more: &["tests/fuzz/seeds/key-file/no-json"],
        words: &[
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
            "-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\n",
            "\u{2}\u{2}\u{8}\0",
            "\u{2}\u{4}\u{7f}\u{7f}\u{7f}\u{7f}",
            "\u{2}\u{1}\u{1}",
        ],
        max: 20_000,
    },
    Target {
        name: "sig-tag",
        run: sig_tag,
        more: &[],
        words: &[
            "\"layers\":[]",
            "\"layers\":[{}]",
            "\"diff_ids\":[]",
            "\"diff_ids\":[1]",
            "\"history\":[]",
            "\"history\":{}",
            "\"config\":[]",
            "\"config\":{\"mediaType\":\"x\"}",
            "\"annotations\":{\"dev.cosignproject.cosign/signature\":\"c2ln\"}",
            "\n%%\n",
        ],
        max: 12_000,
    },
];

/// The password of the seeds that open.
const PASSWORD: &str = "fuzz";
/// What a key file may ask for (as its reader says): rounds of PBKDF2; bytes of scrypt, and how
/// often.
const MAX_ROUNDS: u64 = 10_000_000;
const MAX_SCRYPT: u64 = 256 << 20;
const MAX_PARALLEL: u64 = 16;
/// What is tried here: more takes seconds, which finds nothing else.
const TRIED_ROUNDS: u64 = 50_000;
const TRIED_SCRYPT: u64 = 16 << 20;

/// What stretching a password costs.
#[derive(PartialEq, Eq)]
enum Cost {
    Little,
    Much,
    TooMuch,
}

impl Cost {
    fn of(der: &[u8]) -> Self {
        let Ok(sealed) = EncryptedPrivateKeyInfo::try_from(der) else { return Self::Little };
        let EncryptionScheme::Pbes2(scheme) = &sealed.encryption_algorithm else {
            return Self::Little;
        };
        let (most, all, tried) = match &scheme.kdf {
            Kdf::Pbkdf2(kdf) => {
                let rounds = u64::from(kdf.iteration_count);
                (rounds <= MAX_ROUNDS, rounds, TRIED_ROUNDS)
            }
            Kdf::Scrypt(kdf) => {
                let bytes = kdf.cost_parameter.saturating_mul(128 * u64::from(kdf.block_size));
                let times = u64::from(kdf.parallelization);
                let most = bytes <= MAX_SCRYPT && times <= MAX_PARALLEL;
                (most, bytes.saturating_mul(times), TRIED_SCRYPT)
            }
            _ => return Self::Little,
        };
        match most {
            false => Self::TooMuch,
            true if all > tried => Self::Much,
            true => Self::Little,
        }
    }
}

/// A key file, or the DER that stands in one.
fn private(input: &[u8]) -> Reached {
    let pem = if input.starts_with(b"-----") {
        text(input).to_owned()
    } else {
        let sealed = EncryptedPrivateKeyInfo::try_from(input).is_ok();
        let label = if sealed { "ENCRYPTED PRIVATE KEY" } else { "PRIVATE KEY" };
        let body = STANDARD.encode(input);
        let lines: Vec<&str> = body.as_bytes().chunks(64).map(text).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    let cost = match SecretDocument::from_pem(pem.trim_end_matches(['\n', '\r'])) {
        Ok((_, document)) => Cost::of(document.as_bytes()),
        Err(_) => Cost::Little,
    };
    if cost == Cost::Much {
        return Reached::refused("too slow to try here");
    }
    let folder = fresh_folder();
    let (key, password) = (folder.join("key"), folder.join("password"));
    for (path, bytes) in [(&key, pem.as_bytes()), (&password, PASSWORD.as_bytes())] {
        secret(path, bytes);
    }
    let read = private_key::read(&key, Some(&password));
    assert!(read.is_err() || cost == Cost::Little, "it costs more than a key file may ask for");
    let signer = read.and_then(|der| Signer::from_pkcs8(&der));
    if let Ok(signer) = &signer {
        let public = signer.public().expect("a key in a file has a public half");
        let signature = signer.sign(b"a message").unwrap();
        assert!(public.verifies(b"a message", &signature), "it signs what it does not verify");
        assert!(!public.verifies(b"another", &signature));
    }
    Reached::of(&signer.map_err(|error| format!("{error:#}")))
}

fn secret(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A manifest, a line `%%`, its config. Adding a signature adds it, and nothing is lost.
fn sig_tag(input: &[u8]) -> Reached {
    let documents = template::cut(input);
    let (manifest, config) = (documents[0], documents.get(1).copied().unwrap_or_default());
    let _ = config_of(manifest);
    let tag = match SigTag::read(manifest, config) {
        Ok(tag) => tag,
        Err(error) => return Reached::refused(format!("{error:#}")),
    };
    let (payload, signature) = (&b"a payload"[..], &b"a signature"[..]);
    let had = tag.has(b"another payload", |_| true);
    let written = match tag.with(payload, signature) {
        Ok(written) => written,
        Err(error) => return Reached::refused(format!("{error:#}")),
    };
    assert_eq!(config_of(&written.manifest).unwrap().digest, Digest::of(&written.config));
    let again = SigTag::read(&written.manifest, &written.config).expect("what was written is read");
    assert!(again.has(payload, |found| found == signature), "the signature was not added");
    assert!(!again.has(payload, |found| found == b"never made"));
    assert_eq!(again.has(b"another payload", |_| true), had);
    kept(manifest, &written.manifest, &["config"], "/layers");
    kept(config, &written.config, &["history"], "/rootfs/diff_ids");
    Reached::accepted(written.media_type)
}

/// All that was there is there, but for fields that are written anew; the list has one more.
fn kept(before: &[u8], after: &[u8], anew: &[&str], list: &str) {
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let (mut before, mut after) = (read(before), read(after));
    if has_floats(&before) {
        // They may be printed with another last digit.
        return;
    }
    let added = after.pointer_mut(list).and_then(Value::as_array_mut).unwrap().pop();
    assert!(added.is_some());
    for value in [&mut before, &mut after] {
        for field in anew {
            value.as_object_mut().unwrap().remove(*field);
        }
    }
    assert_eq!(before, after, "something of others is lost");
}

fn has_floats(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter().any(has_floats),
        Value::Object(map) => map.values().any(has_floats),
        _ => false,
    }
}
