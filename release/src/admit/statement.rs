//! Step 3 for releases: the newest release statement of an authority about this image.

use super::{
    Notes, Step, failed,
    open::{self, Miss},
};
use crate::{
    Digest,
    bundle::Bundle,
    evidence::Evidence,
    policy::Policy,
    refusal::Refusal,
    sigstore::Workflow,
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
    /// The CI run that signed it, when its certificate speaks of one.
    pub workflow: Option<Workflow>,
}

/// Release statements among these bundles that an authority of the policy signed: what the
/// gathering side follows, so that nobody else's statement makes it fetch anything.
pub fn signed_releases<'a>(policy: &'a Policy, bundles: &[Vec<u8>]) -> Vec<SignedRelease<'a>> {
    bundles.iter().filter_map(|bytes| open(policy, bytes).ok()).collect()
}

/// Why a bundle gives no release statement.
#[derive(Debug)]
enum NoRelease {
    Missed(Miss),
    OtherType(String),
}

fn open<'a>(policy: &'a Policy, bytes: &[u8]) -> Result<SignedRelease<'a>, NoRelease> {
    let opened = match open::open(&policy.authorities, bytes) {
        Ok(opened) => opened,
        // A bundle of a stranger that is no release statement says nothing about this one.
        Err(Miss::WrongSigner(_)) if !claims_release(bytes) => {
            return Err(NoRelease::Missed(Miss::Junk));
        }
        Err(miss) => return Err(NoRelease::Missed(miss)),
    };
    match ReleaseStatement::read(&opened.payload) {
        Ok(statement) => Ok(SignedRelease {
            authority: &opened.authority.name,
            statement,
            bundle: Digest::of(bytes),
            workflow: opened.workflow,
        }),
        Err(StatementError::Type { found, .. }) => Err(NoRelease::OtherType(found)),
        Err(other) => Err(NoRelease::Missed(Miss::Altered(other.to_string()))),
    }
}

/// Whether the bundle says that it holds a release statement, or nothing that can be read.
fn claims_release(bytes: &[u8]) -> bool {
    let Ok(bundle) = Bundle::parse(bytes) else { return false };
    let theirs: Result<Statement<serde::de::IgnoredAny>, _> =
        serde_json::from_slice(bundle.untrusted_payload());
    theirs.map_or(true, |theirs| theirs.predicate_type == RELEASE)
}

/// The newest one that speaks of the requested image.
pub(super) fn newest<'a>(
    policy: &'a Policy,
    evidence: &Evidence,
    notes: &mut Notes,
) -> Step<SignedRelease<'a>> {
    let mut best: Option<SignedRelease<'a>> = None;
    let mut miss = Miss::Junk;
    let mut other_type = None;
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
            Err(NoRelease::OtherType(kind)) => other_type = Some(kind),
            Err(NoRelease::Missed(why)) => miss = miss.max(why),
        }
    }
    let wanted = wanted(policy);
    if let Some(signed) = best {
        let release = &signed.statement.predicate;
        let found = format!(
            "release {} ({} of {}) signed by `{}`",
            release.counter, release.source.tag, release.source.repository, signed.authority
        );
        notes.pass("statement", wanted, found);
        return Ok(signed);
    }
    let refusal = match (miss, other_type) {
        _ if other_image => Refusal::OtherImage,
        (Miss::Junk | Miss::WrongSigner(_), Some(kind)) if kind != COSIGN_SIGN => {
            Refusal::AttestationOnly(kind)
        }
        (Miss::Junk | Miss::WrongSigner(_), Some(_)) => Refusal::Unsigned,
        (miss, _) => miss.refusal().unwrap_or(Refusal::Unsigned),
    };
    Err(failed("statement", wanted, refusal))
}

fn wanted(policy: &Policy) -> String {
    let names: Vec<String> =
        policy.authorities.iter().map(|authority| format!("`{}`", authority.name)).collect();
    format!("a release statement about this image by {}", names.join(" or "))
}
