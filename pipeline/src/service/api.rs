//! The API for the operator: what runs did, retry, rollback. A listener of its own, loopback by
//! default; reading is open to who can reach it, changing needs the bearer token.
//!
//! | request | answer |
//! |---|---|
//! | `GET /runs?state=&repository=&tag=&before=&limit=` | `{"runs":[Run]}`, newest first |
//! | `GET /runs/{id}?wait=` | `Run`; with `wait` once it has ended, or after that many seconds |
//! | `GET /runs/{id}/steps` | `{"steps":[StepRecord]}` |
//! | `GET /alerts` | `{"alerts":[Alert]}` |
//! | `GET /runs/{id}/events` | server-sent events: [`super::events`] |
//! | `POST /runs/{id}/retry` | 202 `Run` |
//! | `POST /runs/{id}/cancel` | 202 `Run` |
//! | `POST /rollback` `{"repository","tag"}` | 202 `Run` |
//! | `POST /releases` `{"pipeline","tag","model","card"?,"commit"?}` | 202 `Run`: [`super::local`] |
//! | `POST /runs/{id}/approve` `{"environment","by"}` | 202 `Approved` |
//! | `GET /runs/{id}/places` | `{"places":[Placed]}`: how it stands in each environment |
//! | `GET /cars` | `{"cars":[Car]}` |
//! | `POST /cars/status` `CarStatus`, with a car's token | 204 |
//! | `GET /openapi.json` | this table for programs: [`super::openapi()`] |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /healthz` | `{"status":"ok"}` |

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, FromRequestParts, Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};
use pitlane_release::CarKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::{
    cars::CarTokens,
    events::Happening,
    local::{LocalModels, ReleaseRequest},
    openapi::Endpoint,
    progress::Progress,
    reply::Refused,
    secret::Token,
    store::{
        Alert, Approved, Car, CarStatus, Placed, Run, RunFilter, RunState, StepRecord, Store,
        StoreError,
    },
};
use crate::lane::Step;

/// Requests carry a repository and a tag.
const MAX_BODY: usize = 16 * 1024;

/// Longest that a request waits for the end of a run (seconds); clients ask again.
pub(super) const MAX_WAIT: u64 = 10;

/// What the API works on.
#[derive(Debug)]
pub struct ApiState {
    store: Store,
    token: Token,
    local: LocalModels,
    cars: CarTokens,
    progress: Progress,
    stopping: watch::Receiver<bool>,
}

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

impl ApiState {
    /// An API over a store; `token` is what changes must carry.
    pub fn new(store: Store, token: Token) -> Self {
        // Without a sender it never changes.
        let (_, stopping) = watch::channel(false);
        let (local, cars) = (LocalModels::default(), CarTokens::default());
        let progress = Progress::default();
        Self { store, token, local, cars, progress, stopping }
    }

    /// Ends what would go on for as long as a run does, when the service stops.
    #[must_use]
    pub fn until(mut self, stopping: watch::Receiver<bool>) -> Self {
        self.stopping = stopping;
        self
    }

    /// Takes releases of models that are files on this machine, too.
    #[must_use]
    pub fn with_local_models(mut self, local: LocalModels) -> Self {
        self.local = local;
        self
    }

    /// Tells of these transfers, too.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Believes these cars.
    #[must_use]
    pub fn with_cars(mut self, cars: CarTokens) -> Self {
        self.cars = cars;
        self
    }

    /// The routes, for a loopback listener.
    pub fn router(self) -> Router {
        let all = endpoints().into_iter();
        all.fold(Router::new(), |router, (one, handler)| router.route(one.path, handler))
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::new(self))
    }
}

type Shared = State<Arc<ApiState>>;

/// What a run's id looks like; others are not looked for.
pub(super) const RUN_ID: &str = "^r[0-9]{1,19}-[0-9a-f]{8}$";

