//! Step 3 for images that others signed: a cosign signature by an authority of the policy.

use super::{Notes, Step};
use crate::{
    bundle::{Bundle, Signed},
    evidence::Evidence,
    key::PublicKey,
    policy::{Authority, AuthorityRule, Policy},
    refusal::Refusal,
    statement::{COSIGN_SIGN, STATEMENT_V1, Statement},
};

/// `_type` of the version before.
const STATEMENT_V0_1: &str = "https://in-toto.io/Statement/v0.1";

type AnyStatement = Statement<serde::de::IgnoredAny>;

/// What the bundles prove for one key.
#[derive(Default)]
struct Found {
    /// Predicate types of statements about this image, signed by the key.
    types: Vec<String>,
    /// A bundle names the key, but does not verify.
    altered: bool,
    /// A statement of the key speaks of another image.
    other_image: bool,
}

/// The authority that vouches, by name. Any one suffices (policy-controller's semantics).
pub(super) fn vouched(policy: &Policy, evidence: &Evidence, notes: &mut Notes) -> Step<String> {
    let bundles: Vec<Bundle> =
        evidence.bundles.iter().filter_map(|bytes| Bundle::parse(bytes).ok()).collect();
    let mut refusal = match bundles.is_empty() {
        true => Refusal::Unsigned,
        false => Refusal::WrongSigner,
    };
    for authority in &policy.authorities {
        match &authority.rule {
            AuthorityRule::Static { pass: true, .. } => {
                notes.pass("signature", format!("`{}` passes everything", authority.name));
                return Ok(authority.name.clone());
            }
            AuthorityRule::Static { pass: false, message } => {
                refusal = Refusal::Forbidden(message.clone());
            }
            AuthorityRule::Key(key) => match by_key(authority, key, &bundles, evidence) {
                Ok(()) => {
                    notes.pass("signature", format!("`{}` with key {}", authority.name, key.id()));
                    return Ok(authority.name.clone());
                }
                Err(Some(why)) => refusal = why,
                Err(None) => {}
            },
        }
    }
    Err(("signature", refusal))
}

/// `Err(None)`: this key has nothing to do with the image.
fn by_key(
    authority: &Authority,
    key: &PublicKey,
    bundles: &[Bundle],
    evidence: &Evidence,
) -> Result<(), Option<Refusal>> {
    let mut found = Found::default();
    for bundle in bundles {
        let payload = match bundle.verify([key]) {
            Signed::By(_, payload) => payload,
            Signed::Altered => {
                found.altered = true;
                continue;
            }
            Signed::ByNobodyKnown => continue,
        };
        let Ok(statement) = serde_json::from_slice::<AnyStatement>(payload) else { continue };
        // cosign attests with the older version still; its signatures are of version 1.
        let old = statement.kind == STATEMENT_V0_1 && statement.predicate_type != COSIGN_SIGN;
        if statement.kind != STATEMENT_V1 && !old {
            continue;
        }
        if statement.is_about(&evidence.requested.digest) {
            found.types.push(statement.predicate_type);
        } else {
            found.other_image = true;
        }
    }
    let has = |kind: &str| found.types.iter().any(|found| found == kind);
    if has(COSIGN_SIGN) {
        return match authority.attestations.iter().find(|kind| !has(kind)) {
            Some(_) => Err(Some(Refusal::NoEvidence("attestation"))),
            None => Ok(()),
        };
    }
    Err(match found.types.first() {
        Some(kind) => Some(Refusal::AttestationOnly(kind.clone())),
        None if found.altered => {
            Some(Refusal::AlteredStatement("the signature does not fit".into()))
        }
        None if found.other_image => Some(Refusal::OtherImage),
        None => None,
    })
}
