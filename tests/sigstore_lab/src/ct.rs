//! A certificate's log proof: the signed certificate timestamp inside of it (RFC 6962, 3.2 and 3.3).

use der::{Encode as _, asn1::OctetString};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sigstore_crypto::KeyPair;
use x509_cert::{TbsCertificate, ext::Extension};

use crate::pki;

/// The extension that holds the list of proofs.
const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";
/// `ecdsa` with `sha256` (RFC 5246, 7.4.1.4.1).
const ALGORITHM: [u8; 2] = [4, 3];

/// The proof for a certificate that does not have it yet. The log signs the certificate as it is
/// without this extension, together with its issuer's key.
pub(crate) fn proof(
    log: &KeyPair,
    tbs: &TbsCertificate,
    issuer_key: &[u8],
    now: Timestamp,
) -> anyhow::Result<Extension> {
    let tbs = tbs.to_der()?;
    let time = u64::try_from(now.as_millisecond())?.to_be_bytes();
    let length = u32::try_from(tbs.len())?.to_be_bytes();
    let mut signed = vec![0, 0];
    signed.extend(time);
    signed.extend([0, 1]);
    signed.extend(Sha256::digest(issuer_key));
    signed.extend(&length[1..]);
    signed.extend(&tbs);
    signed.extend([0, 0]);
    let signature = log.sign(&signed)?;

    let mut proof = vec![0];
    proof.extend(Sha256::digest(log.public_key_der()?.as_bytes()));
    proof.extend(time);
    proof.extend([0, 0]);
    proof.extend(ALGORITHM);
    proof.extend(vector(signature.as_bytes())?);
    let list = vector(&vector(&proof)?)?;
    pki::extension(SCT_LIST, false, &OctetString::new(list)?)
}

/// Bytes behind their length, in two bytes.
fn vector(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u16::try_from(bytes.len())?.to_be_bytes();
    Ok([&length[..], bytes].concat())
}
