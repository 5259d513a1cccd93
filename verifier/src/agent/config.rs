//! The car's configuration: what to watch, by whose policy, and what a release may use.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use pitlane_fetch::Names;
use pitlane_release::{model::ApiVersion, yaml};
use schemars::JsonSchema;
use serde::Deserialize;

use super::report::ReportTo;
use crate::device::profile::CarProfile;

/// Largest configuration read (bytes).
const MAX_FILE: usize = 256 * 1024;

/// A car's configuration. Format `pitlane.dev/v1`, kind `Car`; `docs/car.md`. Paths are relative
/// to the file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CarFile {
    /// `pitlane.dev/v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    /// `Car`.
    pub kind: CarWord,
    /// Where the car keeps blobs, slots and its floor.
    #[serde(default = "default_state")]
    pub state: PathBuf,
    /// Where containers are unpacked and their records kept; forgotten at boot.
    #[serde(default = "default_run")]
    pub run: PathBuf,
    /// The GitOps repository.
    pub gitops: GitOps,
    /// What this car drives.
    pub policy: PathBuf,
    /// Public keys that the policy only names.
    #[serde(default)]
    pub keys: std::collections::BTreeMap<String, PathBuf>,
    /// Trusted roots (`trusted_root.json`) that the policy names; the one named `default` is for
    /// policies that name none. The public-good instance's is built in.
    #[serde(default)]
    pub trusted_roots: std::collections::BTreeMap<String, PathBuf>,
    /// Registries (`host:port`) to speak plain HTTP to; those on loopback always are.
    #[serde(default)]
    pub plain_http: Vec<String>,
    /// How long a new release must drive before it is confirmed, in seconds.
    #[serde(default = "default_healthy")]
    pub healthy_seconds: u64,
    /// How long it may take until it drives, in seconds.
    #[serde(default = "default_patience")]
    pub start_seconds: u64,
    /// The container runtime; the first usable of crun and runc when absent.
    #[serde(default)]
    pub runtime: Option<PathBuf>,
    /// What a release may use of this car.
    #[serde(default)]
    pub profile: CarProfile,
    /// The pipeline's service that is told how releases stand on this car; nobody when absent.
    #[serde(default)]
    pub report: Option<ReportTo>,
}

/// The word in `kind:`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub enum CarWord {
    /// A car.
    Car,
}

/// The GitOps repository as the car sees it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitOps {
    /// Where it is fetched from.
    pub url: String,
    /// The branch.
    #[serde(default = "main_branch")]
    pub branch: String,
    /// The kustomization.
    pub file: PathBuf,
    /// `name` of the entry of `images:` that this car drives.
    pub image: String,
    /// Seconds between looks.
    #[serde(default = "default_interval")]
    pub interval_seconds: u64,
}

fn default_state() -> PathBuf {
    "/var/lib/pitlane".into()
}
fn default_run() -> PathBuf {
    "/run/pitlane".into()
}
const fn default_healthy() -> u64 {
    30
}
const fn default_patience() -> u64 {
    60
}
const fn default_interval() -> u64 {
    15
}
fn main_branch() -> String {
    "main".into()
}

impl CarFile {
    /// Reads a car's configuration.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let text =
            std::fs::read_to_string(file).with_context(|| format!("{shown}: cannot be read"))?;
        let mut parsed: Self = yaml::read(&text, MAX_FILE)
            .with_context(|| format!("{shown}: not a car's configuration (docs/car.md)"))?;
        parsed.profile.check().with_context(|| shown.to_string())?;
        pitlane_fetch::git::check_url(&parsed.gitops.url)
            .map_err(|why| anyhow::anyhow!("{shown}: field `gitops.url`: {why}"))?;
        let dir = std::path::absolute(file)?;
        let dir = dir.parent().unwrap_or(Path::new("/"));
        let own = [&mut parsed.state, &mut parsed.run, &mut parsed.policy];
        let named = parsed.keys.values_mut().chain(parsed.trusted_roots.values_mut());
        let report = parsed.report.iter_mut();
        let report =
            report.flat_map(|to| std::iter::once(&mut to.token_file).chain(&mut to.ca_file));
        own.into_iter().chain(named).chain(report).for_each(|path| *path = dir.join(&*path));
        Ok(parsed)
    }

    /// The keys and trusted roots, for reading the policy.
    pub fn names(&self) -> Names {
        let mut names = Names::default();
        for (name, file) in &self.keys {
            names.named_key(name, file);
        }
        names.roots_by_name(&self.trusted_roots);
        names
    }

    /// How long a new release must drive.
    pub const fn healthy(&self) -> Duration {
        Duration::from_secs(self.healthy_seconds)
    }

    /// How long it may take until it drives.
    pub const fn patience(&self) -> Duration {
        Duration::from_secs(self.start_seconds)
    }
}
