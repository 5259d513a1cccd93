//! A verdict as a SLSA verification summary attestation, for those who want to rely on a verdict
//! instead of judging again.
//!
//! Source: SLSA v1.0, "Verification Summary Attestation". Unsigned here: who relies on it needs
//! the signature of somebody they trust (`cosign attest`, `pitlane attest`).

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    Digest, ImageRef,
    admit::{Verdict, Verified},
    lap::{LAP, Resource},
    provenance::PROVENANCE,
    statement::{Statement, Subject},
};

/// Predicate type.
pub const VSA: &str = "https://slsa.dev/verification_summary/v1";

/// The predicate.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    verifier: Verifier,
    time_verified: Timestamp,
    resource_uri: String,
    policy: Resource,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    input_attestations: Vec<Resource>,
    verification_result: &'static str,
    verified_levels: Vec<&'static str>,
    slsa_version: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct Verifier {
    id: String,
    version: std::collections::BTreeMap<&'static str, &'static str>,
}

/// What a summary is made from.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// The image as it was asked for.
    pub image: &'a ImageRef,
    /// The digest that was judged: the index or manifest.
    pub digest: Digest,
    /// The policy's file name.
    pub policy: &'a str,
    /// The policy's text.
    pub policy_text: &'a str,
    /// Who judged: a URI.
    pub verifier: &'a str,
    /// When.
    pub now: Timestamp,
}

/// The summary of a verdict. Its subjects are what was asked for and, when it was admitted, the
/// platform manifest that may run.
pub fn summary(judged: &Judged<'_>, verdict: &Verdict) -> Statement<Summary> {
    let name = judged.image.repository.to_string();
    let mut subjects = vec![judged.digest];
    let mut inputs = Vec::new();
    if let Ok(verified) = &verdict.answer {
        subjects.push(verified.image().digest);
        subjects.dedup();
        inputs = attestations(verified, verdict);
    }
    let predicate = Summary {
        verifier: Verifier {
            id: judged.verifier.to_owned(),
            version: [("pitlane-verifier", env!("CARGO_PKG_VERSION"))].into(),
        },
        time_verified: judged.now,
        resource_uri: format!("oci://{}", judged.image),
        policy: Resource {
            uri: Some(judged.policy.to_owned()),
            ..Resource::named("policy", Digest::of(judged.policy_text))
        },
        input_attestations: inputs,
        verification_result: if verdict.answer.is_ok() { "PASSED" } else { "FAILED" },
        verified_levels: levels(verdict),
        slsa_version: "1.0",
    };
    let subjects = subjects.into_iter().map(|digest| Subject::new(Some(name.clone()), digest));
    Statement::new(VSA, subjects.collect(), predicate)
}

/// The attestations that were looked at: the statement, and of what it names the kinds that a
/// check was about.
fn attestations(verified: &Verified, verdict: &Verdict) -> Vec<Resource> {
    let read = |kind: &str| {
        verdict.checks.iter().any(|check| match check.check {
            "lap" => kind == LAP,
            "provenance" => kind == PROVENANCE,
            "evidence" => check.found.starts_with(kind),
            _ => false,
        })
    };
    let statement = verified.statement().map(|digest| Resource::named("release", *digest));
    let named = verified.release().into_iter().flat_map(|release| &release.evidence);
    let named = named.filter(|one| read(&one.predicate_type));
    let named = named.map(|one| Resource::named(&one.predicate_type, one.digest));
    statement.into_iter().chain(named).collect()
}

/// What was checked, in SLSA's words and one of our own. Level 1 is that there is provenance;
/// whether a builder is hosted or hardened (2, 3) is not known here.
fn levels(verdict: &Verdict) -> Vec<&'static str> {
    if verdict.answer.is_err() {
        return vec!["FAILED"];
    }
    let passed =
        |name: &str| verdict.checks.iter().any(|check| check.check == name && check.passed);
    let build = if passed("provenance") { "SLSA_BUILD_LEVEL_1" } else { "SLSA_BUILD_LEVEL_0" };
    let lap = passed("lap").then_some("PITLANE_LAP_PROVEN");
    std::iter::once(build).chain(lap).collect()
}
