//! SLSA provenance v1, as this builder writes it and the admission core reads it.
//!
//! Source: SLSA provenance v1 (predicate type below). The build type is documented in
//! `docs/provenance.md`; its external parameters are complete, and unknown ones are refused
//! where provenance is judged.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, Platform, facts::Conversion, lap::Resource};

/// Predicate type of SLSA provenance v1.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// How this builder builds: base, runtime and model put together as layers, nothing executed.
pub const BUILD_TYPE: &str = "https://pitlane.dev/buildtypes/car-image/v1";
/// How it builds from a Dockerfile: the repository's steps run in a container engine, the model is
/// laid on top. The same inputs need not give the same digests.
pub const DOCKERFILE_BUILD_TYPE: &str = "https://pitlane.dev/buildtypes/dockerfile-car-image/v1";

/// The predicate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// What was built from what.
    pub build_definition: BuildDefinition,
    /// Who built it and when.
    pub run_details: RunDetails,
}

/// What was built from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// [`BUILD_TYPE`] or [`DOCKERFILE_BUILD_TYPE`].
    pub build_type: String,
    /// What a tag decides.
    pub external_parameters: ExternalParameters,
    /// What the operator decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_parameters: Option<InternalParameters>,
    /// Everything that went in, by digest.
    pub resolved_dependencies: Vec<Resource>,
}

/// What a tag decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalParameters {
    /// The source.
    pub source: SourceParameter,
    /// Name of the pipeline file.
    pub pipeline: String,
    /// Path of the model in the source; `file:` and a name when it was given by file.
    pub model: String,
    /// Path of its card, likewise. Absent in older provenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// Platforms built.
    pub platforms: Vec<Platform>,
}

/// The source as SLSA writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceParameter {
    /// `git+…`, or the repository's name where the clone URL is local.
    pub uri: String,
    /// `refs/tags/…`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The repository as policies name it, wherever it was cloned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<crate::RepoName>,
}

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InternalParameters {
    /// Digest of the pipeline file.
    pub pipeline_digest: Digest,
    /// Car kind.
    pub car_kind: crate::CarKind,
    /// How the image was put together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageParameters>,
    /// Platform → how its Dockerfile was built; of [`DOCKERFILE_BUILD_TYPE`] alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dockerfile: BTreeMap<Platform, DockerfileParameters>,
    /// How the model became ONNX, where it was another framework's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
}

/// How a Dockerfile was built for one platform. No secret is in here, only which there were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DockerfileParameters {
    /// The folder of the repository that was sent.
    pub context: String,
    /// The Dockerfile's path in the context.
    pub dockerfile: String,
    /// The stage that was built; the last one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The build arguments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// The ids of the secrets that a step could ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// `none`, or `default` where steps could reach what containers of that engine reach.
    pub network: String,
    /// Whether steps of earlier builds could be taken.
    pub cache: bool,
    /// The engine, by its own word: `Docker Engine 20.10.24`.
    pub engine: String,
    /// Image that the Dockerfile starts or copies from → the id that the engine has for it.
    pub bases: BTreeMap<String, String>,
}

/// How the image was put together: what its bytes depend on beside the dependencies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageParameters {
    /// RFC 3339 time that the images carry: the commit's, or the epoch where nobody was asked.
    pub created: String,
    /// How layers are packed.
    pub layers: LayerParameters,
}

/// How layers are packed. Another word here is another way of packing: its digests differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LayerParameters {
    /// The base's layers.
    pub base: String,
    /// The runtime's layer.
    pub runtime: String,
    /// The model's layer.
    pub model: String,
}

impl LayerParameters {
    /// How this version packs.
    pub fn current() -> Self {
        Self { base: "as-is".into(), runtime: "tar+gzip-9".into(), model: "tar".into() }
    }
}

impl BuildDefinition {
    /// The SHA-256 digest of the dependency with this name.
    pub fn dependency(&self, name: &str) -> Option<Digest> {
        let mut named = self.resolved_dependencies.iter();
        let found = named.find(|dependency| dependency.name.as_deref() == Some(name))?;
        Digest::from_hex(found.digest.get("sha256")?).ok()
    }
}

/// Who built it and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunDetails {
    /// The builder.
    pub builder: Builder,
    /// The run.
    pub metadata: RunMetadata,
}

/// The builder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Builder {
    /// A URI: a trust domain of its own.
    pub id: String,
    /// Component → version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub version: BTreeMap<String, String>,
}

/// The run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunMetadata {
    /// Which run.
    pub invocation_id: String,
    /// When it began.
    #[schemars(with = "String")]
    pub started_on: Timestamp,
    /// When the images were ready.
    #[schemars(with = "String")]
    pub finished_on: Timestamp,
}
