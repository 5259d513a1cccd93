//! The bundle's JSON as it stands, for what a lenient parse forgets: which fields are there.
//!
//! Source: `sigstore_bundle.proto`, `sigstore_rekor.proto` and `sigstore_common.proto` of the
//! protobuf specs, in proto3 JSON: 64-bit integers may be text, absent and null are the same.
//! Unknown fields are refused: a second spelling of a known one (`message_signature`) would be
//! read by other tools and not by us.

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{json, refusal::BundleRefusal};

/// Most log entries of a bundle; clients write one.
const MAX_ENTRIES: usize = 16;
/// Most timestamps of a bundle; clients write one or two.
const MAX_STAMPS: usize = 16;
/// Longest chain; Fulcio's has three certificates.
const MAX_CERTIFICATES: usize = 8;
/// Longest inclusion proof: one hash a level, in a tree of less than 2^63 leaves.
const MAX_HASHES: usize = 63;

/// A bundle's fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wire {
    media_type: String,
    pub(super) verification_material: Material,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Material {
    certificate: Option<RawBytes>,
    x509_certificate_chain: Option<Chain>,
    public_key: Option<PublicKeyHint>,
    #[serde(default)]
    pub(super) tlog_entries: Vec<Entry>,
    timestamp_verification_data: Option<Stamps>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MessageSignature {
    #[serde(rename = "messageDigest")]
    _digest: Option<MessageDigest>,
    #[serde(rename = "signature")]
    _signature: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageDigest {
    #[serde(rename = "algorithm")]
    _algorithm: String,
    #[serde(rename = "digest")]
    _digest: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payload")]
    _payload: String,
    #[serde(rename = "payloadType")]
    _payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    #[serde(rename = "sig")]
    _sig: String,
    #[serde(rename = "keyid")]
    _key_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBytes {
    #[serde(rename = "rawBytes")]
    _raw_bytes: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    certificates: Vec<RawBytes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKeyHint {
    #[serde(rename = "hint")]
    _hint: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stamps {
    #[serde(default)]
    rfc3161_timestamps: Vec<Stamp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    #[serde(rename = "signedTimestamp")]
    _signed_timestamp: String,
}

/// A log entry's fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) log_index: Option<Int>,
    #[serde(rename = "logId")]
    _log_id: LogId,
    #[serde(rename = "kindVersion")]
    _kind_version: KindVersion,
    pub(super) integrated_time: Option<Int>,
    pub(super) inclusion_promise: Option<Promise>,
    pub(super) inclusion_proof: Option<Proof>,
    #[serde(rename = "canonicalizedBody")]
    _canonicalized_body: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogId {
    #[serde(rename = "keyId")]
    _key_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KindVersion {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "version")]
    _version: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Promise {
    #[serde(rename = "signedEntryTimestamp")]
    _signed_entry_timestamp: String,
}

/// An inclusion proof's fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Proof {
    pub(super) log_index: Option<Int>,
    #[serde(rename = "rootHash")]
    _root_hash: String,
    #[serde(rename = "treeSize")]
    _tree_size: Int,
    #[serde(default)]
    hashes: Vec<String>,
    #[serde(rename = "checkpoint")]
    _checkpoint: Option<Checkpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    #[serde(rename = "envelope")]
    _envelope: String,
}

/// A 64-bit integer, as a number or as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Int(pub(super) u64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => match text.parse::<u64>() {
                Ok(number) if number.to_string() == text => Ok(Self(number)),
                _ => Err(D::Error::custom("want an integer that is not negative")),
            },
        }
    }
}

impl Wire {
    /// Reads and bounds a bundle's fields.
    pub(super) fn parse(text: &str) -> Result<Self, BundleRefusal> {
        let malformed = |error: serde_json::Error| BundleRefusal::Malformed(error.to_string());
        json::check(text.as_bytes()).map_err(malformed)?;
        let wire: Self = serde_json::from_str(text).map_err(malformed)?;
        wire.bounds()?;
        wire.one_of_each()?;
        Ok(wire)
    }

    /// How many RFC 3161 timestamps there are.
    pub(super) fn stamps(&self) -> usize {
        let stamps = self.verification_material.timestamp_verification_data.as_ref();
        stamps.map_or(0, |stamps| stamps.rfc3161_timestamps.len())
    }

    fn bounds(&self) -> Result<(), BundleRefusal> {
        let material = &self.verification_material;
        let chain = material.x509_certificate_chain.as_ref();
        let hashes = |entry: &Entry| entry.inclusion_proof.as_ref().map_or(0, |p| p.hashes.len());
        let counts = [
            ("log entries", material.tlog_entries.len(), MAX_ENTRIES),
            ("timestamps", self.stamps(), MAX_STAMPS),
            ("certificates", chain.map_or(0, |chain| chain.certificates.len()), MAX_CERTIFICATES),
            ("hashes", material.tlog_entries.iter().map(hashes).max().unwrap_or(0), MAX_HASHES),
            ("signatures", self.dsse_envelope.as_ref().map_or(0, |e| e.signatures.len()), 1),
        ];
        match counts.into_iter().find(|(_, count, most)| count > most) {
            None => Ok(()),
            Some((what, count, most)) => {
                Err(BundleRefusal::Malformed(format!("{count} {what}, want at most {most}")))
            }
        }
    }

    /// One content and one material; the certificate form that the version has.
    fn one_of_each(&self) -> Result<(), BundleRefusal> {
        let contradiction = |why: &str| Err(BundleRefusal::Contradiction(why.to_owned()));
        let material = &self.verification_material;
        let alternatives = [
            material.certificate.is_some(),
            material.x509_certificate_chain.is_some(),
            material.public_key.is_some(),
        ];
        if alternatives.into_iter().filter(|there| *there).count() > 1 {
            return contradiction("it names more than one signer");
        }
        if self.message_signature.is_some() && self.dsse_envelope.is_some() {
            return contradiction("it has a message signature and an envelope at once");
        }
        let old = ["version=0.1", "version=0.2"].iter().any(|v| self.media_type.ends_with(v));
        if old && material.certificate.is_some() {
            return contradiction("a single certificate in a bundle before v0.3");
        }
        Ok(())
    }
}
