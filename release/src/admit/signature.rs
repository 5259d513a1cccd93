//! Step 3 for images that others signed: a signature, or the attestations that a policy names, by
//! an authority of it.

use super::{
    Notes, Step, failed, legacy,
    open::{self, Miss},
};
use crate::{
    bundle::Bundle,
    evidence::Evidence,
    policy::{Authority, AuthorityRule, Policy},
    refusal::Refusal,
    statement::{COSIGN_SIGN, STATEMENT_V1, Statement},
};

/// `_type` of the version before.
const STATEMENT_V0_1: &str = "https://in-toto.io/Statement/v0.1";

type AnyStatement = Statement<serde::de::IgnoredAny>;

/// What an authority signed about an image.
#[derive(Default)]
pub(super) struct Found {
    /// A signature of the image itself.
    pub(super) signed: bool,
    /// Predicate types of statements about it.
    pub(super) types: Vec<String>,
    /// Something of the authority's speaks of another image.
    pub(super) other_image: bool,
    /// The most telling reason why something was not opened.
    pub(super) miss: Option<Miss>,
}

impl Found {
    pub(super) fn missed(&mut self, miss: Miss) {
        self.miss = Some(match self.miss.take() {
            Some(before) => before.max(miss),
            None => miss,
        });
    }

    /// Takes in a statement that the authority signed.
    pub(super) fn statement(&mut self, payload: &[u8], evidence: &Evidence) {
        let Ok(statement) = serde_json::from_slice::<AnyStatement>(payload) else { return };
        // cosign attests with the older version still; its signatures are of version 1.
        let old = statement.kind == STATEMENT_V0_1 && statement.predicate_type != COSIGN_SIGN;
        if statement.kind != STATEMENT_V1 && !old {
            return;
        }
        if !statement.is_about(&evidence.requested.digest) {
            self.other_image = true;
        } else if statement.predicate_type == COSIGN_SIGN {
            self.signed = true;
        } else {
            self.types.push(statement.predicate_type);
        }
    }
}

/// The authority that vouches, by name. Any one suffices (policy-controller's semantics).
pub(super) fn vouched(policy: &Policy, evidence: &Evidence, notes: &mut Notes) -> Step<String> {
    let bundles: Vec<Bundle> =
        evidence.bundles.iter().filter_map(|bytes| Bundle::parse(bytes).ok()).collect();
    let wanted: Vec<String> = policy.authorities.iter().map(wanted).collect();
    let wanted = wanted.join(", or ");
    let mut refusal = match bundles.is_empty() && evidence.legacy.is_empty() {
        true => Refusal::Unsigned,
        false => Refusal::WrongSigner,
    };
    for authority in &policy.authorities {
        match &authority.rule {
            AuthorityRule::Static { pass: true, .. } => {
                let found = format!("`{}` passes everything", authority.name);
                notes.pass("signature", wanted, found);
                return Ok(authority.name.clone());
            }
            AuthorityRule::Static { pass: false, message } => {
                refusal = Refusal::Forbidden(message.clone());
            }
            AuthorityRule::Key(_) | AuthorityRule::Keyless(_) => {
                let found = look(authority, &bundles, evidence);
                match suffices(authority, &found) {
                    Ok(what) => {
                        let found = format!("{what} by `{}`{}", authority.name, key(authority));
                        notes.pass("signature", wanted, found);
                        return Ok(authority.name.clone());
                    }
                    Err(Some(why)) => refusal = why,
                    Err(None) => {}
                }
            }
        }
    }
    Err(failed("signature", wanted, refusal))
}

/// Everything that the authority signed, in every form that counts.
fn look(authority: &Authority, bundles: &[Bundle], evidence: &Evidence) -> Found {
    let mut found = Found::default();
    if authority.formats.bundles() {
        for bundle in bundles {
            match open::by(authority, bundle) {
                Ok((payload, _)) => found.statement(&payload, evidence),
                Err(miss) => found.missed(miss),
            }
        }
    }
    if authority.formats.legacy() {
        for layer in &evidence.legacy {
            legacy::look(authority, layer, evidence, &mut found);
        }
    }
    found
}

/// What was found to suffice. `Err(None)`: the authority has nothing to do with the image.
fn suffices(authority: &Authority, found: &Found) -> Result<String, Option<Refusal>> {
    let has = |kind: &String| found.types.contains(kind);
    if !authority.attestations.is_empty() {
        match authority.attestations.iter().find(|kind| !has(kind)) {
            None => return Ok(format!("attested ({})", authority.attestations.join(", "))),
            Some(_) if found.signed || !found.types.is_empty() => {
                return Err(Some(Refusal::NoEvidence("attestation")));
            }
            Some(_) => {}
        }
    } else if found.signed {
        return Ok("signed".into());
    } else if let Some(kind) = found.types.first() {
        return Err(Some(Refusal::AttestationOnly(kind.clone())));
    }
    Err(match &found.miss {
        Some(Miss::Junk | Miss::WrongSigner(_)) | None if found.other_image => {
            Some(Refusal::OtherImage)
        }
        // A stranger's signature beside others' says nothing about this authority, unless a
        // certificate says whose it is.
        Some(Miss::WrongSigner(None) | Miss::Junk) | None => None,
        Some(miss) => miss.clone().refusal(),
    })
}

fn wanted(authority: &Authority) -> String {
    match &authority.rule {
        AuthorityRule::Static { .. } => format!("nothing (`{}` is static)", authority.name),
        _ if authority.attestations.is_empty() => format!("a signature by `{}`", authority.name),
        _ => format!("attestations {} by `{}`", authority.attestations.join(", "), authority.name),
    }
}

fn key(authority: &Authority) -> String {
    match &authority.rule {
        AuthorityRule::Key(rule) => format!(" with key {}", rule.key.id()),
        _ => String::new(),
    }
}
