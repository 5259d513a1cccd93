//! What is answered over HTTP: the two hooks, and beside them health and metrics.
//!
//! A review that can be answered gets 200 and its verdict; a body that is none gets an HTTP error
//! in JSON, which `failurePolicy: Fail` turns into a denial.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{timeout, timeout_at},
};

use super::{
    court::Court,
    decide,
    metrics::{Gauges, Hook, Metrics},
    pods::PodKind,
    policies::Policies,
    review::{Denial, Outcome, Request},
    tls::Certificates,
};

/// Largest review (bytes): an API server takes objects of 3 MiB, and sends the old one along.
const MAX_BODY: usize = 7 * 1024 * 1024;
/// Longest that a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Bodies read at once. While it is read, one takes up to three times its size: the body, the
/// half of it that is there twice as its buffer grows, and one text of it without escapes. So they
/// take 252 MiB at the most, within the 320 MiB of the manifest. What is kept of one afterwards is
/// bounded in [`super::pods`].
const BODIES: usize = 12;

/// What the hooks need.
#[derive(Debug)]
pub struct Webhook {
    /// Judges.
    pub court: Court,
    /// Longest that an answer may take, whatever the API server grants.
    pub deadline: Duration,
    /// Whether a pinned image keeps its tag beside the digest.
    pub keep_tag: bool,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Bodies that may be read now.
    bodies: Semaphore,
}

/// What health and metrics tell of.
#[derive(Debug)]
pub struct Health {
    /// Whether requests should be sent here.
    pub ready: AtomicBool,
    /// The policies in use.
    pub policies: Arc<Policies>,
    /// The certificate in use.
    pub certificates: Arc<Certificates>,
    /// The hooks.
    pub webhook: Arc<Webhook>,
}

/// What the API server adds to the address: how long it waits.
#[derive(Debug, Deserialize)]
struct Patience {
    #[serde(default)]
    timeout: String,
}

impl Webhook {
    /// Hooks that answer within `deadline`.
    pub fn new(court: Court, deadline: Duration, keep_tag: bool, metrics: Arc<Metrics>) -> Self {
        Self { court, deadline, keep_tag, metrics, bodies: Semaphore::new(BODIES) }
    }

    /// The routes of the TLS listener.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/validate", post(validate))
            .route("/mutate", post(mutate))
            .fallback(async || wrong(StatusCode::NOT_FOUND, "want /validate or /mutate"))
            .method_not_allowed_fallback(async || {
                wrong(StatusCode::METHOD_NOT_ALLOWED, "want POST with an AdmissionReview")
            })
            .with_state(Arc::clone(self))
    }

    async fn answer(&self, hook: Hook, patience: &str, body: Body) -> Response {
        let began = Instant::now();
        let deadline = began + deadline(self.deadline, patience);
        let (outcome, response) = match self.decide(hook, deadline, body).await {
            Ok((outcome, answer)) => (outcome, answer.into_response()),
            Err((status, why)) => ("invalid", wrong(status, &why)),
        };
        self.metrics.answered(hook, outcome, began.elapsed());
        response
    }

    async fn decide(
        &self,
        hook: Hook,
        deadline: Instant,
        body: Body,
    ) -> Result<(&'static str, Json<super::review::Answer>), (StatusCode, String)> {
        let bad = |error: super::review::ReviewError| (StatusCode::BAD_REQUEST, error.to_string());
        let (request, images) = {
            let permit = timeout_at(deadline.into(), self.bodies.acquire()).await;
            // Never closed: only the time can end.
            let _permit = permit.map_err(|_| {
                let why = format!("{BODIES} reviews are being read, and no turn came in time");
                (StatusCode::SERVICE_UNAVAILABLE, why)
            })?;
            let body = read(body).await?;
            let request = Request::parse(&body).map_err(bad)?;
            let images = decide::images(&request, &body).map_err(bad)?;
            (request, images)
        };
        let outcome = match images {
            Ok(None) => Outcome::default(),
            Err(denial) => Outcome { denial: Some(denial), ..Outcome::default() },
            Ok(Some(images)) => {
                let deciding = async {
                    match (hook, PodKind::of(&request.kind)) {
                        (Hook::Mutate, Some(kind)) => {
                            decide::mutate(&self.court, kind, &images, self.keep_tag).await
                        }
                        _ => decide::validate(&self.court, &images).await,
                    }
                };
                let decided = timeout_at(deadline.into(), deciding).await;
                decided.unwrap_or_else(|_| Outcome { denial: Some(late()), ..Outcome::default() })
            }
        };
        let outcome = outcome.shown();
        tell(hook, &request, &outcome);
        let word = outcome.denial.as_ref().map_or("allowed", |denial| denial.code);
        Ok((word, Json(request.answer(outcome))))
    }
}

