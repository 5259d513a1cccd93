//! `POST /webhook`: signature over the raw body, then meaning, then the store, then the answer.
//!
//! | answer | when |
//! |---|---|
//! | 202 `{"delivery","run"}` | the tag has a run, and both are on disk |
//! | 200 `{"ignored"}` / `{"ok"}` | nothing to run / ping |
//! | 400 | unreadable headers or JSON |
//! | 401 | no valid signature |
//! | 403, 404 | the secret is another repository's / the repository is not on the list |
//! | 405, 408, 413, 415 | method, slow body, large body, content type |
//! | 409 | the tag moved; the delivery id was used for another body |
//! | 503 | the store cannot keep it now: deliver again |

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    event::{self, Event, TagPush},
    openapi::Endpoint,
    reply::Refused,
    request::{BODY_TIME, Head, MAX_BODY, content_type, read, signature, unsigned},
    route::Routes,
    secret::{Secrets, Signature, Signed},
    store::{Decision, Delivery, Receipt, Store},
};

/// Bodies in memory at once, in KiB: four of the largest, or thousands of usual ones.
const BODIES_KIB: usize = 4 * MAX_BODY / 1024;
/// Above this a body is hashed and parsed off the async threads (about 1 ms a MiB and secret).
const LARGE: usize = 256 * 1024;
/// The webhook: who may send, what they may start, where it is kept.
#[derive(Debug)]
pub struct Intake {
    store: Store,
    routes: Routes,
    secrets: Secrets,
    memory: Semaphore,
}

impl Intake {
    /// A webhook over a store. Without secrets every delivery is refused.
    pub fn new(store: Store, routes: Routes, secrets: Secrets) -> Self {
        Self { store, routes, secrets, memory: Semaphore::new(BODIES_KIB) }
    }

    /// The routes of the public listener: `/webhook` and `/healthz`, nothing else.
    pub fn router(self) -> Router {
        Router::new()
            .route("/webhook", post(receive).fallback(wrong_method))
            .route("/healthz", get(healthz))
            .fallback(not_found)
            .with_state(Arc::new(self))
    }
}

/// What is answered to senders, for the document.
pub(super) fn endpoints() -> Vec<Endpoint> {
    const FORMS: &[&str] = &["application/json", "application/x-www-form-urlencoded"];
    let one = Endpoint::post("/webhook", "Takes a delivery: a push of a tag")
        .headers(&[
            ("X-GitHub-Event", "`push` or `ping`; others start nothing."),
            ("X-GitHub-Delivery", "The delivery's id."),
            ("X-Hub-Signature-256", "`sha256=` and the HMAC of the body by the secret."),
        ])
        .body::<serde_json::Map<String, serde_json::Value>>(FORMS)
        .json::<serde_json::Value>(202, "The tag has a run, and both are on disk.")
        .json::<serde_json::Value>(200, "Nothing to run, or a ping.")
        .refuses(401, "No valid signature.")
        .refuses(403, "The secret is another repository's.")
        .refuses(404, "The repository is not on the list.")
        .refuses(408, "The body came too slowly.")
        .refuses(409, "The tag moved, or the id was used for another body.");
    vec![one]
}

async fn wrong_method() -> Refused {
    let hint = "GitHub and `pitlane hook` send POST";
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this takes POST alone", hint)
}

async fn not_found() -> Refused {
    let hint = "deliveries go to /webhook";
    Refused::new(StatusCode::NOT_FOUND, "path", "nothing is here", hint)
}

async fn healthz(State(intake): State<Arc<Intake>>) -> Result<Response, Refused> {
    intake.store.healthy().await?;
    Ok(Json(json!({"status": "ok"})).into_response())
}

async fn receive(
    State(intake): State<Arc<Intake>>,
    request: Request<Body>,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let form = content_type(&parts.headers)?;
    let signature = signature(&parts.headers)?;
    let (body, _memory) = read(&intake.memory, &parts.headers, body, BODY_TIME).await?;
    let head = Head::of(&parts.headers);
    if body.len() > LARGE {
        let judging = Arc::clone(&intake);
        let task = tokio::task::spawn_blocking(move || {
            let judged = judge(&judging, &signature, &head, form, &body)?;
            Ok::<_, Refused>((judged, head, body))
        });
        let (judged, head, body) = task.await.map_err(|_| internal())??;
        return keep(&intake, judged, head, body).await;
    }
    let judged = judge(&intake, &signature, &head, form, &body)?;
    keep(&intake, judged, head, body).await
}

fn internal() -> Refused {
    let message = "the delivery could not be judged";
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message, "see the service's log")
}

