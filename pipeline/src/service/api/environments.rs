//! Where releases have come to, and who lets them go on: cars and people.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
};

use super::{
    Shared,
    bodies::{ApproveRequest, CarList, PlaceList},
    guards::{Operator, RunId},
};
use crate::{
    lane::Step,
    service::{
        cars::by_index,
        reply::Refused,
        store::{Approved, CarStatus, RunState, now_ms, output},
    },
};

/// The environments of each pipeline that has any.
#[derive(Clone, Debug, Default)]
pub struct Environments {
    of: BTreeMap<String, BTreeSet<String>>,
}

impl Environments {
    /// Those of a pipeline.
    pub fn add(&mut self, pipeline: String, names: impl IntoIterator<Item = String>) {
        self.of.entry(pipeline).or_default().extend(names);
    }

    /// Whether a pipeline's releases go there: a word for an environment that is none would be
    /// kept and never heard.
    fn check(&self, pipeline: &str, environment: &str) -> Result<(), Refused> {
        let known = self.of.get(pipeline);
        if known.is_some_and(|known| known.contains(environment)) {
            return Ok(());
        }
        let why = format!("pipeline {pipeline} has no environment `{environment}`");
        let names: Vec<&str> = known.into_iter().flatten().map(String::as_str).collect();
        let hint = match names.is_empty() {
            true => "its `promote.environments` names none".to_owned(),
            false => format!("it has {}", names.join(", ")),
        };
        Err(Refused::new(StatusCode::NOT_FOUND, "environment", why, hint))
    }
}

pub(super) async fn places(
    State(api): Shared,
    RunId(id): RunId,
) -> Result<Json<PlaceList>, Refused> {
    api.store.run(&id).await?;
    Ok(Json(PlaceList { places: api.store.places(&id).await? }))
}

pub(super) async fn cars(State(api): Shared) -> Result<Json<CarList>, Refused> {
    Ok(Json(CarList { cars: api.store.cars(None).await? }))
}

pub(super) async fn approve(
    State(api): Shared,
    _: Operator,
    RunId(id): RunId,
    request: Result<Json<ApproveRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<Approved>), Refused> {
    let hint = "send {\"environment\": \"street\", \"by\": \"ada\"} as application/json";
    let Json(ApproveRequest { environment, by }) =
        request.map_err(|error| Refused::new(error.status(), "body", error.body_text(), hint))?;
    let bad = |code, why: String| Refused::new(StatusCode::BAD_REQUEST, code, why, hint);
    let plain = by.chars().next().is_some_and(|first| first > ' ');
    if !plain || by.chars().count() > 200 || by.chars().any(char::is_control) {
        return Err(bad("by", "`by` must say who approves it, in at most 200 characters".into()));
    }
    let run = api.store.run(&id).await?;
    api.environments.check(&run.pipeline, environment.as_str())?;
    let steps = api.store.steps(&id).await?;
    let image =
        output(&steps, Step::Check).and_then(|output| output["image"].as_str()).unwrap_or_default();
    let digest = image.rsplit_once('@').map(|(_, digest)| digest.to_owned());
    let (RunState::Done, Some(digest)) = (run.state, digest) else {
        let why =
            format!("run {id} is {}, and only what was released can be approved", run.state.name());
        return Err(Refused::new(StatusCode::CONFLICT, "not-released", why, "wait for its end"));
    };
    let approved = Approved {
        pipeline: run.pipeline,
        environment: environment.to_string(),
        counter: run.counter,
        digest,
        by,
        time: now_ms(),
    };
    api.store.approve(approved.clone()).await?;
    tracing::info!(run.id = %id, environment = %approved.environment, by = %approved.by, "approved");
    Ok((StatusCode::ACCEPTED, Json(approved)))
}

pub(super) async fn car_status(
    State(api): Shared,
    headers: HeaderMap,
    request: Result<Json<CarStatus>, JsonRejection>,
) -> Result<StatusCode, Refused> {
    let value = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let Some(car) = value.and_then(|value| api.cars.car(value)) else {
        return Err(Refused::new(
            StatusCode::UNAUTHORIZED,
            "token",
            "no car has this bearer token",
            "`carTokens` of the service's configuration names the file of cars' tokens",
        ));
    };
    let hint =
        "send {\"state\", \"image\", \"counter\"?, \"code\"?, \"message\"?} as application/json";
    let Json(status) =
        request.map_err(|error| Refused::new(error.status(), "body", error.body_text(), hint))?;
    let said = car.says(status);
    let said = said.map_err(|why| Refused::new(StatusCode::BAD_REQUEST, "status", why, hint))?;
    let said = by_index(&api.store, said).await?;
    api.store.car_said(said).await?;
    Ok(StatusCode::NO_CONTENT)
}
