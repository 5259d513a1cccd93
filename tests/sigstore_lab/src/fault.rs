//! What the instance can be told to do wrong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::World;

/// What a flood brings (bytes): more than any answer that is wanted.
const FLOOD: usize = 8 * 1024 * 1024;

/// A part of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The issuer of tokens.
    Issuer,
    /// The certificate authority.
    Authority,
    /// The log that speaks Rekor v2.
    Log,
    /// The log that speaks Rekor v1.
    OldLog,
    /// The timestamp authority.
    Stamper,
}

/// What a part does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes a request and never answers.
    Hangs,
    /// It answers, and does not stop for megabytes.
    Floods,
    /// It answers 503.
    Fails,
    /// It answers 503 once.
    FailsOnce,
    /// It sends the request elsewhere.
    Redirects,
    /// It answers with what is not its format.
    Babbles,
    /// The authority certifies a key that nobody asked it for.
    OtherKey,
    /// The authority certifies for a time that is over.
    Expired,
    /// The authority names another issuer than the token's.
    OtherIssuer,
    /// The authority names nobody.
    Nameless,
    /// The authority names somebody else.
    OtherName,
    /// The authority logs no certificate.
    NoLogProof,
    /// The authority gives the log's proof beside the certificate.
    Detached,
    /// A log answers with an entry about another signature.
    OtherSignature,
    /// A log answers with an entry of another kind.
    OtherKind,
    /// A log proves nothing.
    NoProof,
    /// A log proves something else.
    BrokenProof,
    /// Another log signs the checkpoint.
    OtherLog,
    /// There is no stamp.
    Denies,
    /// The stamp is about something else.
    OtherContent,
    /// The stamp answers another request.
    OtherNonce,
    /// Another authority stamps.
    OtherStamper,
}

/// The faults of all parts, and how often each was asked.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<HashMap<Part, (Option<Fault>, usize)>>);

impl Faults {
    pub(crate) fn set(&self, part: Part, fault: Option<Fault>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(part).or_default().0 = fault;
    }

    pub(crate) fn requests(&self, part: Part) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(part).or_default().1
    }

    /// Whether a part is told to do this.
    pub(crate) fn is(&self, part: Part, fault: Fault) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(part).or_default().0
            == Some(fault)
    }

    /// Counts a request, and gives what is wrong with its answer.
    fn asked(&self, part: Part) -> Option<Fault> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (fault, requests) = faults.entry(part).or_default();
        *requests += 1;
        let now = *fault;
        if now == Some(Fault::FailsOnce) {
            *fault = None;
        }
        now
    }
}

/// The faults that need not know what was asked.
pub(crate) async fn middleware(
    State((world, part)): State<(Arc<World>, Part)>,
    request: Request,
    next: Next,
) -> Response {
    match world.faults.asked(part) {
        Some(Fault::Hangs) => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Some(Fault::Floods) => (StatusCode::CREATED, vec![b'x'; FLOOD]).into_response(),
        Some(Fault::Fails | Fault::FailsOnce) => {
            (StatusCode::SERVICE_UNAVAILABLE, "out for lunch").into_response()
        }
        Some(Fault::Redirects) => {
            let elsewhere = [("location", world.addresses.issuer.clone())];
            (StatusCode::TEMPORARY_REDIRECT, elsewhere).into_response()
        }
        Some(Fault::Babbles) => (StatusCode::CREATED, "<html>").into_response(),
        _ => next.run(request).await,
    }
}

/// An answer that refuses a request, as gRPC gateways give it.
pub(crate) fn refuse(why: impl std::fmt::Display) -> Response {
    let body = serde_json::json!({ "code": 3, "message": why.to_string() });
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}
