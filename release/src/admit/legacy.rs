//! cosign's `.sig` and `.att` tags, as far as an authority signed them.

use super::{open::Miss, signature::Found};
use crate::{
    Digest,
    evidence::{Evidence, LegacyLayer},
    policy::{Authority, AuthorityRule},
    sigstore::{Expect, LegacyKind, legacy_by_key, legacy_kind, verify_legacy},
    simple::SimpleSigning,
};

/// Takes in what the authority signed in this layer.
pub(super) fn look(
    authority: &Authority,
    layer: &LegacyLayer,
    evidence: &Evidence,
    found: &mut Found,
) {
    let Some(kind) = legacy_kind(layer) else { return };
    let answer = match &authority.rule {
        AuthorityRule::Static { .. } => return,
        AuthorityRule::Key(rule) => match &rule.witness {
            None => match legacy_by_key(layer, &rule.key) {
                Some(payload) => Ok(payload),
                None => Err(Miss::WrongSigner(None)),
            },
            // By the key as the policy has it, with its hash; then by what else must vouch.
            Some(_) if legacy_by_key(layer, &rule.key).is_none() => Err(Miss::WrongSigner(None)),
            Some((witness, root)) => {
                let expect = Expect::Key { key: rule.key.clone(), witness: *witness };
                verify_legacy(layer, &expect, root).map_err(Miss::of)
            }
        },
        AuthorityRule::Keyless(rule) => {
            verify_legacy(layer, &rule.expect, &rule.root).map_err(Miss::of)
        }
    };
    match (answer, kind) {
        (Err(miss), _) => found.missed(miss),
        (Ok(payload), LegacyKind::Attestation) => found.statement(&payload, evidence),
        (Ok(payload), LegacyKind::Signature) => match SimpleSigning::parse(&payload) {
            Ok(simple) => signature(&simple.critical.image.docker_manifest_digest, evidence, found),
            Err(why) => found.missed(Miss::Altered(why)),
        },
    }
}

fn signature(digest: &Digest, evidence: &Evidence, found: &mut Found) {
    match *digest == evidence.requested.digest {
        true => found.signed = true,
        false => found.other_image = true,
    }
}
