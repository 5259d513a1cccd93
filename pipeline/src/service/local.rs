//! Releases of models that lie on the service's machine: for trainers that run beside it.
//!
//! The run goes through the same journal and steps as one of a push; only the checkout is
//! replaced by the files. Off unless the service's configuration says `localModels: true`,
//! because the commit is then taken on the operator's word.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use axum::http::StatusCode;
use pitlane_release::{Commit, ReleaseTag};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{reply::Refused, route::Route, store::LocalRelease};
use crate::lane::LocalModel;

/// Body of `POST /releases`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Name of the pipeline.
    pub pipeline: String,
    /// The release's tag; no run may have it.
    pub tag: String,
    /// The model, an absolute path on the service's machine.
    pub model: PathBuf,
    /// Its card. When absent: beside the model, with the ending `.yaml`; without a `commit`
    /// here it is the one in the source repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<PathBuf>,
    /// The commit that it was made from. When absent the tag must be in the source repository,
    /// and its commit is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Which pipelines take models from files: none by default.
#[derive(Clone, Debug, Default)]
pub struct LocalModels {
    pipelines: BTreeMap<String, Route>,
}

impl LocalModels {
    /// Every pipeline of these routes.
    pub fn of(routes: &[Route]) -> Self {
        let named = routes.iter().map(|route| (route.pipeline.clone(), route.clone()));
        Self { pipelines: named.collect() }
    }

    /// What a request asks for, or why it is refused.
    pub(super) fn check(&self, request: ReleaseRequest) -> Result<LocalRelease, Refused> {
        let bad = |code: &str, message: String, hint: &str| {
            Refused::new(StatusCode::BAD_REQUEST, code, message, hint)
        };
        if self.pipelines.is_empty() {
            return Err(Refused::new(
                StatusCode::FORBIDDEN,
                "local-models-off",
                "this service takes no models from files",
                "set `localModels: true` in its configuration, or push a tag",
            ));
        }
        let ReleaseRequest { pipeline, tag, model, card, commit } = request;
        let Some(route) = self.pipelines.get(&pipeline) else {
            let known: Vec<&str> = self.pipelines.keys().map(String::as_str).collect();
            let message = format!("there is no pipeline `{}`", pipeline.escape_debug());
            return Err(bad("pipeline", message, &format!("there is {}", known.join(", "))));
        };
        let parsed = tag.parse::<ReleaseTag>();
        let tag = parsed.map_err(|e| bad("tag", e.to_string(), "name a tag like v1.2.3"))?;
        if !super::route::glob(&route.tag_pattern, tag.as_str()) {
            let message = format!("tag {tag} does not match `{}`", route.tag_pattern);
            return Err(bad("tag", message, "the pipeline's `source.tags` says which do"));
        }
        let commit = commit.map(|text| text.parse::<Commit>()).transpose();
        let commit = commit.map_err(|e| bad("commit", e.to_string(), "give the full id"))?;
        let beside = || commit.is_some().then(|| model.with_extension("yaml"));
        let card = card.or_else(beside);
        for file in std::iter::once(&model).chain(&card) {
            plain_file(file)
                .map_err(|why| bad("file", why, "give absolute paths on the service's machine"))?;
        }
        let (route, files) = (route.clone(), LocalModel { model, card });
        let commit = commit.map(|commit| commit.to_string());
        Ok(LocalRelease { route, tag: tag.to_string(), commit, files })
    }
}

fn plain_file(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(format!("{shown}: not an absolute path"));
    }
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(format!("{shown}: not a plain file")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}
