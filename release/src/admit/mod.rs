//! `admit`: may this release drive? The one place that answers, on every side of the lane.
//!
//! Pure: everything it knows comes in as arguments, and the same arguments give the same answer
//! on the car, at a desk and in the pipeline. The steps, in order:
//!
//! 1. the policy speaks of the image
//! 2. the bytes are those the digest names
//! 3. an authority vouches: a signature of the image, or a release statement about it
//! 4. the statement allows it: source, kind, platform, order, time
//! 5. the manifest and config are the signed ones, fit each other, and carry the released model
//! 6. the evidence that the policy asks for is named, is what was named, and says enough

mod content;
mod laps;
mod origin;
mod signature;
mod statement;

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::{
    Counter, Digest, PinnedImage, Platform,
    evidence::{Evidence, Question},
    oci::{ImageConfig, ImageManifest},
    policy::Policy,
    refusal::Refusal,
    statement::{Release, ReleaseStatement},
};

pub use statement::{SignedRelease, signed_releases};

/// Permission to drive. Only [`admit`] makes one; starting a container takes nothing else.
#[derive(Clone, Debug)]
pub struct Verified {
    image: PinnedImage,
    platform: Platform,
    manifest: ImageManifest,
    config: ImageConfig,
    config_bytes: Vec<u8>,
    release: Option<Release>,
    statement: Option<Digest>,
    authority: String,
}

impl Verified {
    /// The platform manifest that may run, by digest.
    pub const fn image(&self) -> &PinnedImage {
        &self.image
    }

    /// The platform it is for.
    pub const fn platform(&self) -> Platform {
        self.platform
    }

    /// The manifest.
    pub const fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// The image config.
    pub const fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The image config's exact bytes.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// The release, when it was admitted by its statement.
    pub const fn release(&self) -> Option<&Release> {
        self.release.as_ref()
    }

    /// The release's counter.
    pub fn counter(&self) -> Option<Counter> {
        self.release.as_ref().map(|release| release.counter)
    }

    /// Digest of the bundle that holds the statement.
    pub const fn statement(&self) -> Option<&Digest> {
        self.statement.as_ref()
    }

    /// Who vouched.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// One check: what was looked at, and how it came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable name.
    pub check: &'static str,
    /// Whether it passed.
    pub passed: bool,
    /// What was found.
    pub found: String,
}

/// The answer, with every check that led to it, in order.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The permission, or why there is none.
    pub answer: Result<Verified, Refusal>,
    /// The checks made; the last one failed when it is a refusal.
    pub checks: Vec<Check>,
}

/// The checks so far. Each step notes what it found; a refusal ends the list.
#[derive(Debug, Default)]
struct Notes(Vec<Check>);

impl Notes {
    fn pass(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Check { check, passed: true, found: found.into() });
    }
}

/// A step's outcome: the check it failed, and why.
type Step<T> = Result<T, (&'static str, Refusal)>;

/// Decides whether the image may run here.
pub fn admit(policy: &Policy, question: &Question<'_>, evidence: &Evidence) -> Verdict {
    let mut notes = Notes::default();
    let answer = judge(policy, question, evidence, &mut notes).map_err(|(check, refusal)| {
        notes.0.push(Check { check, passed: false, found: refusal.to_string() });
        refusal
    });
    Verdict { answer, checks: notes.0 }
}

fn judge(
    policy: &Policy,
    question: &Question<'_>,
    evidence: &Evidence,
    notes: &mut Notes,
) -> Step<Verified> {
    if !policy.covers(question.image) {
        return Err(("policy", Refusal::NoPolicy));
    }
    notes.pass("policy", format!("`{}` speaks of {}", policy.name, question.image));

    if Digest::of(&evidence.top) != evidence.requested.digest {
        let want = evidence.requested.digest;
        return Err(("digest", Refusal::Altered { what: "manifest", want }));
    }
    notes.pass("digest", evidence.requested.digest.to_string());

    let Some(rules) = &policy.drive else {
        let authority = signature::vouched(policy, evidence, notes)?;
        let content = content::check(question.platform, evidence, None, notes)?;
        return Ok(content.verified(evidence, question.platform, None, authority));
    };

    let signed = statement::newest(policy, evidence, notes)?;
    let release = &signed.statement.predicate;
    origin::check(rules, question, release, notes)?;
    let content = content::check(question.platform, evidence, Some(release), notes)?;
    laps::check(policy, rules, question, &signed, evidence, notes)?;
    origin::provenance(policy, rules, question, &signed, evidence, notes)?;
    let authority = signed.authority.to_owned();
    Ok(content.verified(
        evidence,
        question.platform,
        Some((signed.statement, signed.bundle)),
        authority,
    ))
}

impl content::Content {
    fn verified(
        self,
        evidence: &Evidence,
        platform: Platform,
        signed: Option<(ReleaseStatement, Digest)>,
        authority: String,
    ) -> Verified {
        let (release, statement) = match signed {
            Some((statement, bundle)) => (Some(statement.predicate), Some(bundle)),
            None => (None, None),
        };
        Verified {
            image: evidence.requested.repository.pin(self.digest),
            platform,
            manifest: self.manifest,
            config: self.config,
            config_bytes: self.config_bytes,
            release,
            statement,
            authority,
        }
    }
}
