//! The API for the operator: what runs did, retry, rollback. A listener of its own, loopback by
//! default; reading is open to who can reach it, changing needs the bearer token.
//!
//! # Modules
//! - `endpoints`: every request in one list, of which router and `OpenAPI` document are made
//! - `bodies`: what they carry; `guards`: what they must show
//! - answered by `runs`, `environments` (with cars), `state` (of the service)

mod bodies;
mod endpoints;
mod environments;
mod guards;
mod runs;
mod state;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
};
use tokio::sync::watch;

pub use self::bodies::{
    AlertList, ApproveRequest, CarList, PlaceList, RollbackRequest, RunList, StepList,
};
pub(super) use self::endpoints::endpoints;
pub use self::environments::Environments;
use super::{
    cars::CarTokens, local::LocalModels, progress::Progress, reply::Refused, secret::Token,
    store::Store,
};

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
    environments: Environments,
    progress: Progress,
    stopping: watch::Receiver<bool>,
}

impl ApiState {
    /// An API over a store; `token` is what changes must carry.
    pub fn new(store: Store, token: Token) -> Self {
        // Without a sender it never changes.
        let (_, stopping) = watch::channel(false);
        let (local, cars) = (LocalModels::default(), CarTokens::default());
        let (environments, progress) = (Environments::default(), Progress::default());
        Self { store, token, local, cars, environments, progress, stopping }
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

    /// Takes approvals for these environments.
    #[must_use]
    pub fn with_environments(mut self, environments: Environments) -> Self {
        self.environments = environments;
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

/// Whether a text looks like a run's id.
pub(super) fn is_run_id(text: &str) -> bool {
    let Some((number, random)) = text.strip_prefix('r').and_then(|rest| rest.split_once('-'))
    else {
        return false;
    };
    let digits = (1..=19).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    digits && random.len() == 8 && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

async fn wrong_method() -> Refused {
    let hint = "see GET /openapi.json";
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method", "it takes another method", hint)
}

async fn not_found() -> Refused {
    let hint = "the API has /runs, /releases, /rollback, /cars, /alerts, /metrics and /healthz";
    Refused::new(StatusCode::NOT_FOUND, "path", "nothing is here", hint)
}