/// Every request that is answered, and who answers it: the router, and the document for programs.
pub(super) fn endpoints() -> Vec<(Endpoint, MethodRouter<Arc<ApiState>>)> {
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

/// A run's id in a path.
struct RunId(String);

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

async fn openapi() -> Json<&'static Value> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(super::openapi);
    Json(&DOCUMENT)
}

async fn wrong_method() -> Refused {
    let hint = "see GET /openapi.json";
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method", "it takes another method", hint)
}

/// Body of `GET /healthz`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
}

impl Health {
    pub(super) const OK: Self = Self { status: "ok" };
}

/// Proof that a request carried the token; what changes state takes it as an argument.
struct Operator;

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

async fn not_found() -> Refused {
    let hint = "the API has /runs, /releases, /rollback, /cars, /alerts, /metrics and /healthz";
    Refused::new(StatusCode::NOT_FOUND, "path", "nothing is here", hint)
}

async fn healthz(State(api): Shared) -> Result<Response, Refused> {
    api.store.healthy().await?;
    Ok(Json(Health::OK).into_response())
}

async fn metrics(State(api): Shared) -> Result<Response, Refused> {
    let figures = api.store.figures().await?;
    let text = super::metrics::text(&figures, super::store::now_ms());
    Ok(([(header::CONTENT_TYPE, super::metrics::CONTENT_TYPE)], text).into_response())
}

async fn list(
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
struct Wait {
    /// Seconds to wait for its end; more than 10 are 10.
    #[serde(default)]
    #[schemars(extend("maximum" = u64::MAX))]
    wait: u64,
}

async fn show(
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

async fn steps(State(api): Shared, RunId(id): RunId) -> Result<Json<StepList>, Refused> {
    Ok(Json(StepList { steps: api.store.steps(&id).await? }))
}

async fn alerts(State(api): Shared) -> Result<Json<AlertList>, Refused> {
    Ok(Json(AlertList { alerts: api.store.alerts().await? }))
}

async fn retry(
    State(api): Shared,
    _: Operator,
    RunId(id): RunId,
) -> Result<(StatusCode, Json<Run>), Refused> {
    let run = api.store.retry(&id).await?;
    tracing::info!(run.id = %run.id, "retry asked for");
    Ok((StatusCode::ACCEPTED, Json(run)))
}

async fn cancel(
    State(api): Shared,
    _: Operator,
    RunId(id): RunId,
) -> Result<(StatusCode, Json<Run>), Refused> {
    let run = api.store.cancel(&id).await?;
    tracing::info!(run.id = %run.id, "end asked for");
    Ok((StatusCode::ACCEPTED, Json(run)))
}

async fn events(State(api): Shared, RunId(id): RunId) -> Result<Response, Refused> {
    // Before the answer begins: a run that is not known is a 404, not an empty stream.
    api.store.run(&id).await?;
    Ok(super::events::stream(api.store.clone(), id, api.progress.clone(), api.stopping.clone()))
}

async fn places(State(api): Shared, RunId(id): RunId) -> Result<Json<PlaceList>, Refused> {
    api.store.run(&id).await?;
    Ok(Json(PlaceList { places: api.store.places(&id).await? }))
}

async fn cars(State(api): Shared) -> Result<Json<CarList>, Refused> {
    Ok(Json(CarList { cars: api.store.cars(None).await? }))
}

async fn approve(
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
    let steps = api.store.steps(&id).await?;
    let image = steps.iter().rev().find(|s| s.step == Step::Check).and_then(|s| s.output.as_ref());
    let image = image.and_then(|output| output["image"].as_str()).unwrap_or_default();
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
        time: super::store::now_ms(),
    };
    api.store.approve(approved.clone()).await?;
    tracing::info!(run.id = %id, environment = %approved.environment, by = %approved.by, "approved");
    Ok((StatusCode::ACCEPTED, Json(approved)))
}

async fn car_status(
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
    let said = super::cars::by_index(&api.store, said).await?;
    api.store.car_said(said).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rollback(
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

async fn release(
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
