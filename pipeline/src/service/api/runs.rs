//! Runs: listed, shown, followed, retried, ended; asked for by an old tag or by files.

use std::time::Duration;

use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
    response::Response,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    MAX_WAIT, Shared,
    bodies::{RollbackRequest, RunList, StepList},
    guards::{Operator, RunId},
};
use crate::service::{
    events::stream,
    local::ReleaseRequest,
    reply::Refused,
    store::{Run, RunFilter, StoreError},
};

pub(super) async fn list(
    State(api): Shared,
    filter: Result<Query<RunFilter>, QueryRejection>,
) -> Result<Json<RunList>, Refused> {
    let Query(filter) = filter.map_err(|error| {
        let hint = "state is queued, running, failed or done; limit and before are numbers";
        Refused::new(StatusCode::BAD_REQUEST, "query", error.body_text(), hint)
    })?;
    if [&filter.repository, &filter.tag].into_iter().flatten().any(|text| nowhere(text)) {
        return Ok(Json(RunList { runs: Vec::new() }));
    }
    Ok(Json(RunList { runs: api.store.runs(filter).await? }))
}

/// A zero byte is in no name, and `PostgreSQL` would take it for a broken text.
fn nowhere(text: &str) -> bool {
    text.contains('\0')
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Seconds to wait for its end; more than 10 are 10.
    #[serde(default)]
    #[schemars(extend("maximum" = u64::MAX))]
    wait: u64,
}

pub(super) async fn show(
    State(api): Shared,
    RunId(id): RunId,
    wait: Result<Query<Wait>, QueryRejection>,
) -> Result<Json<Run>, Refused> {
    let Query(Wait { wait }) = wait.map_err(|error| {
        let hint = "wait is a number of seconds";
        Refused::new(StatusCode::BAD_REQUEST, "query", error.body_text(), hint)
    })?;
    Ok(Json(api.store.ended(&id, Duration::from_secs(wait.min(MAX_WAIT))).await?))
}

pub(super) async fn steps(State(api): Shared, RunId(id): RunId) -> Result<Json<StepList>, Refused> {
    Ok(Json(StepList { steps: api.store.steps(&id).await? }))
}

pub(super) async fn retry(
    State(api): Shared,
    _: Operator,
    RunId(id): RunId,
) -> Result<(StatusCode, Json<Run>), Refused> {
    let run = api.store.retry(&id).await?;
    tracing::info!(run.id = %run.id, "retry asked for");
    Ok((StatusCode::ACCEPTED, Json(run)))
}

pub(super) async fn cancel(
    State(api): Shared,
    _: Operator,
    RunId(id): RunId,
) -> Result<(StatusCode, Json<Run>), Refused> {
    let run = api.store.cancel(&id).await?;
    tracing::info!(run.id = %run.id, "end asked for");
    Ok((StatusCode::ACCEPTED, Json(run)))
}

pub(super) async fn events(State(api): Shared, RunId(id): RunId) -> Result<Response, Refused> {
    // Before the answer begins: a run that is not known is a 404, not an empty stream.
    api.store.run(&id).await?;
    Ok(stream(api.store.clone(), id, api.progress.clone(), api.stopping.clone()))
}

pub(super) async fn rollback(
    State(api): Shared,
    _: Operator,
    request: Result<Json<RollbackRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<Run>), Refused> {
    let Json(request) = request.map_err(|error| {
        let hint = "send {\"repository\": \"owner/name\", \"tag\": \"v1.2.3\"} as application/json";
        Refused::new(error.status(), "body", error.body_text(), hint)
    })?;
    if nowhere(&request.repository) || nowhere(&request.tag) {
        return Err(StoreError::Unknown { what: "that tag".to_owned() }.into());
    }
    let run = api.store.rollback(&request.repository, &request.tag).await?;
    tracing::info!(run.id = %run.id, tag = %run.tag, "rollback asked for");
    Ok((StatusCode::ACCEPTED, Json(run)))
}

pub(super) async fn release(
    State(api): Shared,
    _: Operator,
    request: Result<Json<ReleaseRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<Run>), Refused> {
    let Json(request) = request.map_err(|error| {
        let hint = "send {\"pipeline\", \"tag\", \"model\"} as application/json (docs/service.md)";
        Refused::new(error.status(), "body", error.body_text(), hint)
    })?;
    let run = api.store.queue_local(api.local.check(request)?).await?;
    tracing::info!(run.id = %run.id, tag = %run.tag, "release of local files asked for");
    Ok((StatusCode::ACCEPTED, Json(run)))
}
