//! `Refusal`: why a release may not drive. An answer with a stable code, not an error.

use std::fmt;

use serde::Serialize;

use crate::{Counter, Digest, Floor, Platform};

/// Why a release is refused. The codes are part of the command line's contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The policy does not speak of this image.
    NoPolicy,
    /// The policy refuses everything of this kind.
    Forbidden(String),
    /// Nobody signed it.
    Unsigned,
    /// Somebody signed it, but nobody the policy names.
    WrongSigner,
    /// Somebody the policy names signed it, without what else must vouch for the signature: a
    /// log, a time, a certificate that holds.
    NotProven(Unproven),
    /// There are attestations about it, but no signature of it.
    AttestationOnly(String),
    /// A signed document was changed after signing.
    AlteredStatement(String),
    /// A manifest, config, layer or piece of evidence is not what was signed.
    Altered {
        /// What: manifest, config, layer, evidence.
        what: &'static str,
        /// The digest that was signed.
        want: Digest,
    },
    /// Something that was signed is no usable image.
    Unusable(String),
    /// The statement does not speak of this image.
    OtherImage,
    /// It comes from a repository that the policy does not name.
    WrongSource(String),
    /// It is for another kind of car.
    WrongKind(String),
    /// It has no image for this machine, or that image is for another one.
    WrongPlatform(Platform, String),
    /// It is older than what this car already confirmed.
    Rollback(Counter, Floor),
    /// It expired.
    Expired(String),
    /// It was issued longer ago than the policy allows.
    TooOld(String),
    /// It was issued in the future, or the clock is wrong.
    NotYetValid(String),
    /// Another CI run signed it than the policy asks for.
    WrongWorkflow(String),
    /// Evidence that the policy asks for is not named by the statement.
    NoEvidence(&'static str),
    /// A lap drove another image.
    LapOfAnotherImage,
    /// The laps do not suffice.
    LapFailed(String),
    /// The model in the image is not the one that was released.
    ModelMismatch,
    /// The model does not keep the car's contract.
    ModelContract(String),
    /// The golden frames do not suffice.
    GoldenFrames(String),
    /// The provenance does not fit.
    WrongProvenance(String),
}

/// What a signature lacks, in the words of the bundle's verification
/// ([`BundleRefusal`](crate::sigstore::BundleRefusal)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The stable code.
    pub code: &'static str,
    /// What is wrong.
    pub why: String,
    /// What to do about it.
    pub hint: &'static str,
}

