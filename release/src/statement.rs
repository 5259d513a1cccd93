//! in-toto statements, and the one that makes a release: the release statement.
//!
//! Sources: in-toto Statement v1; the predicate is Pitlane's (`docs/release-statement.md`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{CarKind, Commit, Counter, Digest, Platform, ReleaseTag, RepoName};

/// Payload type of every in-toto statement in an envelope.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// `_type` of a statement.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
/// Predicate type of the release statement.
pub const RELEASE: &str = "https://pitlane.dev/release/v1";
/// Predicate type of cosign's image signatures in bundles.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// Most subjects or pieces of evidence one statement may name.
const MAX_ITEMS: usize = 64;

/// An in-toto statement whose predicate is `P`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement<P> {
    /// Always [`STATEMENT_V1`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// What it speaks of.
    pub subject: Vec<Subject>,
    /// What kind of thing it says.
    pub predicate_type: String,
    /// What it says.
    pub predicate: P,
}

/// One thing a statement speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// A name for people; nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Algorithm → hexadecimal digest; `sha256` is the one used.
    pub digest: BTreeMap<String, String>,
}

impl Subject {
    /// The subject with this digest.
    pub fn new(name: Option<String>, digest: Digest) -> Self {
        Self { name, digest: BTreeMap::from([("sha256".to_owned(), digest.hex())]) }
    }

    /// Its SHA-256 digest. A subject that names other algorithms only matches nothing.
    pub fn sha256(&self) -> Option<Digest> {
        self.digest.get("sha256").and_then(|hex| Digest::from_hex(hex).ok())
    }
}

/// Why a payload is not the wanted statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not JSON of that shape.
    #[error("not a statement: {0}")]
    Format(String),
    /// Another type of statement.
    #[error("the predicate type is `{found}`, want `{want}`")]
    Type {
        /// The type found.
        found: String,
        /// The type wanted.
        want: String,
    },
    /// The parts contradict each other.
    #[error("the release statement contradicts itself: {0}")]
    Inconsistent(String),
}

impl<P> Statement<P> {
    /// A statement of this type about these subjects.
    pub fn new(predicate_type: &str, subject: Vec<Subject>, predicate: P) -> Self {
        Self {
            kind: STATEMENT_V1.into(),
            subject,
            predicate_type: predicate_type.into(),
            predicate,
        }
    }

    /// Whether it speaks of this digest.
    pub fn is_about(&self, digest: &Digest) -> bool {
        self.subject.iter().any(|subject| subject.sha256().as_ref() == Some(digest))
    }
}

impl<P: DeserializeOwned> Statement<P> {
    /// Reads a payload that must be a statement of this predicate type.
    pub fn parse(payload: &[u8], predicate_type: &str) -> Result<Self, StatementError> {
        let format = |error: serde_json::Error| StatementError::Format(error.to_string());
        // The type is looked at first, so that a statement of another kind is named as such
        // and not as a malformed one of this kind.
        let any: Statement<serde::de::IgnoredAny> =
            serde_json::from_slice(payload).map_err(format)?;
        if any.kind != STATEMENT_V1 {
            return Err(StatementError::Format(format!("_type is `{}`", any.kind)));
        }
        if any.predicate_type != predicate_type {
            let want = predicate_type.to_owned();
            return Err(StatementError::Type { found: any.predicate_type, want });
        }
        if any.subject.len() > MAX_ITEMS {
            return Err(StatementError::Format(format!("more than {MAX_ITEMS} subjects")));
        }
        serde_json::from_slice(payload).map_err(format)
    }
}

/// The predicate of a release statement: everything a car must know to hold a release to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// The kind of car it is for.
    pub car_kind: CarKind,
    /// Where it comes from.
    pub source: Source,
    /// Its place in the order of releases of this kind and source.
    pub counter: Counter,
    /// Digest of the pipeline file that made it.
    pub pipeline: Digest,
    /// The model in it.
    pub model: Model,
    /// The index that ties the platforms together.
    pub index: Digest,
    /// Platform → its image manifest.
    pub platforms: BTreeMap<Platform, Digest>,
    /// The evidence that goes with it; nothing else is looked at.
    pub evidence: Vec<EvidenceRef>,
    /// When it was issued.
    #[schemars(with = "String")]
    pub issued_at: Timestamp,
    /// After this no car admits it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    /// The counter of the release it rolls back to, when it is a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_to: Option<Counter>,
}

