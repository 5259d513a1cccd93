//! The certificate authority: a certificate of minutes for a fresh key and a token's holder.
//!
//! Source: Fulcio's API v2 (`fulcio.proto`, `CreateSigningCertificate`) and `docs/oid-info.md`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use sigstore_crypto::{CertificateInfo, KeyPair, parse_certificate_info};
use sigstore_types::DerCertificate;

use super::{
    error::KeylessError,
    http::{Http, Service, without},
    token::IdentityToken,
};

/// Largest answer (bytes): a chain of three certificates has 6 kB.
const MAX_ANSWER: usize = 64 * 1024;

/// A certificate that is ours.
pub(super) struct Leaf {
    pub(super) der: DerCertificate,
    /// The name in it: a mail address or a URI.
    pub(super) san: String,
    /// Who attested the name.
    pub(super) issuer: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    credentials: Credentials<'a>,
    public_key_request: PublicKeyRequest,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Credentials<'a> {
    oidc_identity_token: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicKeyRequest {
    public_key: PublicKey,
    proof_of_possession: String,
}

#[derive(Serialize)]
struct PublicKey {
    algorithm: &'static str,
    content: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    signed_certificate_embedded_sct: Option<Embedded>,
}

#[derive(Deserialize)]
struct Embedded {
    chain: Chain,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<String>,
}

/// Asks for a certificate, and checks that it is the one that was asked for.
pub(super) async fn certify(
    http: &Http,
    url: &Url,
    token: &IdentityToken,
    pair: &KeyPair,
) -> Result<Leaf, KeylessError> {
    let url = super::below(url, "api/v2/signingCert");
    let service = Service { name: "certificate authority", url: &url };
    let request = Request {
        credentials: Credentials { oidc_identity_token: token.text() },
        public_key_request: PublicKeyRequest {
            public_key: PublicKey { algorithm: "ECDSA", content: pair.public_key_der()?.to_pem() },
            proof_of_possession: STANDARD.encode(pair.sign(token.subject().as_bytes())?.as_bytes()),
        },
    };
    let body = serde_json::to_vec(&request).map_err(|error| service.error(error))?;
    let body = http.post(service, "application/json", body, token.text(), MAX_ANSWER).await?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
        // Such an error may show what stood in the wrong place.
        let error = without(token.text(), &error.to_string());
        service.error(format!("its answer cannot be read: {error}"))
    })?;
    // A proof beside the certificate has no place in a bundle.
    let chain = answer.signed_certificate_embedded_sct;
    let chain = chain.ok_or_else(|| service.error("it gives no certificate with a log proof"))?;
    let pem = chain.chain.certificates.first();
    let pem = pem.ok_or_else(|| service.error("its chain is empty"))?;
    let unreadable = |error: String| service.error(format!("its certificate: {error}"));
    let der = DerCertificate::from_pem(pem).map_err(|error| unreadable(error.to_string()))?;
    let info = parse_certificate_info(&der).map_err(|error| unreadable(error.to_string()))?;
    if info.public_key != pair.public_key_der()? {
        return Err(service.error("its certificate is for another key than ours"));
    }
    let (san, issuer) = names(&info, token, Timestamp::now()).map_err(|why| service.error(why))?;
    Ok(Leaf { der, san, issuer })
}

/// The names in the certificate, when they are the token's.
fn names(
    info: &CertificateInfo,
    token: &IdentityToken,
    now: Timestamp,
) -> Result<(String, String), String> {
    let san = info.identity.as_ref().map(|san| san.as_str().to_owned());
    let san = san.filter(|san| !san.is_empty()).ok_or("its certificate names nobody")?;
    let issuer = info.issuer.clone().ok_or("its certificate names no issuer")?;
    if issuer != token.issuer() {
        return Err(format!(
            "its certificate says that `{issuer}` attested the name, the token is by `{}`",
            token.issuer()
        ));
    }
    if let Some(email) = token.email().filter(|email| *email != san) {
        return Err(format!("its certificate names `{san}`, the token `{email}`"));
    }
    if info.not_after <= now {
        return Err(format!("its certificate ended at {}, now is {now}", info.not_after));
    }
    Ok((san, issuer))
}