impl Refusal {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoPolicy => "no-policy",
            Self::Forbidden(_) => "forbidden",
            Self::Unsigned => "unsigned",
            Self::WrongSigner => "wrong-signer",
            Self::NotProven(why) => why.code,
            Self::AttestationOnly(_) => "attestation-only",
            Self::AlteredStatement(_) => "altered-statement",
            Self::Altered { what, .. } => match what.as_bytes() {
                b"manifest" => "altered-manifest",
                b"config" => "altered-config",
                b"layer" => "altered-layer",
                _ => "altered-evidence",
            },
            Self::Unusable(_) => "unusable-image",
            Self::OtherImage => "other-image",
            Self::WrongSource(_) => "wrong-source",
            Self::WrongKind(_) => "wrong-kind",
            Self::WrongPlatform(..) => "wrong-platform",
            Self::Rollback(..) => "rollback",
            Self::Expired(_) => "expired",
            Self::TooOld(_) => "too-old",
            Self::NotYetValid(_) => "not-yet-valid",
            Self::WrongWorkflow(_) => "wrong-workflow",
            Self::NoEvidence(what) => match what.as_bytes() {
                b"lap" => "no-lap",
                b"provenance" => "no-provenance",
                b"model contract" => "no-model-contract",
                b"golden frames" => "no-golden-frames",
                _ => "no-attestation",
            },
            Self::LapOfAnotherImage => "lap-of-another-image",
            Self::LapFailed(_) => "lap-failed",
            Self::ModelMismatch => "model-mismatch",
            Self::ModelContract(_) => "model-contract",
            Self::GoldenFrames(_) => "golden-frames",
            Self::WrongProvenance(_) => "wrong-provenance",
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoPolicy => "add the repository to `spec.images` of a policy, or check the name",
            Self::Forbidden(_) => "the operator's policy forbids it; ask them",
            Self::Unsigned => "release it through the pipeline, or sign it with the policy's key",
            Self::WrongSigner => "check that the policy holds the public key of your pipeline",
            Self::NotProven(why) => why.hint,
            Self::AttestationOnly(_) => "sign the image itself; an attestation is no signature",
            Self::AlteredStatement(_) | Self::Altered { .. } => {
                "do not use this registry's copy: it changed after signing; release again"
            }
            Self::Unusable(_) => "release it through the pipeline, which makes usable images",
            Self::OtherImage => "pass the index or platform digest that the release names",
            Self::WrongSource(_) => "add the repository to `drive.sources`, if you trust it",
            Self::WrongKind(_) => "promote a release made for this kind of car",
            Self::WrongPlatform(..) => "add the platform to the pipeline and release again",
            Self::Rollback(..) => {
                "to go back on purpose run `pitlane rollback TAG`: a new statement over the old image"
            }
            Self::Expired(_) | Self::TooOld(_) => {
                "release again, or roll forward with `pitlane rollback TAG`"
            }
            Self::NotYetValid(_) => "check the clocks of the pipeline and of this machine",
            Self::WrongWorkflow(_) => {
                "release by the workflow that `drive.workflow` names, or add yours, if you trust it"
            }
            Self::NoEvidence(what) => match what.as_bytes() {
                b"model contract" | b"golden frames" => {
                    "let `sign.attest` of the pipeline file name `model` and `golden`, and release again"
                }
                _ => "let the pipeline prove the release in the twin as the policy asks",
            },
            Self::LapFailed(_) => {
                "let the pipeline prove the release in the twin as the policy asks"
            }
            Self::LapOfAnotherImage => "prove this very image; laps cannot be lent",
            Self::ModelMismatch => "release again; base, runtime and model must be one build",
            Self::ModelContract(_) => {
                "train a model that this car can run, or widen `drive.model`, if it can"
            }
            Self::GoldenFrames(_) => {
                "release again with the frames and the tolerance that `drive.golden` asks for"
            }
            Self::WrongProvenance(_) => "add the builder to `drive.provenance`, if you trust it",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("no policy speaks of this image"),
            Self::Forbidden(why) if why.is_empty() => f.write_str("the policy forbids this image"),
            Self::Forbidden(why) => write!(f, "the policy forbids this image: {why}"),
            Self::Unsigned => f.write_str("nobody signed it"),
            Self::WrongSigner => f.write_str("it is signed, but by nobody the policy names"),
            Self::NotProven(why) => f.write_str(&why.why),
            Self::AttestationOnly(kind) => {
                write!(f, "there is an attestation ({kind}) but no signature of the image")
            }
            Self::AlteredStatement(why) => write!(f, "a signed statement was altered: {why}"),
            Self::Altered { what, want } => {
                write!(f, "the {what} that was served is not the signed {want}")
            }
            Self::Unusable(why) => write!(f, "it is no usable image: {why}"),
            Self::OtherImage => f.write_str("its release statement speaks of another image"),
            Self::WrongSource(found) => write!(f, "it comes from `{found}`"),
            Self::WrongKind(found) => write!(f, "it is for `{found}` cars"),
            Self::WrongPlatform(want, found) => write!(f, "it has no {want} image ({found})"),
            Self::Rollback(offered, floor) => {
                write!(f, "release {offered} is older than the floor {}", floor.0)
            }
            Self::Expired(when) => write!(f, "it expired at {when}"),
            Self::TooOld(why) => f.write_str(why),
            Self::WrongWorkflow(why) => write!(f, "another CI run signed it: {why}"),
            Self::NotYetValid(when) => write!(f, "it was issued at {when}, in the future"),
            Self::NoEvidence(what) => write!(f, "it comes without the {what} the policy asks for"),
            Self::LapOfAnotherImage => f.write_str("its lap was driven by another image"),
            Self::LapFailed(why) => write!(f, "its laps do not suffice: {why}"),
            Self::ModelMismatch => f.write_str("the model in the image is not the released one"),
            Self::ModelContract(why) => write!(f, "its model is not one for this car: {why}"),
            Self::GoldenFrames(why) => write!(f, "its golden frames do not suffice: {why}"),
            Self::WrongProvenance(why) => write!(f, "its provenance does not fit: {why}"),
        }
    }
}

impl Serialize for Refusal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut object = serializer.serialize_struct("Refusal", 3)?;
        object.serialize_field("code", self.code())?;
        object.serialize_field("message", &self.to_string())?;
        object.serialize_field("hint", self.hint())?;
        object.end()
    }
}
