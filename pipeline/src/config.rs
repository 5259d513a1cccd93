//! The pipeline file: what to build from which repository, how to prove it, where it goes.
//!
//! It is the operator's, never the car repository's, so that nobody who can tag can change what
//! is asked of a release. Format `pitlane.dev/v1`, kind `Pipeline`; `docs/pipeline-file.md`.
//!
//! # Modules
//! - here and in `sign`: the file's types; `pipeline`: reading one, and what is asked of it
//! - `secret`: files of secrets

mod pipeline;
mod secret;
mod sign;

use std::{collections::BTreeMap, path::PathBuf};

use pitlane_gates::Gates;
pub use pitlane_gitops::Promote;
use pitlane_release::{CarKind, Platform, RepoName, Repository};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::secret::open_to_others;
pub use self::{
    pipeline::Pipeline,
    secret::read_secret,
    sign::{Attest, Sign},
};
use crate::{build::Build, convert::Convert, model::Contract, prove};

/// A pipeline file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineFile {
    /// `pitlane.dev/v1`.
    pub api_version: pitlane_release::model::ApiVersion,
    /// `Pipeline`.
    pub kind: PipelineKind,
    /// Its name.
    pub metadata: Metadata,
    /// What it does.
    pub spec: Spec,
}

/// The word in `kind:`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
pub enum PipelineKind {
    /// A pipeline.
    Pipeline,
}

/// Name of a pipeline.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits and dashes.
    pub name: CarKind,
}

/// What a pipeline does.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The kind of car it releases for.
    pub car_kind: CarKind,
    /// Where releases come from.
    pub source: Source,
    /// The model.
    #[serde(default)]
    pub model: Model,
    /// Platforms to build.
    #[serde(default = "both_platforms")]
    pub platforms: Vec<Platform>,
    /// What every image starts from.
    #[serde(default)]
    pub base: Option<Base>,
    /// Platform → the runtime's binary.
    #[serde(default)]
    pub runtime: BTreeMap<Platform, PathBuf>,
    /// Programs that look at the commit's files, and may stop the release.
    #[serde(default)]
    pub gates: Gates,
    /// A Dockerfile of the repository, instead of `base` and `runtime`.
    #[serde(default)]
    pub build: Option<Build>,
    /// What a candidate must do in the twin; nothing is proven when absent.
    #[serde(default)]
    pub prove: Option<prove::Scenario>,
    /// Limits of the locked-down process that drives it.
    #[serde(default)]
    pub limits: prove::Limits,
    /// Where images go.
    pub registry: Registry,
    /// Who signs.
    pub sign: Sign,
    /// The policy of the cars it is for: the check step admits by it.
    pub policy: PathBuf,
    /// Name → public key file, for keys that the policy only names. When absent, every such key
    /// is this pipeline's own.
    #[serde(default)]
    pub policy_keys: BTreeMap<String, PathBuf>,
    /// Name → `trusted_root.json`, for trusted roots that the policy names; `default` is for a
    /// policy that names none. When absent, those of `sign.keyless`, else the public-good one's.
    #[serde(default)]
    pub policy_trusted_roots: BTreeMap<String, PathBuf>,
    /// The GitOps repository; nothing is promoted when absent.
    #[serde(default)]
    pub promote: Option<Promote>,
}

fn both_platforms() -> Vec<Platform> {
    Platform::ALL.to_vec()
}

/// Where releases come from.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The repository as webhooks name it.
    pub repository: RepoName,
    /// Where it is cloned from: https, ssh, or a path on this machine. Never taken from a
    /// webhook's body.
    pub url: String,
    /// Which tags are releases (`*` and `?`).
    #[serde(default = "all_tags")]
    pub tags: String,
    /// Whether a tag may move after its first release. Off: a moved tag is refused.
    #[serde(default)]
    pub allow_moved_tags: bool,
    /// Whether a new tag takes the place of those that still wait. Off: every tag is released.
    #[serde(default)]
    pub supersede: bool,
    /// Whether GitHub must have verified the signature of the tag; needs the service's `github:`.
    #[serde(default)]
    pub signed_tags: bool,
}

fn all_tags() -> String {
    "v*".into()
}

/// The model in the source.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Model {
    /// Its path in the repository.
    pub path: PathBuf,
    /// Its card's path; the model's with the ending `.yaml` when absent.
    pub card: Option<PathBuf>,
    /// What it must keep to.
    pub contract: Contract,
    /// How it becomes ONNX, when the file is of another framework.
    pub convert: Option<Convert>,
    /// The Git LFS server, `https://…`, where it is not the one beside `source.url`.
    pub lfs_url: Option<String>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            path: "models/pilot.onnx".into(),
            card: None,
            contract: Contract::default(),
            convert: None,
            lfs_url: None,
        }
    }
}

impl Model {
    /// The card's path in the repository.
    pub fn card_path(&self) -> PathBuf {
        self.card.clone().unwrap_or_else(|| self.path.with_extension("yaml"))
    }
}

/// What every image starts from.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Base {
    /// An OCI image layout on this machine with an image per platform.
    pub layout: PathBuf,
}

/// Where images go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// Registry and repository.
    pub repository: Repository,
    /// Whether to speak plain HTTP to it (registries on loopback always are).
    #[serde(default)]
    pub plain_http: bool,
    /// User name for pushes.
    #[serde(default)]
    pub user: Option<String>,
    /// File that holds the password or token for pushes; mode 0600.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}
