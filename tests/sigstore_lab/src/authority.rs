//! The certificate authority: a certificate of ten minutes for a token's holder.
//!
//! Source: Fulcio's `fulcio.proto` (`CreateSigningCertificate`) and `docs/oid-info.md`.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use axum::{
    Json, Router,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::{Decode as _, DecodePem as _, Encode as _, asn1::Ia5String, asn1::Utf8StringRef};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use sigstore_crypto::{KeyPair, SigningScheme, verify_signature};
use sigstore_types::{DerCertificate, DerPublicKey, SignatureBytes};
use x509_cert::{
    Certificate,
    ext::{Extension, pkix::SubjectAltName, pkix::name::GeneralName},
    request::CertReq,
    spki::SubjectPublicKeyInfoOwned,
};

use crate::{
    World, ct,
    fault::{Fault, Part, refuse},
    pki::{self, Draft, Entity, Purpose},
};

/// The arc of Fulcio's extensions.
const ARC: &str = "1.3.6.1.4.1.57264.1";
/// The extension with the name.
const SAN: &str = "2.5.29.17";

/// Root, intermediate, and the log of certificates.
pub(crate) struct Authority {
    pub(crate) root: Entity,
    pub(crate) intermediate: Entity,
    pub(crate) log: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let root = Entity::root("lab root")?;
        let intermediate = root.intermediate("lab intermediate", Purpose::CodeSigning)?;
        Ok(Self { root, intermediate, log: KeyPair::generate_ecdsa_p256()? })
    }
}

pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new().route("/api/v2/signingCert", post(certify))
}

async fn certify(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    Json(request): Json<Value>,
) -> Response {
    match issue(&world, &headers, &request) {
        Ok(chain) => {
            let detached = world.faults.is(Part::Authority, Fault::Detached);
            let kind = if detached { "Detached" } else { "Embedded" };
            let chain = json!({ "chain": { "certificates": chain } });
            Json(json!({ format!("signedCertificate{kind}Sct"): chain })).into_response()
        }
        Err(error) => refuse(format!("{error:#}")),
    }
}

fn issue(world: &World, headers: &HeaderMap, request: &Value) -> anyhow::Result<Vec<String>> {
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
    let token = request["credentials"]["oidcIdentityToken"].as_str();
    let token = token.or_else(|| bearer?.strip_prefix("Bearer ")).context("no token")?;
    let mut claims = world.issuer.verify(token).context("the token")?;
    let mut key = possessed(request, &claims).context("the proof of possession")?;

    let is = |fault| world.faults.is(Part::Authority, fault);
    if is(Fault::OtherKey) {
        key = pki::key_of(&KeyPair::generate_ecdsa_p256()?)?;
    }
    if is(Fault::OtherName) {
        claims["email"] = "mallory@example.org".into();
    }
    let now = Timestamp::now();
    let from = if is(Fault::Expired) { now - 1.hour() } else { now };
    let mut extensions = vec![
        pki::raw("2.5.29.15", true, &pki::SIGN)?,
        pki::extended_usage(Purpose::CodeSigning, false)?,
    ];
    let issuer =
        if is(Fault::OtherIssuer) { "https://other.example" } else { text(&claims, "iss")? };
    extensions.extend(names(&claims, issuer)?);
    if is(Fault::Nameless) {
        extensions.retain(|extension| extension.extn_id.to_string() != SAN);
    }
    let draft = Draft {
        subject: x509_cert::name::Name::default(),
        key,
        from,
        until: from + 10.minutes(),
        extensions,
    };
    let Authority { root, intermediate, log } = &world.authority;
    let mut tbs = intermediate.prepare(draft)?;
    if !is(Fault::NoLogProof) {
        let issuer_key = pki::key_of(&intermediate.pair)?.to_der()?;
        let proof = ct::proof(log, &tbs, &issuer_key, now)?;
        tbs.extensions.get_or_insert_default().push(proof);
    }
    let leaf = intermediate.sign(tbs)?;
    [&leaf, &intermediate.certificate, &root.certificate].into_iter().map(pem).collect()
}

