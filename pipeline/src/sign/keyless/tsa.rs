//! The timestamp authority: a signed time for the signature.
//!
//! Source: RFC 3161, with SHA-256 over the signature's bytes (sigstore client specification).

use cms::signed_data::SignedData;
use der::{Decode as _, Encode as _, asn1::Int, asn1::OctetString};
use rand_core::{OsRng, RngCore as _};
use reqwest::Url;
use sigstore_types::{SignatureBytes, TimestampToken};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_tsp::{MessageImprint, TimeStampReq, TimeStampResp, TspVersion, TstInfo};

use super::{
    error::KeylessError,
    http::{Http, Service},
};

/// Largest answer (bytes): a response with the authority's chain has 3 kB.
const MAX_ANSWER: usize = 64 * 1024;
const SHA256: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// Has a signature stamped, and checks that the stamp is about it and was made for us. Who made
/// it is verified with the finished bundle, against the trusted root.
pub(super) async fn stamp(
    http: &Http,
    url: &Url,
    signature: &SignatureBytes,
) -> Result<TimestampToken, KeylessError> {
    let service = Service { name: "timestamp authority", url };
    let request = request(signature).map_err(|error| service.error(error))?;
    let body = request.to_der().map_err(|error| service.error(error))?;
    let answer = http.post(service, "application/timestamp-query", body, "", MAX_ANSWER).await?;
    answers(&request, &answer).map_err(|why| service.error(why))?;
    Ok(TimestampToken::new(answer))
}

fn request(signature: &SignatureBytes) -> der::Result<TimeStampReq> {
    let digest = pitlane_release::Digest::of(signature.as_bytes());
    let mut nonce = [0; 8];
    OsRng.fill_bytes(&mut nonce);
    // A positive integer in its shortest form, whatever the dice say.
    nonce[0] = nonce[0] & 0x7f | 0x40;
    Ok(TimeStampReq {
        version: TspVersion::V1,
        message_imprint: MessageImprint {
            hash_algorithm: AlgorithmIdentifierOwned { oid: SHA256, parameters: None },
            hashed_message: OctetString::new(digest.as_bytes().as_slice())?,
        },
        req_policy: None,
        nonce: Some(Int::new(&nonce)?),
        cert_req: true,
        extensions: None,
    })
}

fn answers(request: &TimeStampReq, answer: &[u8]) -> Result<(), String> {
    let unreadable = |error: der::Error| format!("its answer cannot be read: {error}");
    let response = TimeStampResp::from_der(answer).map_err(unreadable)?;
    let Some(token) = &response.time_stamp_token else {
        return Err(format!("it gives no timestamp: {:?}", response.status.status));
    };
    let data: SignedData = token.content.decode_as().map_err(unreadable)?;
    let content = data.encap_content_info.econtent.as_ref();
    let content = content.ok_or("its timestamp is empty")?;
    let info = TstInfo::from_der(content.value()).map_err(unreadable)?;
    let (asked, given) = (&request.message_imprint, &info.message_imprint);
    if given.hash_algorithm.oid != asked.hash_algorithm.oid
        || given.hashed_message != asked.hashed_message
    {
        return Err("its timestamp is about something else than our signature".into());
    }
    if info.nonce != request.nonce {
        return Err("its timestamp answers another request".into());
    }
    Ok(())
}
