//! What a request must show before it is looked at: a run's id, the operator's token.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path},
    http::{StatusCode, header, request::Parts},
};

use super::ApiState;
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
        let (number, random) =
            id.strip_prefix('r').and_then(|rest| rest.split_once('-')).ok_or_else(unknown)?;
        let digits = (1..=19).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        let hex =
            random.len() == 8 && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits && hex { Ok(Self(id)) } else { Err(unknown()) }
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
