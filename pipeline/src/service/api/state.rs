//! The service itself: whether it is well, its figures, what a person should look at, its document.

use std::sync::LazyLock;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

use super::{
    Shared,
    bodies::{AlertList, Health},
};
use crate::service::{metrics as figures, reply::Refused, store::now_ms};

pub(super) async fn openapi() -> Json<&'static Value> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(crate::service::openapi);
    Json(&DOCUMENT)
}

pub(super) async fn healthz(State(api): Shared) -> Result<Response, Refused> {
    api.store.healthy().await?;
    Ok(Json(Health::OK).into_response())
}

pub(super) async fn metrics(State(api): Shared) -> Result<Response, Refused> {
    let found = api.store.figures().await?;
    let text = figures::text(&found, now_ms());
    Ok(([(header::CONTENT_TYPE, figures::CONTENT_TYPE)], text).into_response())
}

pub(super) async fn alerts(State(api): Shared) -> Result<Json<AlertList>, Refused> {
    Ok(Json(AlertList { alerts: api.store.alerts().await? }))
}
