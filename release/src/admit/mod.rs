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
mod legacy;
mod model;
mod open;
mod origin;
mod signature;
mod statement;

#[cfg(test)]
mod tests;

use crate::{
    Counter, Digest, PinnedImage, Platform,
    evidence::{Evidence, Question},
    golden::GoldenFrames,
    oci::{ImageConfig, ImageManifest},
    policy::{DriveRules, Mode, Policy},
    refusal::Refusal,
    statement::{Release, ReleaseStatement},
};

pub use crate::check::Check;
pub use open::signed_payload;
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
    golden: Option<GoldenFrames>,
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

    /// The answers that this machine must reproduce before it drives, when the policy asks for them.
    pub const fn golden(&self) -> Option<&GoldenFrames> {
        self.golden.as_ref()
    }

    /// Who vouched.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// The answer, with every check that led to it, in order.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The permission, or why there is none.
    pub answer: Result<Verified, Refusal>,
    /// The checks made; the last one failed when it is a refusal.
    pub checks: Vec<Check>,
    /// What the policy says follows from a refusal. It never makes a permission of one.
    pub mode: Mode,
}

impl Verdict {
    /// Whether a lab or a cluster lets the image run: it is admitted, or the policy speaks of it
    /// and only warns, and the image is at least the bytes that its digest names. A car asks for
    /// [`Verified`].
    pub fn allowed(&self) -> bool {
        match &self.answer {
            Ok(_) => true,
            Err(
                Refusal::NoPolicy
                | Refusal::Altered { .. }
                | Refusal::Unusable(_)
                | Refusal::WrongPlatform(..),
            ) => false,
            Err(_) => self.mode == Mode::Warn,
        }
    }
}

/// The checks so far. Each step notes what it found; a refusal ends the list.
#[derive(Debug, Default)]
struct Notes(Vec<Check>);

impl Notes {
    fn pass(&mut self, check: &'static str, wanted: impl Into<String>, found: impl Into<String>) {
        self.0.push(Check::passed(check, found).wanting(wanted));
    }
}

/// The check that failed, what it wanted, and why.
struct Failed(&'static str, String, Refusal);

fn failed(check: &'static str, wanted: impl Into<String>, refusal: Refusal) -> Failed {
    Failed(check, wanted.into(), refusal)
}

/// A step's outcome.
type Step<T> = Result<T, Failed>;

/// What step 6 looks at: the release that an authority signed, and everything beside it.
struct Case<'a> {
    policy: &'a Policy,
    rules: &'a DriveRules,
    question: &'a Question<'a>,
    signed: &'a SignedRelease<'a>,
    evidence: &'a Evidence,
}

impl Case<'_> {
    const fn release(&self) -> &Release {
        &self.signed.statement.predicate
    }

    /// The manifest that shall run, by the release's word.
    fn manifest(&self) -> Option<&Digest> {
        self.release().platforms.get(&self.question.platform)
    }
}

/// Decides whether the image may run here.
pub fn admit(policy: &Policy, question: &Question<'_>, evidence: &Evidence) -> Verdict {
    let mut notes = Notes::default();
    let answer =
        judge(policy, question, evidence, &mut notes).map_err(|failed| match policy.mode {
            // Who only warns still lets nothing run but the bytes that were named.
            Mode::Warn if !matches!(failed.2, Refusal::NoPolicy) => {
                let bytes =
                    content::check(question.platform, evidence, None, &mut Notes::default());
                bytes.err().unwrap_or(failed)
            }
            Mode::Warn | Mode::Enforce => failed,
        });
    let answer = answer.map_err(|Failed(check, wanted, refusal)| {
        let failed = Check::failed(check, refusal.to_string()).hinting(refusal.hint());
        notes.0.push(failed.wanting(wanted));
        refusal
    });
    Verdict { answer, checks: notes.0, mode: policy.mode }
}

fn judge(
    policy: &Policy,
    question: &Question<'_>,
    evidence: &Evidence,
    notes: &mut Notes,
) -> Step<Verified> {
    if !policy.covers(question.image) {
        let globs: Vec<String> = policy.images.iter().map(ToString::to_string).collect();
        return Err(failed("policy", globs.join(" or "), Refusal::NoPolicy));
    }
    let found = format!("`{}` speaks of {}", policy.name, question.image);
    notes.pass("policy", "a policy that speaks of the image", found);

    let want = evidence.requested.digest;
    if Digest::of(&evidence.top) != want {
        let refusal = Refusal::Altered { what: "manifest", want };
        return Err(failed("digest", want.to_string(), refusal));
    }
    notes.pass("digest", "the bytes that the digest names", want.to_string());

    let Some(rules) = &policy.drive else {
        let authority = signature::vouched(policy, evidence, notes)?;
        let content = content::check(question.platform, evidence, None, notes)?;
        return Ok(content.verified(evidence, question.platform, None, authority));
    };

    let signed = statement::newest(policy, evidence, notes)?;
    let release = &signed.statement.predicate;
    origin::check(rules, question, release, notes)?;
    origin::workflow(rules, &signed, notes)?;
    let content = content::check(question.platform, evidence, Some(release), notes)?;
    let case = Case { policy, rules, question, signed: &signed, evidence };
    laps::check(&case, notes)?;
    origin::provenance(&case, notes)?;
    model::contract(&case, notes)?;
    let golden = model::golden(&case, notes)?;
    laps::further(&case, notes)?;
    let authority = signed.authority.to_owned();
    let signed = Some((signed.statement, signed.bundle));
    let verified = content.verified(evidence, question.platform, signed, authority);
    Ok(Verified { golden, ..verified })
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
            golden: None,
        }
    }
}
