//! The pipelines that a service runs, and which tags start them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, bail};

use crate::{
    cli::service_file::ServiceFile,
    config::Pipeline,
    github::Link,
    service::{Environments, Route},
    steps::Ready,
};

/// The pipelines of a configuration, by name.
pub(super) type Pipelines = BTreeMap<String, Arc<Ready>>;

/// What a configuration's pipelines are.
pub(super) struct Opened {
    /// Those that this process runs.
    pub(super) pipelines: Pipelines,
    /// Which tags they are for.
    pub(super) routes: Vec<Route>,
    /// Where their releases go.
    pub(super) environments: Environments,
}

/// Opens the pipelines, and says which tags they are for. A front opens none. Those that push to
/// the embedded registry get its token.
pub(super) async fn open(
    file: &ServiceFile,
    registry_at: Option<SocketAddr>,
    push_token: &Path,
) -> anyhow::Result<Opened> {
    let mut pipelines = BTreeMap::new();
    let mut environments = Environments::default();
    let mut routes = Vec::new();
    let mut named = BTreeSet::new();
    for path in &file.pipelines {
        let mut pipeline = Pipeline::load(path)?;
        let registry = &mut pipeline.spec.registry;
        let own = registry_at.is_some_and(|at| at.to_string() == registry.repository.registry());
        if own && registry.password_file.is_none() {
            registry.password_file = Some(push_token.to_owned());
        }
        let source = &pipeline.spec.source;
        routes.push(Route {
            repository: source.repository.to_string(),
            pipeline: pipeline.name.clone(),
            car_kind: pipeline.spec.car_kind.to_string(),
            tag_pattern: source.tags.clone(),
            allow_moved_tags: source.allow_moved_tags,
            supersede: source.supersede,
        });
        let name = pipeline.name.clone();
        if let Some(promote) = pipeline.spec.promote.as_ref().filter(|it| it.has_environments()) {
            let places = promote.environments().into_iter().map(|one| one.name.to_string());
            environments.add(name.clone(), places);
        }
        if !named.insert(name.clone()) {
            bail!("two pipeline files have the name `{name}`");
        }
        if file.work {
            let ready = Ready::open(pipeline).await.with_context(|| path.display().to_string())?;
            pipelines.insert(name, Arc::new(ready));
        }
    }
    if routes.is_empty() {
        bail!("no pipeline to run: name one under `pipelines:`, or put one into pipelines/");
    }
    Ok(Opened { pipelines, routes, environments })
}

/// Refuses a pipeline that asks for signed tags where nobody could say which are.
pub(super) fn signatures_are_known(
    pipelines: &Pipelines,
    link: Option<&Link>,
) -> anyhow::Result<()> {
    for ready in pipelines.values() {
        let source = &ready.pipeline.spec.source;
        if source.signed_tags && !link.is_some_and(|link| link.has(&source.repository)) {
            bail!(
                "pipeline {}: `source.signedTags` needs `github:` in the service's configuration, \
                 and a source on it",
                ready.pipeline.name
            );
        }
    }
    Ok(())
}
