//! Certificates (RFC 5280), and those who issue them.

use std::{str::FromStr as _, time::Duration};

use anyhow::Context as _;
use der::{
    Decode as _, Encode,
    asn1::{BitString, ObjectIdentifier, OctetString, UtcTime},
};
use jiff::{Timestamp, ToSpan as _};
use rand_core::{OsRng, RngCore as _};
use sha2::{Digest as _, Sha256};
use sigstore_crypto::KeyPair;
use sigstore_types::DerCertificate;
use x509_cert::{
    Certificate, TbsCertificate, Version,
    ext::Extension,
    name::Name,
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};

/// ecdsa-with-SHA256.
pub(crate) const ECDSA_SHA256: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// Key usages (RFC 5280, 4.2.1.3), as the bits of the extension's value.
pub(crate) const SIGN: [u8; 4] = [0x03, 0x02, 0x07, 0x80];
const CERTIFY: [u8; 4] = [0x03, 0x02, 0x01, 0x06];
const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";

/// What a key is certified for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    CodeSigning,
    TimeStamping,
}

/// A key with its certificate.
pub(crate) struct Entity {
    pub(crate) pair: KeyPair,
    pub(crate) certificate: Certificate,
}

/// A certificate before its issuer signs it.
pub(crate) struct Draft {
    pub(crate) subject: Name,
    pub(crate) key: SubjectPublicKeyInfoOwned,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) extensions: Vec<Extension>,
}

impl Entity {
    /// A root that certifies itself.
    pub(crate) fn root(name: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::generate_ecdsa_p256()?;
        let draft = Draft::long(name, &pair, authority_extensions()?)?;
        let subject = draft.subject.clone();
        let issuer_key = draft.key.clone();
        let certificate = sign(draft.tbs(&subject, &issuer_key)?, &pair)?;
        Ok(Self { pair, certificate })
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, name: &str, purpose: Purpose) -> anyhow::Result<Self> {
        let mut extensions = authority_extensions()?;
        extensions.push(extended_usage(purpose, false)?);
        self.child(name, extensions)
    }

    /// A timestamp authority's own certificate.
    pub(crate) fn stamper(&self, name: &str) -> anyhow::Result<Self> {
        let extensions =
            vec![raw("2.5.29.15", true, &SIGN)?, extended_usage(Purpose::TimeStamping, true)?];
        self.child(name, extensions)
    }

    fn child(&self, name: &str, extensions: Vec<Extension>) -> anyhow::Result<Self> {
        let pair = KeyPair::generate_ecdsa_p256()?;
        let certificate = self.issue(Draft::long(name, &pair, extensions)?)?;
        Ok(Self { pair, certificate })
    }

    /// Completes a draft with this issuer's name and key.
    pub(crate) fn prepare(&self, draft: Draft) -> anyhow::Result<TbsCertificate> {
        let own = &self.certificate.tbs_certificate;
        draft.tbs(&own.subject, &own.subject_public_key_info)
    }

    /// Issues a certificate.
    pub(crate) fn issue(&self, draft: Draft) -> anyhow::Result<Certificate> {
        self.sign(self.prepare(draft)?)
    }

    /// Signs a prepared certificate.
    pub(crate) fn sign(&self, tbs: TbsCertificate) -> anyhow::Result<Certificate> {
        sign(tbs, &self.pair)
    }

    /// The certificate, DER.
    pub(crate) fn der(&self) -> anyhow::Result<Vec<u8>> {
        Ok(self.certificate.to_der()?)
    }
}

impl Draft {
    /// One that outlives every test.
    fn long(name: &str, pair: &KeyPair, extensions: Vec<Extension>) -> anyhow::Result<Self> {
        let now = Timestamp::now();
        Ok(Self {
            subject: Name::from_str(&format!("CN={name},O=pitlane.lab"))?,
            key: key_of(pair)?,
            from: now - 24.hours(),
            until: now + (24 * 3650).hours(),
            extensions,
        })
    }

    fn tbs(
        self,
        issuer: &Name,
        issuer_key: &SubjectPublicKeyInfoOwned,
    ) -> anyhow::Result<TbsCertificate> {
        let mut serial = [0; 16];
        OsRng.fill_bytes(&mut serial);
        serial[0] = serial[0] & 0x7f | 0x40;
        let own = OctetString::new(key_id(&self.key)?)?;
        let issuers = [&[0x80, 20][..], &key_id(issuer_key)?].concat();
        let mut extensions = vec![
            extension("2.5.29.14", false, &own)?,
            raw("2.5.29.35", false, &[&[0x30, 22][..], &issuers].concat())?,
        ];
        extensions.extend(self.extensions);
        Ok(TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&serial)?,
            signature: AlgorithmIdentifierOwned { oid: ECDSA_SHA256, parameters: None },
            issuer: issuer.clone(),
            validity: Validity { not_before: time(self.from)?, not_after: time(self.until)? },
            subject: self.subject,
            subject_public_key_info: self.key,
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(extensions),
        })
    }
}

fn sign(tbs: TbsCertificate, pair: &KeyPair) -> anyhow::Result<Certificate> {
    let signature = pair.sign(&tbs.to_der()?)?;
    Ok(Certificate {
        signature_algorithm: tbs.signature.clone(),
        tbs_certificate: tbs,
        signature: BitString::from_bytes(signature.as_bytes())?,
    })
}

/// A certificate as text, with the line ends of this side of the world.
pub(crate) fn pem(certificate: &DerCertificate) -> String {
    certificate.to_pem().replace("\r\n", "\n")
}

/// A key's public half.
pub(crate) fn key_of(pair: &KeyPair) -> anyhow::Result<SubjectPublicKeyInfoOwned> {
    Ok(SubjectPublicKeyInfoOwned::from_der(pair.public_key_der()?.as_bytes())?)
}

/// A key identifier (RFC 7093, method 1).
fn key_id(key: &SubjectPublicKeyInfoOwned) -> anyhow::Result<[u8; 20]> {
    let hash = Sha256::digest(key.subject_public_key.raw_bytes());
    hash[..20].try_into().context("a hash is longer than that")
}

fn time(at: Timestamp) -> anyhow::Result<Time> {
    let seconds = Duration::from_secs(u64::try_from(at.as_second())?);
    Ok(Time::UtcTime(UtcTime::from_unix_duration(seconds)?))
}

fn authority_extensions() -> anyhow::Result<Vec<Extension>> {
    let is_authority: Vec<bool> = vec![true];
    Ok(vec![raw("2.5.29.15", true, &CERTIFY)?, extension("2.5.29.19", true, &is_authority)?])
}

/// What a key may be used for (RFC 5280, 4.2.1.12).
pub(crate) fn extended_usage(purpose: Purpose, critical: bool) -> anyhow::Result<Extension> {
    let oid = match purpose {
        Purpose::CodeSigning => CODE_SIGNING,
        Purpose::TimeStamping => TIME_STAMPING,
    };
    extension("2.5.29.37", critical, &vec![ObjectIdentifier::new(oid)?])
}

/// An extension with a value that is encoded here.
pub(crate) fn extension(
    oid: &str,
    critical: bool,
    value: &impl Encode,
) -> anyhow::Result<Extension> {
    raw(oid, critical, &value.to_der()?)
}

/// An extension with a value as it stands.
pub(crate) fn raw(oid: &str, critical: bool, value: &[u8]) -> anyhow::Result<Extension> {
    let extn_value = OctetString::new(value)?;
    Ok(Extension { extn_id: ObjectIdentifier::new(oid)?, critical, extn_value })
}