fn pem(certificate: &Certificate) -> anyhow::Result<String> {
    Ok(pki::pem(&DerCertificate::from_bytes(&certificate.to_der()?)))
}

/// The key that the request shows to have: by a signature over the token's challenge, or by a
/// certificate request, which its own key signs.
fn possessed(request: &Value, claims: &Value) -> anyhow::Result<SubjectPublicKeyInfoOwned> {
    if let Some(csr) = request["certificateSigningRequest"].as_str() {
        let csr = CertReq::from_pem(STANDARD.decode(csr)?)?;
        let key = csr.info.public_key.to_der()?;
        checked(&key, &csr.info.to_der()?, csr.signature.raw_bytes())?;
        return Ok(csr.info.public_key);
    }
    let request = &request["publicKeyRequest"];
    let key = DerPublicKey::from_pem(request["publicKey"]["content"].as_str().context("no key")?)?;
    let proof = request["proofOfPossession"].as_str().context("no signature")?;
    // Fulcio's configuration says which claim an issuer's holders sign.
    let challenge = claims["email"].as_str().or(claims["sub"].as_str()).context("no subject")?;
    checked(key.as_bytes(), challenge.as_bytes(), &STANDARD.decode(proof)?)?;
    Ok(SubjectPublicKeyInfoOwned::from_der(key.as_bytes())?)
}

fn checked(key: &[u8], message: &[u8], signature: &[u8]) -> anyhow::Result<()> {
    let key = DerPublicKey::from_bytes(key);
    let signature = SignatureBytes::from_bytes(signature);
    Ok(verify_signature(&key, message, &signature, SigningScheme::EcdsaP256Sha256)?)
}

fn text<'a>(claims: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    claims[name].as_str().with_context(|| format!("no claim `{name}`"))
}

/// The name, and what else the token says.
fn names(claims: &Value, issuer: &str) -> anyhow::Result<Vec<Extension>> {
    let own = |number: u8, value: &str| {
        let value = Utf8StringRef::new(value)?;
        pki::extension(&format!("{ARC}.{number}"), false, &value)
    };
    let old =
        |number: u8, value: &str| pki::raw(&format!("{ARC}.{number}"), false, value.as_bytes());
    let mut extensions = Vec::new();
    let san = if let Some(email) = claims["email"].as_str() {
        GeneralName::Rfc822Name(Ia5String::new(email)?)
    } else {
        let workflow = format!("https://github.com/{}", text(claims, "job_workflow_ref")?);
        GeneralName::UniformResourceIdentifier(Ia5String::new(&workflow)?)
    };
    extensions.push(pki::extension(SAN, true, &SubjectAltName(vec![san]))?);
    extensions.push(old(1, issuer)?);
    extensions.push(own(8, issuer)?);
    if claims["email"].is_string() {
        return Ok(extensions);
    }
    ensure!(claims["repository"].is_string(), "neither a person nor a workflow");
    let claim = |name| text(claims, name);
    let repository = format!("https://github.com/{}", claim("repository")?);
    for (number, value) in
        [(2, "event_name"), (3, "sha"), (4, "workflow"), (5, "repository"), (6, "ref")]
    {
        extensions.push(old(number, claim(value)?)?);
    }
    let run = format!(
        "{repository}/actions/runs/{}/attempts/{}",
        claim("run_id")?,
        claim("run_attempt")?
    );
    for (number, value) in [
        (9, format!("https://github.com/{}", claim("job_workflow_ref")?)),
        (10, claim("job_workflow_sha")?.to_owned()),
        (11, claim("runner_environment")?.to_owned()),
        (12, repository),
        (13, claim("sha")?.to_owned()),
        (14, claim("ref")?.to_owned()),
        (15, claim("repository_id")?.to_owned()),
        (16, format!("https://github.com/{}", claim("repository_owner")?)),
        (17, claim("repository_owner_id")?.to_owned()),
        (18, format!("https://github.com/{}", claim("workflow_ref")?)),
        (19, claim("workflow_sha")?.to_owned()),
        (20, claim("event_name")?.to_owned()),
        (21, run),
        (22, claim("repository_visibility")?.to_owned()),
    ] {
        extensions.push(own(number, &value)?);
    }
    Ok(extensions)
}
