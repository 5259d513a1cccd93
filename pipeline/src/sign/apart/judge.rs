//! What a signer process signs: in-toto statements of the types that a pipeline makes, and
//! cosign's simple signing. Pure.
//!
//! The bytes are read by the types that cars and clusters read them with, and the encoding that is
//! signed is made here, so that no request can smuggle in a document of another kind.

use std::collections::{BTreeMap, BTreeSet};

use pitlane_gates::predicate::{CYCLONEDX_VEX, SARIF, TEST_RESULT, VULN};
use pitlane_release::{
    facts::{AttestedModel, MODEL},
    golden::{GOLDEN, GoldenFrames},
    lap::{LAP, Lap},
    provenance::{PROVENANCE, Provenance},
    simple::{MAX_PAYLOAD as MAX_SIMPLE, SimpleSigning},
    statement::{
        COSIGN_SIGN, PAYLOAD_TYPE, RELEASE, ReleaseStatement, STATEMENT_V1, Statement,
        StatementError,
    },
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::wire::{Ask, Code, Refusal};
use crate::{model_signing::MODEL_SIGNATURE, sbom::CYCLONEDX};

/// Every type that a pipeline makes. The last four are those of gates: in-toto's test result,
/// cosign's vulnerability scan, CycloneDX VEX and SARIF.
pub const KNOWN: [&str; 12] = [
    RELEASE,
    COSIGN_SIGN,
    PROVENANCE,
    LAP,
    CYCLONEDX,
    MODEL_SIGNATURE,
    MODEL,
    GOLDEN,
    TEST_RESULT,
    VULN,
    CYCLONEDX_VEX,
    SARIF,
];
/// Most subjects of a statement, as readers have it.
const MAX_SUBJECTS: usize = 64;
/// Most digests of one subject.
const MAX_DIGESTS: usize = 8;
/// Longest name of a hash.
const MAX_HASH: usize = 32;
/// Longest digest, in hexadecimal digits: 512 bits.
const MAX_HEX: usize = 128;

/// The types that may be signed.
#[derive(Clone, Debug)]
pub struct Allowed(BTreeSet<&'static str>);

/// What may be signed, and what the log says of it.
#[derive(Debug)]
pub struct Judged {
    /// The bytes that the signature is of.
    pub message: Vec<u8>,
    /// The statement's type.
    pub predicate: &'static str,
    /// Digests of what it speaks of: `sha256:…`.
    pub subjects: Vec<String>,
}

/// The outline of every statement; a field that is not known is refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Outline {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Named>,
    predicate_type: String,
    predicate: Fields,
}

/// How many fields an object has; what is in them is for the types that know it.
struct Fields(usize);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Counting;
        impl<'de> Visitor<'de> for Counting {
            type Value = Fields;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut count = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Fields(count))
            }
        }
        from.deserialize_map(Counting)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(default, rename = "name")]
    _name: Option<String>,
    digest: BTreeMap<String, String>,
}

impl Default for Allowed {
    fn default() -> Self {
        Self(KNOWN.into())
    }
}

impl Allowed {
    /// Only these of the known types.
    ///
    /// # Errors
    /// The first that is not known.
    pub fn only(types: &[String]) -> Result<Self, String> {
        let find = |wanted: &String| KNOWN.into_iter().find(|known| known == wanted);
        types
            .iter()
            .map(|wanted| find(wanted).ok_or_else(|| wanted.clone()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Judges what is to be signed.
    pub fn judge(&self, ask: Ask, payload: &[u8]) -> Result<Judged, Refusal> {
        match ask {
            Ask::PublicKey => Err(Refusal::new(Code::Request, "the public key is not signed")),
            Ask::Statement => self.statement(payload),
            Ask::SimpleSigning => self.simple(payload),
        }
    }

    fn statement(&self, payload: &[u8]) -> Result<Judged, Refusal> {
        let refused = |why: String| Refusal::new(Code::Statement, why);
        let outline: Outline = serde_json::from_slice(payload)
            .map_err(|error| refused(format!("not a statement: {error}")))?;
        if outline.kind != STATEMENT_V1 {
            return Err(refused(format!("`_type` is `{:.80}`", outline.kind)));
        }
        let found = &outline.predicate_type;
        let Some(predicate) = self.0.iter().find(|allowed| *allowed == found) else {
            let why = format!("the predicate type `{found:.200}` is not on this signer's list");
            return Err(Refusal::new(Code::Predicate, why));
        };
        let subjects = subjects(&outline.subject).map_err(refused)?;
        typed(predicate, payload, outline.predicate.0 == 0)
            .map_err(|error| refused(error.to_string()))?;
        Ok(Judged { message: sigstore_types::pae(PAYLOAD_TYPE, payload), predicate, subjects })
    }

    /// cosign's document says the same as a statement of the type [`COSIGN_SIGN`], so it needs the
    /// same permission; and it is signed in the one spelling that cosign and we write.
    fn simple(&self, payload: &[u8]) -> Result<Judged, Refusal> {
        let refused = |why: String| Refusal::new(Code::SimpleSigning, why);
        if !self.0.contains(COSIGN_SIGN) {
            let why = format!("signatures of images ({COSIGN_SIGN}) are not on this signer's list");
            return Err(Refusal::new(Code::Predicate, why));
        }
        if payload.len() as u64 > MAX_SIMPLE {
            return Err(refused(format!("{} bytes, at most {MAX_SIMPLE}", payload.len())));
        }
        let read = SimpleSigning::parse(payload).map_err(refused)?;
        if read.optional.is_some() || serde_json::to_vec(&read).ok().as_deref() != Some(payload) {
            return Err(refused("it is not spelled as cosign does, or says more".into()));
        }
        let subjects = vec![read.critical.image.docker_manifest_digest.to_string()];
        Ok(Judged { message: payload.to_vec(), predicate: COSIGN_SIGN, subjects })
    }
}

fn subjects(named: &[Named]) -> Result<Vec<String>, String> {
    if !(1..=MAX_SUBJECTS).contains(&named.len()) {
        return Err(format!("{} subjects, want 1 to {MAX_SUBJECTS}", named.len()));
    }
    let mut found = Vec::new();
    for subject in named {
        if !(1..=MAX_DIGESTS).contains(&subject.digest.len()) {
            let count = subject.digest.len();
            return Err(format!("a subject with {count} digests, want 1 to {MAX_DIGESTS}"));
        }
        for (hash, hex) in &subject.digest {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            let plain = hash.chars().all(word) && (1..=MAX_HASH).contains(&hash.len());
            if !plain || !hex.chars().all(digit) || !(1..=MAX_HEX).contains(&hex.len()) {
                return Err("a subject's digest is not a hash and hexadecimal digits".into());
            }
            found.push(format!("{hash}:{hex}"));
        }
    }
    Ok(found)
}

/// The reading of those who judge it later, where there is one.
fn typed(predicate: &str, payload: &[u8], empty: bool) -> Result<(), StatementError> {
    match predicate {
        RELEASE => ReleaseStatement::read(payload).map(drop),
        PROVENANCE => Statement::<Provenance>::parse(payload, PROVENANCE).map(drop),
        LAP => Statement::<Lap>::parse(payload, LAP).map(drop),
        MODEL => Statement::<AttestedModel>::parse(payload, MODEL).map(drop),
        GOLDEN => Statement::<GoldenFrames>::parse(payload, GOLDEN).map(drop),
        COSIGN_SIGN if !empty => {
            Err(StatementError::Format("the predicate of an image's signature is empty".into()))
        }
        _ => Ok(()),
    }
}
