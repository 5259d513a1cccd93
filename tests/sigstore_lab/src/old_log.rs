//! The transparency log of version 1: entries of several kinds, promised with a signed time.
//!
//! Source: Rekor v1's `openapi.yaml` and the schemas of its `hashedrekord` and `dsse` types, both 0.0.1.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_crypto::{KeyPair, SigningScheme, verify_signature, verify_signature_prehashed};
use sigstore_types::{DerCertificate, DerPublicKey, DsseEnvelope, SignatureBytes};
use x509_cert::Certificate;

use crate::{
    World,
    fault::{Fault, Part, refuse},
    pki,
    tree::{self, Tree},
};

/// The log's name: with the number of its tree, as Trillian's logs have.
const ORIGIN: &str = "127.0.0.1 - 4242";
/// The name that its notes are signed with.
const NAME: &str = "127.0.0.1";

/// A log.
pub(crate) struct OldLog {
    key: KeyPair,
    tree: Mutex<Tree>,
}

impl OldLog {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { key: KeyPair::generate_ecdsa_p256()?, tree: Mutex::new(Tree::new()) })
    }

    /// The public key, `SubjectPublicKeyInfo`.
    pub(crate) fn spki(&self) -> anyhow::Result<Vec<u8>> {
        Ok(self.key.public_key_der()?.as_bytes().to_vec())
    }

    /// The log's id.
    pub(crate) fn id(&self) -> anyhow::Result<Vec<u8>> {
        Ok(Sha256::digest(self.spki()?).to_vec())
    }
}

pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new().route("/api/v1/log/entries", post(create))
}

async fn create(State(world): State<Arc<World>>, Json(request): Json<Value>) -> Response {
    match entry(&world, &request) {
        Ok((id, entry)) => {
            (StatusCode::CREATED, [("etag", id.clone())], Json(json!({ id: entry })))
                .into_response()
        }
        Err(error) => refuse(format!("{error:#}")),
    }
}

fn entry(world: &World, request: &Value) -> anyhow::Result<(String, Value)> {
    let mut body = match request["kind"].as_str() {
        Some("hashedrekord") => hashed_rekord(&request["spec"])?,
        Some("dsse") => dsse(&request["spec"]["proposedContent"])?,
        _ => anyhow::bail!("only hashedrekord and dsse are logged"),
    };
    let is = |fault| world.faults.is(Part::OldLog, fault);
    if is(Fault::OtherSignature) {
        for place in ["/spec/signature/content", "/spec/signatures/0/signature"] {
            if let Some(signature) = body.pointer_mut(place) {
                *signature = STANDARD.encode("another").into();
            }
        }
    }
    let log = &world.old_log;
    let body = body.to_string();
    let place = log.tree.lock().unwrap_or_else(PoisonError::into_inner).append(body.as_bytes());
    let text = place.checkpoint(ORIGIN);
    let signature = log.key.sign(text.as_bytes())?;
    let note = tree::note(&text, NAME, &log.id()?, signature.as_bytes());
    let (body, time) = (STANDARD.encode(&body), Timestamp::now().as_second());
    // The keys in this order, as RFC 8785 has them.
    let promise = json!({
        "body": body, "integratedTime": time, "logID": hex::encode(log.id()?), "logIndex": place.index,
    });
    let promise = log.key.sign(promise.to_string().as_bytes())?;
    let mut path = place.path.clone();
    if is(Fault::BrokenProof) {
        path[0][0] ^= 1;
    }
    let hashes: Vec<String> = path.iter().map(hex::encode).collect();
    let entry = json!({
        "body": body,
        "integratedTime": time,
        "logID": hex::encode(log.id()?),
        "logIndex": place.index,
        "verification": {
            "inclusionProof": {
                "checkpoint": note,
                "hashes": hashes,
                "logIndex": place.index,
                "rootHash": hex::encode(place.root),
                "treeSize": place.size,
            },
            "signedEntryTimestamp": STANDARD.encode(promise.as_bytes()),
        },
    });
    Ok((hex::encode(Sha256::digest(promise.as_bytes())), entry))
}

fn hashed_rekord(spec: &Value) -> anyhow::Result<Value> {
    let signature = &spec["signature"];
    let content = STANDARD.decode(signature["content"].as_str().context("no signature")?)?;
    let certificate = signature["publicKey"]["content"].as_str().context("no certificate")?;
    let (key, certificate) = verifier(certificate)?;
    let digest = spec["data"]["hash"]["value"].as_str().context("no hash")?;
    let digest = sigstore_types::Sha256Hash::from_hex(digest)?;
    let content = SignatureBytes::from_bytes(&content);
    let scheme = SigningScheme::EcdsaP256Sha256;
    verify_signature_prehashed(&key, digest.as_bytes(), &content, scheme)
        .context("the signature does not fit")?;
    let mut spec = spec.clone();
    spec["signature"]["publicKey"]["content"] = certificate.into();
    Ok(json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec }))
}

fn dsse(proposed: &Value) -> anyhow::Result<Value> {
    let text = proposed["envelope"].as_str().context("no envelope")?;
    let (key, certificate) = verifier(proposed["verifiers"][0].as_str().context("no verifier")?)?;
    let envelope: DsseEnvelope = serde_json::from_str(text)?;
    let signature = &envelope.signature.sig;
    verify_signature(&key, &envelope.pae(), signature, SigningScheme::EcdsaP256Sha256)
        .context("the signature does not fit")?;
    let hash = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes)) });
    Ok(json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "envelopeHash": hash(text.as_bytes()),
        "payloadHash": hash(envelope.payload.as_bytes()),
        "signatures": [{ "signature": signature, "verifier": certificate }],
    }}))
}

/// A certificate (PEM in base64): its key, and itself as the log writes it, whatever line ends it
/// came with. Some verifiers compare the whole entry with the one that they would have made.
fn verifier(text: &str) -> anyhow::Result<(DerPublicKey, String)> {
    let text = String::from_utf8(STANDARD.decode(text)?)?;
    let der = DerCertificate::from_pem(&text)?;
    let certificate = Certificate::from_der(der.as_bytes())?;
    let key = certificate.tbs_certificate.subject_public_key_info.to_der()?;
    Ok((DerPublicKey::from_bytes(&key), STANDARD.encode(pki::pem(&der))))
}
