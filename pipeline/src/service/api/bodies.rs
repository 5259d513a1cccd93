//! What requests and answers carry, beside what the store tells.

use pitlane_release::CarKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::service::store::{Alert, Car, Placed, Run, StepRecord};

/// Body of `GET /runs`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunList {
    /// Newest first.
    pub runs: Vec<Run>,
}

/// Body of `GET /runs/{id}/steps`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct StepList {
    /// In the order of the lane, then of the attempts.
    pub steps: Vec<StepRecord>,
}

/// Body of `GET /alerts`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AlertList {
    /// Newest first.
    pub alerts: Vec<Alert>,
}

/// Body of `POST /rollback`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// `owner/name`.
    pub repository: String,
    /// A tag that was released before.
    pub tag: String,
}

/// Body of `GET /runs/{id}/places`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct PlaceList {
    /// In the order in which the release came to them.
    pub places: Vec<Placed>,
}

/// Body of `GET /cars`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CarList {
    /// By pipeline, environment and name.
    pub cars: Vec<Car>,
}

/// Body of `POST /runs/{id}/approve`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The environment that the release may go to.
    pub environment: CarKind,
    /// Who says so, for people: at most 200 characters, none of them for control.
    #[schemars(regex(pattern = r"^[^\x00-\x20\x7f-\x9f][^\x00-\x1f\x7f-\x9f]{0,199}$"))]
    pub by: String,
}

/// Body of `GET /healthz`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::service) struct Health {
    /// `ok`.
    status: &'static str,
}

impl Health {
    pub(in crate::service) const OK: Self = Self { status: "ok" };
}