async fn validate(
    State(webhook): State<Arc<Webhook>>,
    Query(patience): Query<Patience>,
    body: Body,
) -> Response {
    webhook.answer(Hook::Validate, &patience.timeout, body).await
}

async fn mutate(
    State(webhook): State<Arc<Webhook>>,
    Query(patience): Query<Patience>,
    body: Body,
) -> Response {
    webhook.answer(Hook::Mutate, &patience.timeout, body).await
}

/// Ours, or less when the API server waits less: an answer that comes too late is none.
fn deadline(ours: Duration, patience: &str) -> Duration {
    let granted = patience.strip_suffix('s').and_then(|seconds| seconds.parse::<u32>().ok());
    match granted {
        Some(seconds) => ours.min(Duration::from_secs(seconds.into()) * 4 / 5),
        None => ours,
    }
}

fn late() -> Denial {
    let message = "no verdict in time; the check goes on and its verdict is kept: try again";
    Denial { status: 504, code: "undecided", message: message.into() }
}

/// The whole body, within its bounds.
async fn read(body: Body) -> Result<Vec<u8>, (StatusCode, String)> {
    let all = async {
        let mut bytes = Vec::new();
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
            if bytes.len() + part.len() > MAX_BODY {
                let why = format!("the body is larger than {MAX_BODY} bytes");
                return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    };
    let late = || (StatusCode::REQUEST_TIMEOUT, format!("the body took longer than {BODY_TIME:?}"));
    timeout(BODY_TIME, all).await.unwrap_or_else(|_| Err(late()))
}

/// An HTTP error in JSON.
fn wrong(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({ "error": why }))).into_response()
}

/// One line for each denial; admissions only where asked for.
fn tell(hook: Hook, request: &Request, outcome: &Outcome) {
    let (hook, uid, kind) = (hook.name(), &request.uid, &request.kind.kind);
    let (namespace, name) = (&request.namespace, &request.name);
    if let Some(denial) = &outcome.denial {
        let (code, why) = (denial.code, &denial.message);
        tracing::warn!(hook, %uid, %kind, %namespace, %name, code, "denied: {why}");
    } else {
        let pinned = outcome.patch.len();
        tracing::debug!(hook, %uid, %kind, %namespace, %name, pinned, "allowed");
    }
}

impl Health {
    /// The routes of the listener for probes and metrics.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(self))
    }
}

/// Ready while it can answer by some set of policies; that the files are newer is told, since
/// taking every replica away for it would stop the cluster.
async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    if !health.ready.load(Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n".into());
    }
    let mut lines = vec!["ok".to_owned()];
    if let Some(trouble) = health.policies.trouble() {
        lines.push(format!("the policies before are in use: {trouble}"));
    }
    if !health.certificates.is_current() {
        lines.push("the certificate before is in use: the files cannot be".into());
    }
    (StatusCode::OK, lines.join("\n") + "\n")
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    let set = health.policies.set();
    let page = health.webhook.metrics.page(Gauges {
        kept: health.webhook.court.kept(),
        generation: set.generation,
        policies: set.judge.len(),
        policies_current: health.policies.trouble().is_none(),
        certificate_current: health.certificates.is_current(),
        certificate_ends: health.certificates.ends(),
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_turn_is_answered_in_time() {
        use crate::webhook::{
            court::{NoMatch, Rules},
            policies::open_one,
        };
        let (_dir, policies) = open_one();
        let rules = Rules {
            no_match: NoMatch::Deny,
            platforms: Vec::new(),
            resolve_tags: false,
            keep: Duration::ZERO,
            most_kept: 1,
        };
        let metrics = Arc::new(Metrics::default());
        let court = Court::new(policies, rules, Arc::clone(&metrics));
        let webhook = Webhook::new(court, Duration::from_millis(200), true, metrics);
        let ask = || timeout(BODY_TIME, webhook.answer(Hook::Validate, "", Body::from("{}")));
        let all = webhook.bodies.acquire_many(u32::try_from(BODIES).unwrap()).await.unwrap();
        assert_eq!(ask().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(all);
        assert_eq!(ask().await.unwrap().status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn an_answer_comes_before_the_api_server_gives_up() {
        let ours = Duration::from_secs(8);
        for (patience, want) in [
            ("10s", 8000),
            ("5s", 4000),
            ("1s", 800),
            ("", 8000),
            ("1m0s", 8000),
            ("-3s", 8000),
            ("9999999999s", 8000),
        ] {
            assert_eq!(deadline(ours, patience).as_millis(), want, "{patience}");
        }
    }
}
