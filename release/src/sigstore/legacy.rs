//! Signatures as cosign made them before bundles: a layer, and in its annotations the signature,
//! the certificate with its chain, the log's promise and a timestamp.
//!
//! They are put into the form of a bundle v0.1 and verified like one, except that the log proves
//! no more than its promise. Entries of the kind that `intoto` had first have a form of their own
//! ([`first_intoto`](super::first_intoto)).
//!
//! Source: sigstore/cosign `specs/SIGNATURE_SPEC.md` and `pkg/cosign/bundle`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use sigstore_types::{DerCertificate, DsseEnvelope};

use super::{
    first_intoto,
    identity::Expect,
    json as strict,
    log::Proof,
    refusal::BundleRefusal,
    root::TrustRoot,
    verified::Content,
    verify::{Subject, verify_from},
};
use crate::{
    Digest,
    evidence::LegacyLayer,
    key::PublicKey,
    simple::{MAX_PAYLOAD, SIMPLE_SIGNING},
    statement::PAYLOAD_TYPE,
};

/// Media type of an attestation as a layer of a `.att` manifest.
pub const DSSE_LAYER: &str = "application/vnd.dsse.envelope.v1+json";
/// Largest annotation read (bytes); a log entry with an old attestation in it has some 30 kB.
const MAX_ANNOTATION: usize = 1024 * 1024;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const LOG: &str = "dev.sigstore.cosign/bundle";
const STAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// What a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyKind {
    /// A simple-signing payload.
    Signature,
    /// A DSSE envelope.
    Attestation,
}

/// What the layer holds, if it is of one of the two kinds.
pub fn legacy_kind(layer: &LegacyLayer) -> Option<LegacyKind> {
    match layer.media_type.as_str() {
        SIMPLE_SIGNING => Some(LegacyKind::Signature),
        DSSE_LAYER => Some(LegacyKind::Attestation),
        _ => None,
    }
}

/// A log's promise as cosign writes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Promise {
    pub(super) signed_entry_timestamp: String,
    pub(super) payload: Promised,
}

/// What the log promised to take in.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Promised {
    pub(super) body: String,
    pub(super) integrated_time: i64,
    pub(super) log_index: i64,
    /// Hexadecimal.
    #[serde(rename = "logID")]
    pub(super) log_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Stamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    signed: String,
}

/// The layer with its annotations read.
pub(super) struct Parts<'a> {
    layer: &'a LegacyLayer,
    /// The leaf and what lies between it and a root.
    pub(super) certificates: Vec<DerCertificate>,
    pub(super) promise: Option<Promise>,
    stamp: Option<Stamp>,
    /// The envelope of an attestation.
    pub(super) envelope: Option<DsseEnvelope>,
}

/// The signed payload, if the holder of the key signed it; logs are not asked.
pub fn legacy_by_key(layer: &LegacyLayer, key: &PublicKey) -> Option<Vec<u8>> {
    match legacy_kind(layer)? {
        LegacyKind::Signature => {
            let signature = STANDARD.decode(layer.annotations.get(SIGNATURE)?).ok()?;
            key.verifies(&layer.payload, &signature).then(|| layer.payload.clone())
        }
        LegacyKind::Attestation => {
            let envelope = envelope(&layer.payload).ok()?;
            let fits = key.verifies(&envelope.pae(), envelope.signature.sig.as_bytes());
            fits.then(|| envelope.payload.as_bytes().to_vec())
        }
    }
}

/// Verifies a layer in full; gives the payload that was signed: of a signature the simple-signing
/// document, of an attestation the statement. What image it is about is for the caller to judge.
pub fn verify_legacy(
    layer: &LegacyLayer,
    expect: &Expect,
    root: &TrustRoot,
) -> Result<Vec<u8>, BundleRefusal> {
    let parts = Parts::read(layer)?;
    let Some(envelope) = &parts.envelope else {
        let bundle = parts.bundle(None)?;
        let subject = Subject::Bytes(&layer.payload);
        verify_from(&bundle, subject, expect, root, Proof::Promise).answer?;
        return Ok(layer.payload.clone());
    };
    if first_intoto::is_of(&parts) {
        return first_intoto::verify(&parts, envelope, expect, root);
    }
    let subject = Subject::Digest(subject_of(envelope)?);
    let bundle = parts.bundle(Some(envelope))?;
    let verified = verify_from(&bundle, subject, expect, root, Proof::Promise).answer?;
    match verified.content() {
        Content::Statement { payload, .. } => Ok(payload.clone()),
        Content::Message => Err(BundleRefusal::Malformed("no statement".into())),
    }
}

/// The first subject of the statement in an envelope.
pub(super) fn subject_of(envelope: &DsseEnvelope) -> Result<Digest, BundleRefusal> {
    let statement = super::statement::read(envelope)?;
    let found = statement.subject.iter().find_map(|subject| subject.digest.sha256.as_ref());
    let digest = found.and_then(|hex| Digest::from_hex(&hex.to_string()).ok());
    digest.ok_or_else(|| BundleRefusal::Unsupported("a statement without a sha256 subject".into()))
}

fn malformed(what: &str, why: &dyn std::fmt::Display) -> BundleRefusal {
    BundleRefusal::Malformed(format!("{what}: {why}"))
}

fn envelope(bytes: &[u8]) -> Result<DsseEnvelope, BundleRefusal> {
    strict::check(bytes).map_err(|error| malformed("envelope", &error))?;
    let envelope: DsseEnvelope =
        serde_json::from_slice(bytes).map_err(|error| malformed("envelope", &error))?;
    match envelope.payload_type == PAYLOAD_TYPE {
        true => Ok(envelope),
        false => Err(malformed("envelope", &"no in-toto statement")),
    }
}

