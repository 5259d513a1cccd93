//! `Target`: which scalar of which file names the image, in the formats that people keep.
//!
//! Each kind finds its place in a file that was read; changing it and proving the change is the
//! same for all. A kind gives one scalar, or the documented pair of a digest and the tag beside it.

mod argo;
mod compose;
mod flux;
mod helm;
mod kubernetes;
mod kustomize;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Component, Path, PathBuf},
};

use pitlane_release::{Digest, Repository};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    EditRefusal,
    form::{Pin, Slot},
    yaml::{self, Tree},
};

/// Longest path or selector (bytes): they stand in one line of a commit message.
const MAX_SELECTOR: usize = 512;
/// What a comment begins with that stops automation: behind a scalar for that one, in a line of
/// its own for the file.
pub const PAUSE: &str = "pitlane: pause";

/// A scalar in a file of a GitOps repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum Target {
    /// `digest` (and `newTag`, when there is one) of an entry of a kustomization's `images:`.
    Kustomize {
        /// The kustomization.
        file: PathBuf,
        /// `name` of the entry.
        image: String,
    },
    /// The image of a container in Pods and in what makes Pods.
    Kubernetes {
        /// The manifests; several documents are fine.
        file: PathBuf,
        /// Name of the container or init container.
        container: String,
        /// `KIND/NAME` of the object, when several have such a container.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workload: Option<String>,
    },
    /// Values of a Helm chart: one reference, or `digest` (and `tag`) beside `repository`.
    Helm {
        /// The values.
        file: PathBuf,
        /// Dotted path; `\.` for a dot in a key, a number for an item of a list.
        path: String,
    },
    /// The image of a service in a compose file.
    Compose {
        /// The compose file.
        file: PathBuf,
        /// Name of the service.
        service: String,
    },
    /// An entry of `kustomize.images` in `.argocd-source-APP.yaml` or an Application.
    ArgoImage {
        /// The file.
        file: PathBuf,
        /// The name in front of `=`.
        image: String,
    },
    /// The value of one of `helm.parameters` in `.argocd-source-APP.yaml` or an Application.
    ArgoParameter {
        /// The file.
        file: PathBuf,
        /// Name of the parameter.
        parameter: String,
    },
    /// What is marked `{"$imagepolicy": "NAMESPACE:NAME"}` by a comment, as Flux does.
    Flux {
        /// The file.
        file: PathBuf,
        /// `NAMESPACE:NAME`.
        policy: String,
    },
}

/// What a file says of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The digest, if the file names one.
    pub digest: Option<Digest>,
    /// The scalar as it stands.
    pub text: String,
    /// The comment that pauses it.
    pub paused: Option<String>,
}

/// An edited file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The new text; the old one when nothing had to change.
    pub text: String,
    /// What the scalar was before.
    pub from: String,
}

impl Target {
    /// Its file.
    pub fn file(&self) -> &Path {
        match self {
            Self::Kustomize { file, .. }
            | Self::Kubernetes { file, .. }
            | Self::Helm { file, .. }
            | Self::Compose { file, .. }
            | Self::ArgoImage { file, .. }
            | Self::ArgoParameter { file, .. }
            | Self::Flux { file, .. } => file,
        }
    }

    /// Checks that it stays inside a repository and fits in a line.
    pub fn check(&self) -> Result<(), String> {
        let shown = self.to_string();
        let file = self.file();
        let plain = |part| matches!(part, Component::Normal(name) if name != ".git");
        if file.as_os_str().is_empty() || !file.components().all(plain) {
            return Err(format!("`{}` must be a plain path inside the repository", file.display()));
        }
        if file.to_str().is_none() || shown.chars().any(char::is_control) {
            return Err(format!("`{}` has characters that no line can hold", shown.escape_debug()));
        }
        if shown.len() > MAX_SELECTOR {
            return Err(format!("`{}` is longer than {MAX_SELECTOR} bytes", file.display()));
        }
        Ok(())
    }

    /// Reads what a file says now.
    pub fn look(&self, bytes: &[u8], repository: &Repository) -> Result<Found, EditRefusal> {
        let tree = Tree::read(yaml::text(bytes)?)?;
        let slots = self.slots(&tree, repository)?;
        Ok(found(&tree, &slots))
    }

    /// Makes a file name this image: one scalar, or the documented pair; else it is refused.
    pub fn set(
        &self,
        bytes: &[u8],
        repository: &Repository,
        pin: &Pin,
    ) -> Result<Edited, EditRefusal> {
        let tree = Tree::read(yaml::text(bytes)?)?;
        let slots = self.slots(&tree, repository)?;
        let found = found(&tree, &slots);
        if let Some(comment) = found.paused {
            return Err(EditRefusal::Paused(comment));
        }
        let changes: Result<Vec<_>, _> =
            slots.iter().map(|slot| slot.set(repository, pin)).collect();
        let text = yaml::apply(&tree, &changes?)?;
        Ok(Edited { text, from: found.text })
    }

    /// The scalars that it speaks of; the one with the digest first.
    fn slots<'a>(
        &self,
        tree: &'a Tree<'a>,
        repository: &Repository,
    ) -> Result<Vec<Slot<'a>>, EditRefusal> {
        match self {
            Self::Kustomize { image, .. } => kustomize::slots(tree, image, repository),
            Self::Kubernetes { container, workload, .. } => {
                kubernetes::slots(tree, container, workload.as_deref(), repository)
            }
            Self::Helm { path, .. } => helm::slots(tree, path, repository),
            Self::Compose { service, .. } => compose::slots(tree, service, repository),
            Self::ArgoImage { image, .. } => argo::image(tree, image, repository),
            Self::ArgoParameter { parameter, .. } => argo::parameter(tree, parameter, repository),
            Self::Flux { policy, .. } => flux::slots(tree, policy, repository),
        }
    }
}

/// One line that stands for it, in commit messages and errors.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, selector) = match self {
            Self::Kustomize { image, .. } => ("kustomize", image.clone()),
            Self::Kubernetes { container, workload: None, .. } => ("kubernetes", container.clone()),
            Self::Kubernetes { container, workload: Some(workload), .. } => {
                ("kubernetes", format!("{workload}/{container}"))
            }
            Self::Helm { path, .. } => ("helm", path.clone()),
            Self::Compose { service, .. } => ("compose", service.clone()),
            Self::ArgoImage { image, .. } => ("argo-image", image.clone()),
            Self::ArgoParameter { parameter, .. } => ("argo-parameter", parameter.clone()),
            Self::Flux { policy, .. } => ("flux", policy.clone()),
        };
        write!(f, "{kind} {} {selector}", self.file().display())
    }
}

fn found(tree: &Tree<'_>, slots: &[Slot<'_>]) -> Found {
    let asks = |comment: &&str| comment.starts_with(PAUSE);
    let behind = slots.iter().filter_map(|slot| tree.comment_behind(&slot.at.node.range));
    let paused = behind.chain(tree.comment_lines()).find(asks);
    Found {
        digest: slots.iter().find_map(Slot::current),
        text: slots.first().map(Slot::text).unwrap_or_default(),
        paused: paused.map(|comment| comment.chars().take(200).collect()),
    }
}
