//! Step 3 for releases: the newest release statement of an authority about this image.

use super::{Notes, Step};
use crate::{
    Digest,
    bundle::{Bundle, Signed},
    evidence::Evidence,
    policy::{AuthorityRule, Policy},
    refusal::Refusal,
    statement::{COSIGN_SIGN, RELEASE, ReleaseStatement, Statement, StatementError},
};

/// A release statement with the proof that an authority signed it.
#[derive(Debug)]
pub struct SignedRelease<'a> {
    /// The authority's name.
    pub authority: &'a str,
    /// The statement.
    pub statement: ReleaseStatement,
    /// Digest of the bundle.
    pub bundle: Digest,
}

/// Release statements among these bundles that an authority of the policy signed: what the
/// gathering side follows, so that nobody else's statement makes it fetch anything.
pub fn signed_releases<'a>(policy: &'a Policy, bundles: &[Vec<u8>]) -> Vec<SignedRelease<'a>> {
    bundles.iter().filter_map(|bytes| open(policy, bytes).ok()).collect()
}

/// Why a bundle gives no release statement, from the least to the most telling.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    Junk,
    WrongSigner,
    OtherType(String),
    Altered(String),
}

fn open<'a>(policy: &'a Policy, bytes: &[u8]) -> Result<SignedRelease<'a>, Miss> {
    let bundle = Bundle::parse(bytes).map_err(|_| Miss::Junk)?;
    let keyed = policy.authorities.iter().filter_map(|authority| match &authority.rule {
        AuthorityRule::Key(key) => Some((authority.name.as_str(), key)),
        AuthorityRule::Static { .. } => None,
    });
    let mut miss = Miss::WrongSigner;
    for (authority, key) in keyed {
        match bundle.verify([key]) {
            Signed::By(_, payload) => {
                return match ReleaseStatement::read(payload) {
                    Ok(statement) => {
                        Ok(SignedRelease { authority, statement, bundle: Digest::of(bytes) })
                    }
                    Err(StatementError::Type { found, .. }) => Err(Miss::OtherType(found)),
                    Err(other) => Err(Miss::Altered(other.to_string())),
                };
            }
            Signed::Altered => miss = Miss::Altered("the signature does not fit".into()),
            Signed::ByNobodyKnown => {}
        }
    }
    // A bundle of a stranger that is no release statement at all says nothing about this one.
    let theirs: Result<Statement<serde::de::IgnoredAny>, _> =
        serde_json::from_slice(bundle.untrusted_payload());
    match theirs {
        Ok(theirs) if theirs.predicate_type != RELEASE && miss == Miss::WrongSigner => {
            Err(Miss::Junk)
        }
        _ => Err(miss),
    }
}

/// The newest one that speaks of the requested image.
pub(super) fn newest<'a>(
    policy: &'a Policy,
    evidence: &Evidence,
    notes: &mut Notes,
) -> Step<SignedRelease<'a>> {
    let mut best: Option<SignedRelease<'a>> = None;
    let mut miss = Miss::Junk;
    let mut other_image = false;
    for bytes in evidence.statements.iter().chain(&evidence.bundles) {
        match open(policy, bytes) {
            Ok(signed) if !signed.statement.is_about(&evidence.requested.digest) => {
                other_image = true;
            }
            Ok(signed) => {
                let counter = signed.statement.predicate.counter;
                if best.as_ref().is_none_or(|b| b.statement.predicate.counter < counter) {
                    best = Some(signed);
                }
            }
            Err(why) => miss = miss.max(why),
        }
    }
    if let Some(signed) = best {
        let release = &signed.statement.predicate;
        notes.pass(
            "statement",
            format!(
                "release {} ({} of {}) signed by `{}`",
                release.counter, release.source.tag, release.source.repository, signed.authority
            ),
        );
        return Ok(signed);
    }
    let refusal = match miss {
        _ if other_image => Refusal::OtherImage,
        Miss::Altered(why) => Refusal::AlteredStatement(why),
        Miss::OtherType(kind) if kind != COSIGN_SIGN => Refusal::AttestationOnly(kind),
        Miss::OtherType(_) | Miss::Junk => Refusal::Unsigned,
        Miss::WrongSigner => Refusal::WrongSigner,
    };
    Err(("statement", refusal))
}
