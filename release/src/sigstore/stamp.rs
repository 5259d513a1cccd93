//! The parts of an RFC 3161 timestamp that no signature covers.
//!
//! A stamp is a CMS message (RFC 5652) in a response; signed are its content and attributes. The
//! rest is copies of what the trusted root or the signed part says, and stays unread when the
//! signature verifies. Here it must agree, so that a stamp that verifies is the one that was made.

use cms::{
    cert::CertificateChoices,
    content_info::{CmsVersion, ContentInfo},
    signed_data::{SignedData, SignerIdentifier, SignerInfo},
};
use sigstore_types::Bundle;
use x509_cert::{
    der::{Any, Decode as _, Encode as _, asn1::ObjectIdentifier},
    spki::AlgorithmIdentifierOwned,
};

use super::{refusal::BundleRefusal, root::TrustRoot};

/// Hashes, each with the signature algorithms that may go with it (RFC 5754, 5758, 8419; plain
/// `rsaEncryption` names no hash).
const ALGORITHMS: [(&str, &[&str]); 3] = [
    ("2.16.840.1.101.3.4.2.1", &["1.2.840.10045.4.3.2", "1.2.840.113549.1.1.11", RSA]),
    ("2.16.840.1.101.3.4.2.2", &["1.2.840.10045.4.3.3", "1.2.840.113549.1.1.12", RSA]),
    ("2.16.840.1.101.3.4.2.3", &["1.2.840.10045.4.3.4", "1.2.840.113549.1.1.13", RSA, ED25519]),
];
const RSA: &str = "1.2.840.113549.1.1.1";
const ED25519: &str = "1.3.101.112";

/// Checks every stamp of a bundle. The signatures are the library's business.
pub(super) fn check(bundle: &Bundle, root: &TrustRoot) -> Result<(), BundleRefusal> {
    for stamp in &bundle.verification_material.timestamp_verification_data.rfc3161_timestamps {
        let unsigned = |why: &str| BundleRefusal::Time(format!("the timestamp {why}"));
        let data = signed_data(stamp.signed_timestamp.as_bytes())
            .ok_or_else(|| unsigned("is no granted response with a signed message"))?;
        agrees(&data, root).map_err(unsigned)?;
    }
    Ok(())
}

/// The message in a response whose status is `granted` and nothing more (RFC 3161, 2.4.2).
fn signed_data(response: &[u8]) -> Option<SignedData> {
    let parts = Vec::<Any>::from_der(response).ok()?;
    let [status, message] = parts.as_slice() else { return None };
    let status = Vec::<Any>::from_der(&status.to_der().ok()?).ok()?;
    let [granted] = status.as_slice() else { return None };
    if u32::from_der(&granted.to_der().ok()?) != Ok(0) {
        return None;
    }
    let message = ContentInfo::from_der(&message.to_der().ok()?).ok()?;
    message.content.decode_as().ok()
}

fn agrees(data: &SignedData, root: &TrustRoot) -> Result<(), &'static str> {
    let [signer] = data.signer_infos.0.as_slice() else { return Err("has not one signer") };
    if data.digest_algorithms.as_slice().iter().any(|digest| digest.oid != signer.digest_alg.oid) {
        return Err("lists another hash than its signer's");
    }
    if !data.digest_algorithms.as_slice().iter().all(plain) || !algorithms(signer) {
        return Err("names algorithms that do not go together");
    }
    if !version(signer) {
        return Err("has a signer of another version");
    }
    if data.crls.is_some() || signer.unsigned_attrs.is_some() {
        return Err("carries what nobody signed");
    }
    let brought = data.certificates.iter().flat_map(|set| set.0.as_slice());
    for certificate in brought {
        let CertificateChoices::Certificate(certificate) = certificate else {
            return Err("brings a certificate of another kind");
        };
        if !root.stampers.contains(certificate) {
            return Err("brings a certificate that is not the trusted root's");
        }
    }
    Ok(())
}

/// A signature algorithm that signs the hash.
fn algorithms(signer: &SignerInfo) -> bool {
    let is = |oid: &ObjectIdentifier, text: &str| ObjectIdentifier::new(text).as_ref() == Ok(oid);
    let signature = &signer.signature_algorithm;
    let known = ALGORITHMS.iter().find(|(digest, _)| is(&signer.digest_alg.oid, digest));
    plain(&signer.digest_alg)
        && plain(signature)
        && known.is_some_and(|(_, with)| with.iter().any(|text| is(&signature.oid, text)))
}

/// No parameters, or the null that old encodings have.
fn plain(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm.parameters.as_ref().is_none_or(|parameters| *parameters == Any::null())
}

/// RFC 5652, 5.3: the version says how the signer is named.
fn version(signer: &SignerInfo) -> bool {
    match signer.sid {
        SignerIdentifier::IssuerAndSerialNumber(_) => signer.version == CmsVersion::V1,
        SignerIdentifier::SubjectKeyIdentifier(_) => signer.version == CmsVersion::V3,
    }
}
