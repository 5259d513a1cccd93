//! What a service does beside its runs: looks at GitHub, tells others, raises counters.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use super::pipelines::Pipelines;
use crate::{
    cli::service_file::ServiceFile,
    github::Link,
    service::{Advancing, Reporting, Routes, Store, Telling, Watch, follow, holder},
    steps::{Ready, highest_counter},
};

/// How often the registry is asked for its highest counter: a one-shot release beside the
/// service takes numbers, too.
const RAISE_EVERY: Duration = Duration::from_secs(15);

/// Starts those who look at GitHub, and who tell others of what changes in the store.
pub(super) fn tell(
    file: &ServiceFile,
    store: &Store,
    routes: &Routes,
    pipelines: &Pipelines,
    link: Option<&Arc<Link>>,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<()>> {
    let mut told = JoinSet::new();
    if let Some(link) = link {
        let watch = Watch::new(Arc::clone(link), store.clone(), routes.clone(), holder());
        told.spawn(watch.run(stopping.clone()));
        if link.report().any() {
            let reporting = Reporting::new(store.clone(), Arc::clone(link), pipelines.clone());
            told.spawn(follow(store.clone(), holder(), reporting, stopping.clone()));
        }
    }
    if let Some(notify) = &file.notify {
        let telling = Telling::new(store.clone(), notify.clone())?;
        told.spawn(follow(store.clone(), holder(), telling, stopping.clone()));
    }
    if pipelines.values().any(|ready| ready.pipeline.spec.promote.is_some()) {
        let dir = file.state.join("promote");
        let advancing = Advancing::new(store.clone(), pipelines.clone(), link.cloned(), dir);
        told.spawn(follow(store.clone(), holder(), advancing, stopping.clone()));
    }
    Ok(told)
}

/// Raises the counters of all pipelines, now and from time to time.
pub(super) async fn keep_raising(
    store: &Store,
    pipelines: &Pipelines,
) -> tokio::task::JoinHandle<()> {
    for ready in pipelines.values() {
        raise_counter(store, ready).await;
    }
    let (counters, known) = (store.clone(), pipelines.values().cloned().collect::<Vec<_>>());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RAISE_EVERY).await;
            for ready in &known {
                raise_counter(&counters, ready).await;
            }
        }
    })
}

/// Counters go on above what this key has already signed in the registry: by one-shot releases,
/// or by a service whose store was lost.
async fn raise_counter(store: &Store, ready: &Ready) {
    let spec = &ready.pipeline.spec;
    let raised = async {
        let highest = highest_counter(ready).await?;
        if let Some(counter) = pitlane_release::Counter::new(highest) {
            let (source, kind) = (spec.source.repository.as_str(), spec.car_kind.as_str());
            store.raise_counter(source, kind, counter).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = raised.await {
        let name = &ready.pipeline.name;
        tracing::warn!("pipeline {name}: the registry's highest counter is not known: {error:#}");
    }
}
