//! What a request must show before it is looked at: a run's id, the operator's token.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path},
    http::{StatusCode, header, request::Parts},
};

use super::{ApiState, is_run_id};
use crate::service::{reply::Refused, store::StoreError};

/// A run's id in a path.
pub(super) struct RunId(pub(super) String);

impl FromRequestParts<Arc<ApiState>> for RunId {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, Refused> {
        let unknown = || Refused::from(StoreError::Unknown { what: "that run".to_owned() });
        let Ok(Path(id)) = Path::<String>::from_request_parts(parts, api).await else {
            return Err(unknown());
        };
        if is_run_id(&id) { Ok(Self(id)) } else { Err(unknown()) }
    }
}

/// Proof that a request carried the token; what changes state takes it as an argument.
pub(super) struct Operator;

impl FromRequestParts<Arc<ApiState>> for Operator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, Refused> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        if value.is_some_and(|value| api.token.admits(value)) {
            return Ok(Self);
        }
        let hint = "send `Authorization: Bearer` with the token of the service's token file";
        Err(Refused::new(
            StatusCode::UNAUTHORIZED,
            "token",
            "the bearer token is missing or wrong",
            hint,
        ))
    }
}
