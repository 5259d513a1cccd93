//! `Origin`: what an image is made of beside the model, for provenance and SBOM.

use pitlane_release::{Digest, provenance::DockerfileParameters};
use serde::{Deserialize, Serialize};

use super::{crates::Crate, parts::Part};

/// What an image is made of beside the model.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    /// Base and runtime, put together here.
    Parts(Parts),
    /// A Dockerfile, built by an engine.
    Dockerfile {
        /// What is known of it.
        dockerfile: Box<FromDockerfile>,
    },
}

/// Base and runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parts {
    /// Digest of the base's manifest.
    pub base: Digest,
    /// Digest of the runtime binary.
    pub runtime: Digest,
    /// What the base is made of; empty for a base that does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_parts: Vec<Part>,
    /// What the runtime is made of; empty for a binary that does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crates: Vec<Crate>,
}

/// What is known of an image that an engine built.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FromDockerfile {
    /// Digest of the Dockerfile.
    pub dockerfile: Digest,
    /// Digest of the context's archive: the same files give the same.
    pub context: Digest,
    /// How it was built.
    pub parameters: DockerfileParameters,
    /// The runtime in it, at `/usr/bin/pitlane-car`; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Program>,
    /// The distribution, by `os-release` in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
    /// The packages that dpkg has installed in it, by its own list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Package>,
}

/// A program in an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// Digest of the file.
    pub digest: Digest,
    /// Whether the pipeline put it there, and not the Dockerfile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub laid: bool,
    /// What it is made of; empty for a binary that does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crates: Vec<Crate>,
}

/// A distribution, by os-release(5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// `ID`, such as `ubuntu`.
    pub id: String,
    /// `VERSION_ID`, such as `22.04`.
    pub version: String,
}

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub arch: String,
}