/// What goes into the store; nothing of a ping does.
struct Judged {
    decision: Decision,
    /// What a sender is told whose delivery starts nothing.
    ignored: Option<String>,
}

/// All that is decided without the store.
fn judge(
    intake: &Intake,
    signature: &Signature,
    head: &Head,
    form: bool,
    body: &[u8],
) -> Result<Option<Judged>, Refused> {
    let signed = intake
        .secrets
        .verify(signature, body)
        .ok_or_else(|| unsigned("X-Hub-Signature-256 does not match the body"))?;
    let bad = |code: &str, message: String| {
        Refused::new(StatusCode::BAD_REQUEST, code, message, "send what GitHub's push event sends")
    };
    let event = head.event.as_deref();
    let event = event.ok_or_else(|| bad("headers", "X-GitHub-Event is missing".to_owned()))?;
    if head.delivery.is_none() {
        return Err(bad("headers", "X-GitHub-Delivery is missing or unreadable".to_owned()));
    }
    let parsed = if form {
        event::form_payload(body).and_then(|payload| event::parse(event, &payload))
    } else {
        event::parse(event, body)
    };
    let event = parsed.map_err(|error| bad("payload", error.to_string()))?;
    let repository = event.repository().map(|name| listed(intake, &signed, name)).transpose()?;
    Ok(decide(intake, event, repository))
}

/// The repository's name on the list, if it is there and the secret is one of its own.
fn listed(intake: &Intake, signed: &Signed, name: &str) -> Result<String, Refused> {
    let canonical = intake.routes.canonical(name).ok_or_else(|| {
        Refused::new(
            StatusCode::NOT_FOUND,
            "repository-not-listed",
            format!("{name} is not on this service's list"),
            "the operator adds it with its pipeline to the configuration, then deliver again",
        )
    })?;
    if !signed.covers(canonical) {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "secret-of-another-repository",
            format!("the secret that signed this is not one of {name}"),
            "give this repository's hook its own secret",
        ));
    }
    Ok(canonical.to_owned())
}

/// `listed` is the repository's name on the list; every tag event has one.
fn decide(intake: &Intake, event: Event, listed: Option<String>) -> Option<Judged> {
    match event {
        Event::Ping => None,
        Event::Tag(push) => {
            let repository = listed.unwrap_or_else(|| push.repository.clone());
            let Some(route) = intake.routes.find(&repository, &push.tag) else {
                return Some(Judged {
                    ignored: Some(format!("tag {} matches no pattern of {repository}", push.tag)),
                    decision: Decision::Ignored { repository: Some(repository) },
                });
            };
            let push = TagPush { repository, ..push };
            Some(Judged { decision: Decision::Run { push, route: route.clone() }, ignored: None })
        }
        Event::Deleted { tag, repository } => Some(Judged {
            ignored: Some(format!("tag {tag} was deleted: recorded, nothing to run")),
            decision: Decision::Deleted { repository: listed.unwrap_or(repository), tag },
        }),
        Event::Ignored { reason, .. } => Some(Judged {
            decision: Decision::Ignored { repository: listed },
            ignored: Some(reason),
        }),
    }
}

async fn keep(
    intake: &Intake,
    judged: Option<Judged>,
    head: Head,
    body: Bytes,
) -> Result<Response, Refused> {
    let Some(Judged { decision, ignored }) = judged else {
        return Ok(Json(json!({"ok": "pong"})).into_response());
    };
    let (Some(id), Some(event)) = (head.delivery, head.event) else { return Err(internal()) };
    let delivery = Delivery { id: id.clone(), event, headers: head.kept, body, decision };
    match intake.store.deliver(delivery).await? {
        Receipt::Accepted { run, repeat } => {
            tracing::info!(delivery.id = %id, run.id = %run, repeat, "delivery accepted");
            let body = Json(json!({"delivery": id, "run": run, "repeat": repeat}));
            Ok((StatusCode::ACCEPTED, body).into_response())
        }
        Receipt::Recorded => Ok(Json(json!({"ignored": ignored})).into_response()),
        Receipt::Moved { recorded, offered } => {
            tracing::warn!(delivery.id = %id, %recorded, %offered, "moved tag refused");
            Err(Refused::new(
                StatusCode::CONFLICT,
                "tag-moved",
                format!("the tag was released at {recorded} and now names {offered}"),
                "push a new tag; a tag that was seen once stays at its commit",
            ))
        }
        Receipt::Reused => Err(Refused::new(
            StatusCode::CONFLICT,
            "delivery-reused",
            format!("delivery {id} was seen with another body"),
            "every delivery needs its own X-GitHub-Delivery",
        )),
    }
}