/// The source of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The repository.
    pub repository: RepoName,
    /// The tag.
    pub tag: ReleaseTag,
    /// The commit the tag was peeled to.
    pub commit: Commit,
}

/// The model of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// Digest of the model file itself.
    pub digest: Digest,
    /// Digest of the layer blob it travels in, the same for every platform.
    pub layer: Digest,
}

/// One piece of evidence by digest: a bundle, stored as a blob beside the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceRef {
    /// The predicate type of the statement in it.
    pub predicate_type: String,
    /// Digest of the bundle's bytes.
    pub digest: Digest,
    /// Length of the bundle in bytes.
    pub size: u64,
}

/// A whole release statement.
pub type ReleaseStatement = Statement<Release>;

impl ReleaseStatement {
    /// The statement of this release; its subjects are the index and the platform manifests.
    pub fn of(release: Release, name: &str) -> Self {
        let subject = std::iter::once(&release.index)
            .chain(release.platforms.values())
            .map(|digest| Subject::new(Some(name.to_owned()), *digest))
            .collect();
        Self::new(RELEASE, subject, release)
    }

    /// Reads a release statement and checks that its parts agree.
    pub fn read(payload: &[u8]) -> Result<Self, StatementError> {
        let statement = Self::parse(payload, RELEASE)?;
        let release = &statement.predicate;
        let fail = |why: &str| Err(StatementError::Inconsistent(why.to_owned()));
        if release.platforms.is_empty() {
            return fail("it names no platform");
        }
        if release.evidence.len() > MAX_ITEMS {
            return fail("it names too much evidence");
        }
        for digest in std::iter::once(&release.index).chain(release.platforms.values()) {
            if !statement.is_about(digest) {
                return fail("the index or a platform manifest is not among its subjects");
            }
        }
        if statement.subject.len() != release.platforms.len() + 1 {
            return fail("it has subjects that are neither the index nor a platform manifest");
        }
        if release.expires_at.is_some_and(|end| end <= release.issued_at) {
            return fail("it expires before it was issued");
        }
        Ok(statement)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn release() -> Release {
        Release {
            car_kind: "donkeycar".parse().unwrap(),
            source: Source {
                repository: "team/donkeycar".parse().unwrap(),
                tag: "v1.0.0".parse().unwrap(),
                commit: "1".repeat(40).parse().unwrap(),
            },
            counter: Counter::new(7).unwrap(),
            pipeline: Digest::of("pipeline"),
            model: Model { digest: Digest::of("model"), layer: Digest::of("layer") },
            index: Digest::of("index"),
            platforms: BTreeMap::from([
                (Platform::LinuxAmd64, Digest::of("amd64")),
                (Platform::LinuxArm64, Digest::of("arm64")),
            ]),
            evidence: vec![],
            issued_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            expires_at: None,
            rollback_to: None,
        }
    }

    #[test]
    fn round_trip() {
        let statement = ReleaseStatement::of(release(), "r.example/car");
        let bytes = serde_json::to_vec(&statement).unwrap();
        assert_eq!(ReleaseStatement::read(&bytes).unwrap(), statement);
    }

    #[test]
    fn contradictions_are_refused() {
        type Edit = fn(&mut serde_json::Value);
        let table: [(&str, Edit); 9] = [
            ("no platform", |v| v["predicate"]["platforms"] = serde_json::json!({})),
            ("not among", |v| v["subject"].as_array_mut().unwrap().truncate(1)),
            ("neither the index", |v| {
                let first = v["subject"][0].clone();
                v["subject"].as_array_mut().unwrap().push(first);
            }),
            ("expires before", |v| v["predicate"]["expiresAt"] = "2020-01-01T00:00:00Z".into()),
            ("unknown field", |v| v["predicate"]["extra"] = 1.into()),
            ("not a statement", |v| v["predicate"]["counter"] = 0.into()),
            ("not a statement", |v| v["predicate"]["counter"] = (1u64 << 60).into()),
            ("predicate type", |v| v["predicateType"] = COSIGN_SIGN.into()),
            ("_type", |v| v["_type"] = "https://in-toto.io/Statement/v0.1".into()),
        ];
        for (want, edit) in table {
            let statement = ReleaseStatement::of(release(), "r.example/car");
            let mut value = serde_json::to_value(&statement).unwrap();
            edit(&mut value);
            let error = ReleaseStatement::read(value.to_string().as_bytes()).unwrap_err();
            assert!(error.to_string().contains(want), "{want}: {error}");
        }
    }
}
