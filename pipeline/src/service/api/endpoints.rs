//! The list of requests: the router and the document for programs are made of it.

use std::sync::Arc;

use axum::routing::{MethodRouter, get, post};
use serde_json::Value;

use super::{
    ApiState,
    bodies::{
        AlertList, ApproveRequest, CarList, Health, PlaceList, RollbackRequest, RunList, StepList,
    },
    environments::{approve, car_status, cars, places},
    runs::{Wait, cancel, events, list, release, retry, rollback, show, steps},
    state::{alerts, healthz, metrics, openapi},
};
use crate::service::{
    events::Happening,
    local::ReleaseRequest,
    openapi::Endpoint,
    store::{Approved, CarStatus, Run, RunFilter},
};

/// Every request that is answered, and who answers it: the router, and the document for programs.
pub(in crate::service) fn endpoints() -> Vec<(Endpoint, MethodRouter<Arc<ApiState>>)> {
    const JSON: &[&str] = &["application/json"];
    let ok = "As asked for.";
    let accepted = "Accepted; the run as it is now.";
    let changed = "Its state does not allow it.";
    vec![
        (
            Endpoint::get("/runs", "Runs, newest first")
                .query::<RunFilter>()
                .json::<RunList>(200, ok),
            get(list),
        ),
        (
            Endpoint::get("/runs/{id}", "One run; with `wait` once it has ended")
                .query::<Wait>()
                .json::<Run>(200, ok),
            get(show),
        ),
        (Endpoint::get("/runs/{id}/steps", "Its journal").json::<StepList>(200, ok), get(steps)),
        (
            Endpoint::get("/runs/{id}/events", "What happens to it, as it happens")
                .events::<Happening>("What happened so far, then what happens."),
            get(events),
        ),
        (
            Endpoint::post("/runs/{id}/retry", "Goes on from the step that failed")
                .by_token()
                .json::<Run>(202, accepted)
                .refuses(409, changed),
            post(retry),
        ),
        (
            Endpoint::post("/runs/{id}/cancel", "Ends it")
                .by_token()
                .json::<Run>(202, accepted)
                .refuses(409, changed),
            post(cancel),
        ),
        (
            Endpoint::post("/runs/{id}/approve", "Lets its release into an environment")
                .by_token()
                .body::<ApproveRequest>(JSON)
                .json::<Approved>(202, "Kept; the first word stands.")
                .refuses(409, "It is not released.")
                .refuses(422, "A field is missing, unknown or of another type."),
            post(approve),
        ),
        (
            Endpoint::get("/runs/{id}/places", "How its release stands in each environment")
                .json::<PlaceList>(200, ok),
            get(places),
        ),
        (Endpoint::get("/cars", "What each car said last").json::<CarList>(200, ok), get(cars)),
        (
            Endpoint::post("/cars/status", "What a car says of itself, by its own token")
                .by_token()
                .body::<CarStatus>(JSON)
                .nothing(204, "Kept.")
                .refuses(422, "A field is missing, unknown or of another type."),
            post(car_status),
        ),
        (
            Endpoint::post("/rollback", "Releases an old tag again")
                .by_token()
                .body::<RollbackRequest>(JSON)
                .json::<Run>(202, accepted)
                .refuses(404, "That tag was never released.")
                .refuses(409, changed)
                .refuses(422, "A field is missing, unknown or of another type."),
            post(rollback),
        ),
        (
            Endpoint::post("/releases", "Releases a model that lies on the service's machine")
                .by_token()
                .body::<ReleaseRequest>(JSON)
                .json::<Run>(202, accepted)
                .refuses(403, "This service takes no models from files.")
                .refuses(409, changed)
                .refuses(422, "A field is missing, unknown or of another type."),
            post(release),
        ),
        (
            Endpoint::get("/alerts", "What a person should look at").json::<AlertList>(200, ok),
            get(alerts),
        ),
        (Endpoint::get("/metrics", "Figures for Prometheus").text("text/plain", ok), get(metrics)),
        (
            Endpoint::get("/healthz", "Whether the store takes writes").json::<Health>(200, ok),
            get(healthz),
        ),
        (Endpoint::get("/openapi.json", "This document").json::<Value>(200, ok), get(openapi)),
    ]
}
