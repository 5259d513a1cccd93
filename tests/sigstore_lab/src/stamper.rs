//! The timestamp authority (RFC 3161, with the signed attributes of RFC 5816).

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::post,
};
use cms::{
    cert::{CertificateChoices, IssuerAndSerialNumber},
    content_info::{CmsVersion, ContentInfo},
    signed_data::{
        CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo,
        SignerInfos,
    },
};
use der::{
    Any, Decode as _, Encode as _, Tag,
    asn1::{GeneralizedTime, Int, ObjectIdentifier, OctetString, SetOfVec, UtcTime},
};
use jiff::Timestamp;
use rand_core::{OsRng, RngCore as _};
use sha2::{Digest as _, Sha256};
use x509_cert::{attr::Attribute, spki::AlgorithmIdentifierOwned};
use x509_tsp::{TimeStampReq, TspVersion, TstInfo};

use crate::{
    World,
    fault::{Fault, Part, refuse},
    pki::{ECDSA_SHA256, Entity},
};

const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
/// The policy that Sigstore's timestamp authorities name.
const POLICY: &str = "1.3.6.1.4.1.57264.2";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
const SIGNING_CERTIFICATE_V2: &str = "1.2.840.113549.1.9.16.2.47";

/// An authority, and a stranger.
pub(crate) struct Stamper {
    pub(crate) root: Entity,
    pub(crate) leaf: Entity,
    stranger: Entity,
}

impl Stamper {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let root = Entity::root("lab timestamp root")?;
        let leaf = root.stamper("lab timestamps")?;
        let stranger = Entity::root("other timestamp root")?.stamper("other timestamps")?;
        Ok(Self { root, leaf, stranger })
    }
}

pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new().route("/api/v1/timestamp", post(stamp))
}

async fn stamp(State(world): State<Arc<World>>, body: Bytes) -> Response {
    match answer(&world, &body) {
        Ok(answer) => ([("content-type", "application/timestamp-reply")], answer).into_response(),
        Err(error) => refuse(format!("{error:#}")),
    }
}

fn answer(world: &World, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut request = TimeStampReq::from_der(body)?;
    let is = |fault| world.faults.is(Part::Stamper, fault);
    if is(Fault::OtherContent) {
        request.message_imprint.hashed_message = OctetString::new([7; 32])?;
    }
    if is(Fault::OtherNonce) {
        request.nonce = Some(Int::new(&[7])?);
    }
    if is(Fault::Denies) {
        // PKIStatusInfo with nothing but `rejection`.
        return Ok(vec![vec![2_u8]].to_der()?);
    }
    let signer =
        if is(Fault::OtherStamper) { &world.stamper.stranger } else { &world.stamper.leaf };
    let now = Duration::from_secs(u64::try_from(Timestamp::now().as_second())?);
    let mut serial = [0; 8];
    OsRng.fill_bytes(&mut serial);
    serial[0] = serial[0] & 0x7f | 0x40;
    let info = TstInfo {
        version: TspVersion::V1,
        policy: ObjectIdentifier::new(POLICY)?,
        message_imprint: request.message_imprint,
        serial_number: Int::new(&serial)?,
        gen_time: GeneralizedTime::from_unix_duration(now)?,
        accuracy: None,
        ordering: false,
        nonce: request.nonce,
        tsa: None,
        extensions: None,
    };
    let token = sealed(&info.to_der()?, signer, request.cert_req, now)?;
    // PKIStatusInfo with nothing but `granted`, then the token.
    let granted = Any::encode_from(&vec![Any::encode_from(&0_u8)?])?;
    Ok(vec![granted, Any::encode_from(&token)?].to_der()?)
}

/// A signed message (RFC 5652) with one signer.
fn sealed(
    content: &[u8],
    signer: &Entity,
    with_certificate: bool,
    now: Duration,
) -> anyhow::Result<ContentInfo> {
    let oid = ObjectIdentifier::new;
    let sha256 = AlgorithmIdentifierOwned { oid: oid(SHA256)?, parameters: None };
    let certificate_hash = OctetString::new(Sha256::digest(signer.der()?).as_slice())?;
    let attributes = SetOfVec::try_from(vec![
        attribute(CONTENT_TYPE, &oid(TST_INFO)?)?,
        attribute(MESSAGE_DIGEST, &OctetString::new(Sha256::digest(content).as_slice())?)?,
        attribute(SIGNING_TIME, &UtcTime::from_unix_duration(now)?)?,
        // SigningCertificateV2, ESSCertIDv2s, one of them, which holds nothing but its hash.
        attribute(SIGNING_CERTIFICATE_V2, &vec![vec![vec![certificate_hash]]])?,
    ])?;
    let signature = signer.pair.sign(&attributes.to_der()?)?;
    let tbs = &signer.certificate.tbs_certificate;
    let info = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: tbs.issuer.clone(),
            serial_number: tbs.serial_number.clone(),
        }),
        digest_alg: sha256.clone(),
        signed_attrs: Some(attributes),
        signature_algorithm: AlgorithmIdentifierOwned { oid: ECDSA_SHA256, parameters: None },
        signature: OctetString::new(signature.as_bytes())?,
        unsigned_attrs: None,
    };
    let brought = CertificateChoices::Certificate(signer.certificate.clone());
    let certificates = CertificateSet(SetOfVec::try_from(vec![brought])?);
    let data = SignedData {
        version: CmsVersion::V3,
        digest_algorithms: SetOfVec::try_from(vec![sha256])?,
        encap_content_info: EncapsulatedContentInfo {
            econtent_type: oid(TST_INFO)?,
            econtent: Some(Any::new(Tag::OctetString, content)?),
        },
        certificates: with_certificate.then_some(certificates),
        crls: None,
        signer_infos: SignerInfos(SetOfVec::try_from(vec![info])?),
    };
    Ok(ContentInfo { content_type: oid(SIGNED_DATA)?, content: Any::encode_from(&data)? })
}

/// What a CMS attribute can hold.
trait DerValue: der::Tagged + der::EncodeValue {}

impl<T: der::Tagged + der::EncodeValue> DerValue for T {}

fn attribute(oid: &str, value: &impl DerValue) -> anyhow::Result<Attribute> {
    let values = SetOfVec::try_from(vec![Any::encode_from(value)?])?;
    Ok(Attribute { oid: ObjectIdentifier::new(oid)?, values })
}