impl<'a> Parts<'a> {
    fn read(layer: &'a LegacyLayer) -> Result<Self, BundleRefusal> {
        let text = |name: &'static str| match layer.annotations.get(name) {
            Some(text) if text.len() > MAX_ANNOTATION => Err(malformed(name, &"too large")),
            found => Ok(found.map(String::as_str).filter(|text| !text.is_empty())),
        };
        let kind = legacy_kind(layer)
            .ok_or_else(|| BundleRefusal::Unsupported(format!("a `{:.80}`", layer.media_type)))?;
        if kind == LegacyKind::Signature && layer.payload.len() as u64 > MAX_PAYLOAD {
            return Err(malformed("payload", &"too large"));
        }
        let mut certificates = Vec::new();
        for name in [CERTIFICATE, CHAIN] {
            let Some(pem) = text(name)? else { continue };
            for block in pem.split_inclusive("-----END CERTIFICATE-----") {
                if block.trim().is_empty() {
                    continue;
                }
                let der = DerCertificate::from_pem(block.trim())
                    .map_err(|error| malformed(name, &error))?;
                certificates.push(der);
            }
        }
        Ok(Self {
            layer,
            certificates,
            promise: text(LOG)?.map(|text| read(LOG, text)).transpose()?,
            stamp: text(STAMP)?.map(|text| read(STAMP, text)).transpose()?,
            envelope: match kind {
                LegacyKind::Signature => None,
                LegacyKind::Attestation => Some(envelope(&layer.payload)?),
            },
        })
    }

    /// The layer's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.layer.payload
    }

    /// The same in the form of a bundle v0.1.
    fn bundle(&self, envelope: Option<&DsseEnvelope>) -> Result<Vec<u8>, BundleRefusal> {
        let mut material = match self.certificates.as_slice() {
            [] => json!({ "publicKey": { "hint": "" } }),
            [leaf, between @ ..] => {
                // The root comes from the trusted root alone.
                let between = between.iter().filter(|der| !is_root(der));
                let chain: Vec<Value> = std::iter::once(leaf)
                    .chain(between)
                    .map(|der| json!({ "rawBytes": STANDARD.encode(der.as_bytes()) }))
                    .collect();
                json!({ "x509CertificateChain": { "certificates": chain } })
            }
        };
        if let Some(promise) = &self.promise {
            material["tlogEntries"] = json!([promise.entry()?]);
        }
        if let Some(stamp) = &self.stamp {
            material["timestampVerificationData"] =
                json!({ "rfc3161Timestamps": [{ "signedTimestamp": stamp.signed }] });
        }
        // A v0.1 has a promise. Without one: v0.2 takes a chain of certificates, v0.3 a key alone.
        let version = match (&self.promise, self.certificates.is_empty()) {
            (Some(_), _) => "application/vnd.dev.sigstore.bundle+json;version=0.1",
            (None, false) => "application/vnd.dev.sigstore.bundle+json;version=0.2",
            (None, true) => "application/vnd.dev.sigstore.bundle+json;version=0.3",
        };
        let mut bundle = json!({ "mediaType": version, "verificationMaterial": material });
        if let Some(envelope) = envelope {
            bundle["dsseEnvelope"] =
                serde_json::to_value(envelope).map_err(|error| malformed("envelope", &error))?;
        } else {
            let signature = self.layer.annotations.get(SIGNATURE);
            let signature = signature.ok_or_else(|| malformed(SIGNATURE, &"not there"))?;
            let digest = STANDARD.encode(Digest::of(&self.layer.payload).as_bytes());
            bundle["messageSignature"] = json!({
                "messageDigest": { "algorithm": "SHA2_256", "digest": digest },
                "signature": signature,
            });
        }
        serde_json::to_vec(&bundle).map_err(|error| malformed("bundle", &error))
    }
}

fn read<'de, T: Deserialize<'de>>(name: &str, text: &'de str) -> Result<T, BundleRefusal> {
    strict::check(text.as_bytes()).map_err(|error| malformed(name, &error))?;
    serde_json::from_str(text).map_err(|error| malformed(name, &error))
}

impl Promise {
    /// The body as the log signed it.
    pub(super) fn body(&self) -> Result<Value, BundleRefusal> {
        let body = STANDARD.decode(&self.payload.body).map_err(|error| malformed(LOG, &error))?;
        strict::check(&body).map_err(|error| malformed(LOG, &error))?;
        serde_json::from_slice(&body).map_err(|error| malformed(LOG, &error))
    }

    /// As an entry of a bundle.
    pub(super) fn entry(&self) -> Result<Value, BundleRefusal> {
        let body = self.body()?;
        let promised = &self.payload;
        let id = hex::decode(&promised.log_id).map_err(|error| malformed(LOG, &error))?;
        Ok(json!({
            "logIndex": promised.log_index.to_string(),
            "logId": { "keyId": STANDARD.encode(id) },
            "kindVersion": { "kind": body["kind"], "version": body["apiVersion"] },
            "integratedTime": promised.integrated_time.to_string(),
            "inclusionPromise": { "signedEntryTimestamp": self.signed_entry_timestamp },
            "canonicalizedBody": promised.body,
        }))
    }
}

/// Whether a certificate names itself as its issuer.
fn is_root(der: &DerCertificate) -> bool {
    use x509_cert::der::Decode as _;
    x509_cert::Certificate::from_der(der.as_bytes())
        .is_ok_and(|c| c.tbs_certificate.issuer == c.tbs_certificate.subject)
}
