//! The one shape of every refusal over HTTP: `{"error":{"code","message","hint"}}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::store::StoreError;

pub use pitlane_runs::Told;

/// A refusal.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Refusal")]
pub(crate) struct Wrapped {
    /// Why.
    pub(crate) error: Told,
}

/// A refusal with its HTTP status.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The status of the response.
    pub status: StatusCode,
    /// Its body.
    pub told: Told,
}

impl Refused {
    /// A refusal; `hint` says what the sender or the operator can do.
    pub fn new(
        status: StatusCode,
        code: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let told = Told { code: code.to_owned(), message: message.into(), hint: hint.into() };
        Self { status, told }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let retry = (self.status == StatusCode::SERVICE_UNAVAILABLE).then_some("5");
        let mut response = (self.status, Json(Wrapped { error: self.told })).into_response();
        if let Some(seconds) = retry {
            let seconds = HeaderValue::from_static(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unknown { what } => Self::new(
                StatusCode::NOT_FOUND,
                "unknown",
                format!("{what} is not known"),
                "`pitlane runs list` shows what is",
            ),
            StoreError::Refused(told) => Self { status: StatusCode::CONFLICT, told },
            StoreError::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "the store did not keep up",
                "deliver again in a few seconds",
            ),
            other => {
                tracing::error!(error = %other, "store failed");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store-unavailable",
                    "nothing was recorded: the store is not available",
                    "deliver again once the service is well; its log has the cause",
                )
            }
        }
    }
}
