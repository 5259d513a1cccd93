//! Deliveries as tests make them. The service's own tests use this file, too.

use pitlane_runs::{
    Store, TagPush,
    route::Route,
    store::{Decision, Delivery, Receipt},
};

/// A commit id for a number.
pub(crate) fn commit(n: u64) -> String {
    format!("{n:040x}")
}

pub(crate) fn route(repository: &str, pipeline: &str) -> Route {
    Route {
        repository: repository.to_owned(),
        pipeline: pipeline.to_owned(),
        car_kind: "donkeycar".to_owned(),
        tag_pattern: "*".to_owned(),
        allow_moved_tags: false,
        supersede: false,
    }
}

/// A delivery of a lightweight tag.
pub(crate) fn delivery(id: &str, route: &Route, tag: &str, commit: &str) -> Delivery {
    let push = TagPush {
        repository: route.repository.clone(),
        tag: tag.to_owned(),
        object: commit.to_owned(),
        commit: Some(commit.to_owned()),
        forced: false,
    };
    Delivery {
        id: id.to_owned(),
        event: "push".to_owned(),
        headers: "{}".to_owned(),
        body: format!("{tag} {commit}").into(),
        decision: Decision::Run { push, route: route.clone() },
    }
}

/// Queues a run; its id.
pub(crate) async fn queue(store: &Store, route: &Route, tag: &str) -> String {
    let id = format!("d-{}-{tag}", route.pipeline);
    match store.deliver(delivery(&id, route, tag, &commit(1))).await.unwrap() {
        Receipt::Accepted { run, repeat: false } => run,
        other => panic!("{other:?}"),
    }
}
