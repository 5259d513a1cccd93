//! The transparency log: an entry about the signature, with the proof that the log has it.
//!
//! Sources: Rekor v2's `rekor_service.proto` (`CreateEntry`) and client guide; Rekor v1's
//! `openapi.yaml` (`createLogEntry`). In v2 an envelope is logged as any other signature, over its
//! pre-authentication encoding; in v1 it is an entry of its own kind.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sigstore_rekor::{DsseEntry, HashedRekord, HashedRekordV2, LogEntry, RekorV2KeyDetails};
use sigstore_types::{
    DerCertificate, KindVersion, Sha256Hash, SignatureContent, TransparencyLogEntry,
};

use super::{
    bundle,
    error::KeylessError,
    http::{Http, Service},
    services::{Log, LogApi},
};

/// Largest answer (bytes): an entry with a statement of SLSA has 20 kB, its proof 3 kB.
const MAX_ANSWER: usize = 256 * 1024;
/// Where the kinds of entries have the signature.
const SIGNATURES: [&str; 3] = [
    "/spec/hashedRekordV002/signature/content",
    "/spec/signature/content",
    "/spec/signatures/0/signature",
];

/// Has a signature logged, and checks that the entry is about it. The proof is verified with the
/// finished bundle, against the trusted root.
pub(super) async fn log(
    http: &Http,
    log: &Log,
    content: &SignatureContent,
    digest: &Sha256Hash,
    certificate: &DerCertificate,
) -> Result<TransparencyLogEntry, KeylessError> {
    let signature = bundle::signature(content)?;
    let (path, (kind, request)) = match (log.api, content) {
        (LogApi::V2, _) => {
            let key = RekorV2KeyDetails::PkixEcdsaP256Sha256;
            let entry = HashedRekordV2::new_with_certificate(digest, signature, certificate, key);
            ("api/v2/log/entries", (KindVersion::HashedRekordV002, serde_json::to_vec(&entry)))
        }
        (LogApi::V1, SignatureContent::DsseEnvelope(envelope)) => {
            let entry = DsseEntry::new(envelope, certificate)
                .map_err(|error| KeylessError::Content(error.to_string()))?;
            ("api/v1/log/entries", (KindVersion::DsseV001, serde_json::to_vec(&entry)))
        }
        (LogApi::V1, _) => {
            let entry = HashedRekord::new(digest, signature, certificate);
            ("api/v1/log/entries", (KindVersion::HashedRekordV001, serde_json::to_vec(&entry)))
        }
    };
    let url = super::below(&log.url, path);
    let service = Service { name: "transparency log", url: &url };
    let request = request.map_err(|error| service.error(error))?;
    let answer = http.post(service, "application/json", request, "", MAX_ANSWER).await?;
    let entry = match log.api {
        LogApi::V1 => first_version(&answer, kind),
        LogApi::V2 => serde_json::from_slice(&answer).map_err(|error| error.to_string()),
    };
    let entry = entry.map_err(|why| service.error(format!("its answer cannot be read: {why}")))?;
    about(&entry, kind, signature.as_bytes()).map_err(|why| service.error(why))?;
    Ok(entry)
}

/// A v1 answer: one entry by its name, in another form than bundles have.
fn first_version(answer: &[u8], kind: KindVersion) -> Result<TransparencyLogEntry, String> {
    let entries: BTreeMap<String, LogEntry> =
        serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let mut entries = entries.values();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => entry.to_bundle_entry(kind).map_err(|error| error.to_string()),
        _ => Err("it holds not one entry".into()),
    }
}

/// An entry that is of this kind, proven, and about this signature.
fn about(entry: &TransparencyLogEntry, kind: KindVersion, signature: &[u8]) -> Result<(), String> {
    if entry.kind_version != kind {
        let (found, version) = (entry.kind_version.kind(), entry.kind_version.version());
        return Err(format!(
            "it logged a `{found}` {version}, not a `{}` {}",
            kind.kind(),
            kind.version()
        ));
    }
    if entry.inclusion_proof.is_none() {
        return Err("its entry has no inclusion proof".into());
    }
    let body: Value = serde_json::from_slice(entry.canonicalized_body.as_bytes())
        .map_err(|error| format!("its entry's body: {error}"))?;
    let logged = SIGNATURES.iter().find_map(|place| body.pointer(place)?.as_str());
    let logged = logged.and_then(|text| STANDARD.decode(text).ok());
    if logged.as_deref() != Some(signature) {
        return Err("its entry is about another signature than ours".into());
    }
    Ok(())
}
