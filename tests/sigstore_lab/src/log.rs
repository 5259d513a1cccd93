//! The transparency log of version 2: `hashedrekord` entries in a tree, proven at once.
//!
//! Source: Rekor v2's `rekor_service.proto`, and its client guide. As there, a signature must fit
//! before it is logged, the log says no time, and its id is that of its note key (C2SP
//! signed-note, Ed25519).

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::{Decode as _, Encode as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_crypto::{SigningScheme, verify_signature_prehashed};
use sigstore_types::{DerPublicKey, SignatureBytes};
use x509_cert::Certificate;

use crate::{
    World,
    fault::{Fault, Part, refuse},
    tree::{self, Place, Tree},
};

/// The log's name. Verifiers take it from the host of its address, without a port.
const ORIGIN: &str = "127.0.0.1";
/// `SubjectPublicKeyInfo` of Ed25519 keys, up to the key (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// A log.
pub(crate) struct Log {
    key: Ed25519KeyPair,
    stranger: Ed25519KeyPair,
    tree: Mutex<Tree>,
}

impl Log {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let key = || Ed25519KeyPair::generate().ok().context("no key");
        Ok(Self { key: key()?, stranger: key()?, tree: Mutex::new(Tree::new()) })
    }

    /// The public key, `SubjectPublicKeyInfo`.
    pub(crate) fn spki(&self) -> Vec<u8> {
        [&SPKI[..], self.key.public_key().as_ref()].concat()
    }

    /// The log's id.
    pub(crate) fn id(&self) -> Vec<u8> {
        let hash = Sha256::new().chain_update(ORIGIN).chain_update(b"\n\x01");
        hash.chain_update(self.key.public_key().as_ref()).finalize().to_vec()
    }

    fn append(&self, body: &[u8]) -> Place {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner).append(body)
    }
}

pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new().route("/api/v2/log/entries", post(create))
}

async fn create(State(world): State<Arc<World>>, Json(request): Json<Value>) -> Response {
    match entry(&world, &request) {
        Ok(entry) => (StatusCode::CREATED, Json(entry)).into_response(),
        Err(error) => refuse(format!("{error:#}")),
    }
}

fn entry(world: &World, request: &Value) -> anyhow::Result<Value> {
    let request = &request["hashedRekordRequestV002"];
    anyhow::ensure!(request.is_object(), "only hashedRekordRequestV002 is logged");
    let bytes = |value: &Value| anyhow::Ok(STANDARD.decode(value.as_str().unwrap_or_default())?);
    let digest = bytes(&request["digest"])?;
    let signature = &request["signature"];
    let mut content = bytes(&signature["content"])?;
    let verifier = &signature["verifier"];
    anyhow::ensure!(verifier["keyDetails"] == "PKIX_ECDSA_P256_SHA_256", "another kind of key");
    let key = match verifier["x509Certificate"]["rawBytes"].as_str() {
        Some(der) => {
            let certificate = Certificate::from_der(&STANDARD.decode(der)?)?;
            certificate.tbs_certificate.subject_public_key_info.to_der()?
        }
        None => bytes(&verifier["publicKey"]["rawBytes"])?,
    };
    verify_signature_prehashed(
        &DerPublicKey::from_bytes(&key),
        &digest,
        &SignatureBytes::from_bytes(&content),
        SigningScheme::EcdsaP256Sha256,
    )
    .context("the signature does not fit")?;

    let is = |fault| world.faults.is(Part::Log, fault);
    if is(Fault::OtherSignature) {
        let last = content.len() - 1;
        content[last] ^= 1;
    }
    let body =
        json!({ "apiVersion": "0.0.2", "kind": "hashedrekord", "spec": { "hashedRekordV002": {
            "data": { "algorithm": "SHA2_256", "digest": STANDARD.encode(&digest) },
            "signature": { "content": STANDARD.encode(&content), "verifier": verifier },
        }}})
        .to_string();
    let log = &world.log;
    let mut place = log.append(body.as_bytes());
    let text = place.checkpoint(ORIGIN);
    let signer = if is(Fault::OtherLog) { &log.stranger } else { &log.key };
    let note = tree::note(&text, ORIGIN, &log.id(), signer.sign(text.as_bytes()).as_ref());
    if is(Fault::BrokenProof) {
        place.path[0][0] ^= 1;
    }
    let hashes: Vec<String> = place.path.iter().map(|hash| STANDARD.encode(hash)).collect();
    // A gateway writes fields that are not set, too.
    let mut entry = json!({
        "logIndex": place.index.to_string(),
        "logId": { "keyId": STANDARD.encode(log.id()) },
        "kindVersion": { "kind": "hashedrekord", "version": "0.0.2" },
        "integratedTime": "0",
        "inclusionPromise": null,
        "inclusionProof": {
            "logIndex": place.index.to_string(),
            "rootHash": STANDARD.encode(place.root),
            "treeSize": place.size.to_string(),
            "hashes": hashes,
            "checkpoint": { "envelope": note },
        },
        "canonicalizedBody": STANDARD.encode(body),
    });
    if is(Fault::OtherKind) {
        entry["kindVersion"] = json!({ "kind": "dsse", "version": "0.0.1" });
    }
    if is(Fault::NoProof) {
        entry["inclusionProof"] = Value::Null;
    }
    Ok(entry)
}
