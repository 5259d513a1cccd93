//! The listener: who asks, how much they may ask, what is to go wrong, and then the answer.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Method, Request, Response, header},
};
use futures_util::stream;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::{
    Shared,
    answer::{Answer, Ask, decode, refuse},
    api,
    auth::caller,
    control,
    fault::{Fault, due},
    smart,
    world::{Asked, World},
};

/// Where an enterprise server has its API.
pub(crate) const ENTERPRISE: &str = "/api/v3";
/// Largest body that is read (bytes).
const LARGEST: usize = 2 * 1024 * 1024;
/// What a flood brings (bytes): more than any answer that is wanted.
const FLOOD: usize = 64 * 1024 * 1024;

/// The connection ends without an answer.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("gone")
    }
}

impl std::error::Error for Gone {}

pub(crate) async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { one(&shared, request).await }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn one(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, Gone> {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(Body::new(body), LARGEST).await else {
        return Ok(respond(refuse(413, "too large")));
    };
    let path = parts.uri.path().to_owned();
    if path.contains(".git/") {
        return Ok(smart::serve(shared, &parts, body).await);
    }
    if path == control::PATH && parts.method == Method::POST {
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let done = control::push(&mut shared.world(), &body);
        let refused = |error: anyhow::Error| refuse(422, &format!("{error:#}"));
        return Ok(respond(done.map_or_else(refused, Answer::ok)));
    }
    let (base, path) = match path.strip_prefix(ENTERPRISE) {
        Some(path) => (ENTERPRISE, path.to_owned()),
        None => ("", path),
    };
    let query = parts.uri.query().unwrap_or_default();
    let method = parts.method.as_str();
    let shown = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
    let fault = due(&mut shared.world().rules, method, &shown);
    match &fault {
        Some(Fault::Hangs) => tokio::time::sleep(Duration::from_hours(1)).await,
        Some(Fault::Status(status)) => {
            note(shared, method, &shown, *status, false, &parts.headers);
            let page = Body::from("<html>a page for people</html>");
            return Ok(Response::builder().status(*status).body(page).unwrap_or_default());
        }
        Some(Fault::Says(text)) => {
            let status = if method == "POST" { 201 } else { 200 };
            note(shared, method, &shown, status, false, &parts.headers);
            let body = Body::from(text.clone());
            return Ok(Response::builder().status(status).body(body).unwrap_or_default());
        }
        Some(Fault::Redirects(to)) => {
            note(shared, method, &shown, 302, false, &parts.headers);
            let redirect = Response::builder().status(302).header(header::LOCATION, to);
            return Ok(redirect.body(Body::empty()).unwrap_or_default());
        }
        _ => {}
    }
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let ask = Ask {
        method: method.to_owned(),
        base: format!("{}{base}", shared.world().base),
        parts: path
            .split('/')
            .skip(1)
            .filter(|p| !p.is_empty())
            .map(|p| decode(p, false))
            .collect(),
        path,
        query: pairs.map(|(key, value)| (decode(key, true), decode(value, true))).collect(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let mut answer = answer(&mut shared.world(), &ask, &parts.headers, !body.is_empty());
    if base == ENTERPRISE {
        answer.headers.push(("x-github-enterprise-version".to_owned(), "3.19.0".to_owned()));
    }
    let status = if fault == Some(Fault::Lost) { 0 } else { answer.status };
    let cost = answer.status != 304;
    note(shared, method, &shown, status, cost, &parts.headers);
    match fault {
        Some(Fault::Lost) => Err(Gone),
        Some(Fault::Truncated) => {
            let text = answer.body.to_string();
            let half = Bytes::from(text[..text.len() / 2].to_owned());
            let parts = [Ok(half), Err(std::io::Error::other("cut"))];
            let body = Body::from_stream(stream::iter(parts));
            Ok(Response::builder().status(answer.status).body(body).unwrap_or_default())
        }
        Some(Fault::Floods) => {
            let lump = Bytes::from(vec![b' '; 64 * 1024]);
            let lumps = (0..FLOOD / lump.len()).map(move |_| Ok::<_, Infallible>(lump.clone()));
            let body = Body::from_stream(stream::iter(lumps));
            Ok(Response::builder().status(answer.status).body(body).unwrap_or_default())
        }
        _ => Ok(respond(answer)),
    }
}

/// Remembers a request.
fn note(shared: &Shared, method: &str, path: &str, status: u16, cost: bool, headers: &HeaderMap) {
    let version = headers.get("x-github-api-version").and_then(|v| v.to_str().ok());
    shared.world().asked.push(Asked {
        method: method.to_owned(),
        path: path.to_owned(),
        status,
        cost,
        api_version: version.unwrap_or_default().to_owned(),
    });
}

fn answer(world: &mut World, ask: &Ask, headers: &HeaderMap, has_body: bool) -> Answer {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("user-agent").is_none() {
        return refuse(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.",
        );
    }
    if has_body && ask.body.is_null() {
        return refuse(400, "Problems parsing JSON");
    }
    let caller = match caller(world, text("authorization")) {
        Ok(caller) => caller,
        Err(refused) => return refused,
    };
    let (who, now) = (caller.bucket(), world.now());
    let mut answer = match world.limits.check(&who, now) {
        Ok(()) => api::route(world, &caller, ask).unwrap_or_else(|refused| refused),
        Err(mut refused) => {
            refused.headers.extend(world.limits.count(&who, now, false));
            return refused;
        }
    };
    if ask.method == "GET" && answer.status == 200 {
        let tag = hex::encode(Sha256::digest(answer.body.to_string()));
        let tag = format!("W/\"{tag}\"");
        if text("if-none-match") == Some(tag.as_str()) {
            answer = Answer { status: 304, body: Value::Null, headers: answer.headers };
        }
        answer.headers.push(("etag".to_owned(), tag));
    }
    let cost = answer.status != 304;
    answer.headers.extend(world.limits.count(&who, now, cost));
    answer
}

fn respond(answer: Answer) -> Response<Body> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let empty = answer.status == 304 || answer.status == 204;
    let body = if empty { Body::empty() } else { Body::from(answer.body.to_string()) };
    response
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .body(body)
        .unwrap_or_default()
}
