//! Log entries of the kind `intoto` in its first version, which old attestations carry.
//!
//! The library knows the second version only. Such an entry names the envelope and the payload by
//! their digests and the signer by the certificate; what is left is the certificate's chain and its
//! proof of being logged at the time that the log promised. All of it is required here; there is
//! no way around a step.
//!
//! Source: Rekor `pkg/types/intoto/v0.0.1` (schema and canonical form); RFC 6962, 3.2 and 3.3.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use sigstore_crypto::{
    SigningScheme, SubjectAltName, WEBPKI_VERIFICATION_ALGS, parse_certificate_info,
    verify_signature,
};
use sigstore_types::{DerCertificate, DsseEnvelope, Sha256Hash, SignatureBytes};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::{
    Certificate,
    der::{Decode as _, Encode as _},
    ext::pkix::SignedCertificateTimestampList,
};

use super::{
    identity::Expect,
    legacy::{Parts, Promise},
    refusal::BundleRefusal,
    root::TrustRoot,
};
use crate::Digest;

/// `id-kp-codeSigning` (RFC 5280, 4.2.1.12), the value bytes of its encoding.
const CODE_SIGNING: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// The extension with the certificate's log proofs (RFC 6962, 3.3).
const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";

/// The entry's body.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    #[serde(rename = "apiVersion")]
    _version: String,
    #[serde(rename = "kind")]
    _kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    content: Content,
    /// The certificate, PEM in base64.
    public_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Content {
    hash: Hash,
    payload_hash: Option<Hash>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hash {
    algorithm: String,
    value: String,
}

impl Hash {
    fn is_of(&self, bytes: &[u8]) -> bool {
        self.algorithm == "sha256" && self.value == Digest::of(bytes).hex()
    }
}

/// Whether the layer's entry is of this kind.
pub(super) fn is_of(parts: &Parts<'_>) -> bool {
    let body = parts.promise.as_ref().and_then(|promise| promise.body().ok());
    body.is_some_and(|body| body["kind"] == "intoto" && body["apiVersion"] == "0.0.1")
}

/// Verifies the layer; gives the statement's bytes.
pub(super) fn verify(
    parts: &Parts<'_>,
    envelope: &DsseEnvelope,
    expect: &Expect,
    root: &TrustRoot,
) -> Result<Vec<u8>, BundleRefusal> {
    let Expect::Keyless(keyless) = expect else {
        let why = "an entry of the first intoto kind, for a key".to_owned();
        return Err(BundleRefusal::Unsupported(why));
    };
    if keyless.witness.stamp || !keyless.sct {
        let why = "an entry of the first intoto kind, with timestamps or without a log proof";
        return Err(BundleRefusal::Unsupported(why.into()));
    }
    let (Some(promise), Some(leaf)) = (&parts.promise, parts.certificates.first()) else {
        return Err(BundleRefusal::NotLogged("it has no log entry or certificate".into()));
    };
    let time = promised_time(promise, root)?;
    says(promise, parts, envelope, leaf)?;

    let certificate = Certificate::from_der(leaf.as_bytes()).map_err(|e| refused(&e))?;
    let issuer = chained(leaf, &certificate, time, root)?;
    logged(&certificate, &issuer, root)?;

    let info = parse_certificate_info(leaf).map_err(|error| refused(&error))?;
    let san = info.identity.as_ref().map(SubjectAltName::as_str).unwrap_or_default();
    let issuer = info.issuer.as_deref().unwrap_or_default();
    keyless.admits(san, issuer)?;

    let scheme = info.key_algorithm.default_signing_scheme();
    verify_signature(&info.public_key, &envelope.pae(), &envelope.signature.sig, scheme)
        .map_err(|error| BundleRefusal::Signature(error.to_string()))?;
    Ok(envelope.payload.as_bytes().to_vec())
}

fn refused(why: &dyn std::fmt::Display) -> BundleRefusal {
    BundleRefusal::Certificate(why.to_string())
}

/// The time that a log of the trusted root promised, its key counting then (Rekor's signed entry
/// timestamp: a signature over the entry in canonical JSON, RFC 8785).
fn promised_time(promise: &Promise, root: &TrustRoot) -> Result<Timestamp, BundleRefusal> {
    let fail = |why: &str| BundleRefusal::Log(why.to_owned());
    let promised = &promise.payload;
    let time = Timestamp::from_second(promised.integrated_time)
        .map_err(|error| BundleRefusal::Time(error.to_string()))?;
    let id = hex::decode(&promised.log_id).ok();
    let id = id.and_then(|id| Sha256Hash::try_from(id.as_slice()).ok());
    let key = id.and_then(|id| root.logs.key_at(&id, time));
    let key = key.ok_or_else(|| fail("no log of the trusted root has it at that time"))?;
    // Sorted names, no spaces; base64 and hexadecimal need no escapes. The bytes are encoded
    // again, so that nothing else than what is read here can have been signed.
    let body = STANDARD.decode(&promised.body).map_err(|_| fail("its body is not base64"))?;
    let signed = format!(
        r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
        STANDARD.encode(body),
        promised.integrated_time,
        promised.log_id.to_ascii_lowercase(),
        promised.log_index
    );
    let signature = STANDARD
        .decode(&promise.signed_entry_timestamp)
        .map_err(|_| fail("its promise is not base64"))?;
    key.verify(signed.as_bytes(), &SignatureBytes::from_bytes(&signature))
        .map_err(|_| fail("its promise is not the log's"))?;
    Ok(time)
}

/// The entry must be about this envelope, payload and certificate.
fn says(
    promise: &Promise,
    parts: &Parts<'_>,
    envelope: &DsseEnvelope,
    leaf: &DerCertificate,
) -> Result<(), BundleRefusal> {
    let body: Body = serde_json::from_value(promise.body()?)
        .map_err(|error| BundleRefusal::Log(format!("its body: {error}")))?;
    let content = &body.spec.content;
    if !content.hash.is_of(parts.bytes()) {
        return Err(BundleRefusal::Log("it is about another envelope".into()));
    }
    if content.payload_hash.as_ref().is_some_and(|hash| !hash.is_of(envelope.payload.as_bytes())) {
        return Err(BundleRefusal::Log("it is about another payload".into()));
    }
    let pem = STANDARD.decode(&body.spec.public_key).ok();
    let pem = pem.and_then(|pem| String::from_utf8(pem).ok());
    let found = pem.and_then(|pem| DerCertificate::from_pem(pem.trim()).ok());
    match found {
        Some(found) if found.as_bytes() == leaf.as_bytes() => Ok(()),
        _ => Err(BundleRefusal::Log("it is about another certificate".into())),
    }
}

/// The issuer's key (`SubjectPublicKeyInfo`, DER), when an authority of the trusted root that
/// counted then issued the certificate for signing code, and it was valid then.
fn chained(
    leaf: &DerCertificate,
    certificate: &Certificate,
    time: Timestamp,
    root: &TrustRoot,
) -> Result<Vec<u8>, BundleRefusal> {
    let seconds = u64::try_from(time.as_second()).map_err(|error| refused(&error))?;
    let when = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let der = CertificateDer::from(leaf.as_bytes());
    let entity = EndEntityCert::try_from(&der).map_err(|error| refused(&error))?;
    let mut why = format!("no authority of the trusted root counts at {time}");
    for authority in &root.trusted.certificate_authorities {
        if authority.valid_for.is_some_and(|range| !range.contains(time)) {
            continue;
        }
        for candidate in &authority.cert_chain.certificates {
            let bytes = candidate.raw_bytes.as_bytes();
            let issuer = Certificate::from_der(bytes).map_err(|error| refused(&error))?;
            if issuer.tbs_certificate.subject != certificate.tbs_certificate.issuer {
                continue;
            }
            let der = CertificateDer::from(bytes);
            let anchor = anchor_from_trusted_cert(&der).map_err(|error| refused(&error))?;
            let usage = KeyUsage::required(&CODE_SIGNING);
            let algorithms = WEBPKI_VERIFICATION_ALGS;
            match entity.verify_for_usage(algorithms, &[anchor], &[], when, usage, None, None) {
                Ok(_) => {
                    let key = &issuer.tbs_certificate.subject_public_key_info;
                    return key.to_der().map_err(|error| refused(&error));
                }
                Err(error) => why = error.to_string(),
            }
        }
    }
    Err(BundleRefusal::Certificate(why))
}

/// The certificate's own log proof: a log of the trusted root, whose key counted when it signed
/// (RFC 6962, 3.2: a `precert_entry` without the proof itself).
fn logged(certificate: &Certificate, issuer: &[u8], root: &TrustRoot) -> Result<(), BundleRefusal> {
    let fail = |why: String| BundleRefusal::Certificate(format!("its log proof (SCT): {why}"));
    let none = || fail("it has not one".into());
    let list = certificate.tbs_certificate.get::<SignedCertificateTimestampList>();
    let (_, list) = list.ok().flatten().ok_or_else(none)?;
    let proofs = list.parse_timestamps().map_err(|error| fail(format!("{error:?}")))?;
    let [proof] = proofs.as_slice() else { return Err(none()) };
    let proof = proof.parse_timestamp().map_err(|error| fail(format!("{error:?}")))?;

    let mut tbs = certificate.tbs_certificate.clone();
    tbs.extensions = tbs
        .extensions
        .map(|all| all.into_iter().filter(|one| one.extn_id.to_string() != SCT_LIST).collect());
    let tbs = tbs.to_der().map_err(|error| refused(&error))?;
    // version v1, certificate_timestamp, time, precert_entry, issuer, TBS, extensions
    let mut signed = vec![0, 0];
    signed.extend(proof.timestamp.to_be_bytes());
    signed.extend([0, 1]);
    signed.extend(Digest::of(issuer).as_bytes());
    let length = u32::try_from(tbs.len()).map_err(|error| fail(error.to_string()))?;
    signed.extend(&length.to_be_bytes()[1..]);
    signed.extend(tbs);
    let extensions = proof.extensions.as_slice();
    let length = u16::try_from(extensions.len()).map_err(|error| fail(error.to_string()))?;
    signed.extend(length.to_be_bytes());
    signed.extend(extensions);

    let millis = i64::try_from(proof.timestamp).map_err(|error| fail(error.to_string()))?;
    let time = Timestamp::from_millisecond(millis).map_err(|error| fail(error.to_string()))?;
    // ECDSA P-256 with SHA-256 is what RFC 6962 (2.1.4) and Sigstore's logs use.
    let keys = root.trusted.ctfe_keys(SigningScheme::EcdsaP256Sha256);
    let keys = keys.map_err(|error| fail(error.to_string()))?;
    let id = Sha256Hash::new(proof.log_id.key_id);
    let key = keys.key_at(&id, time);
    let key = key.ok_or_else(|| fail("no such log in the trusted root at that time".into()))?;
    let signature = SignatureBytes::new(proof.signature.signature.as_slice().to_vec());
    key.verify(&signed, &signature).map_err(|_| fail("it is not the log's".into()))
}
