//! Our own registry behind something that lies: faults on chosen requests, and a log of all.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use futures_util::{StreamExt as _, stream};
use pitlane_registry::{PushToken, Registry, RegistryConfig, listen::BoundedListener, router};
use tempfile::TempDir;

use super::{TOKEN, options, repository};
use crate::{Client, Options};

/// What is wrong with an answer.
#[derive(Clone)]
pub(super) enum Fault {
    /// This status, with a `Retry-After`; the registry hears nothing.
    Status(u16, Option<&'static str>),
    /// The registry does it, and this status is the answer.
    After(u16),
    /// The registry gets so many bytes of the body, and the client no answer.
    Cut(u64),
    /// Other bytes than these.
    Other(&'static [u8]),
    /// A success that says nothing and did nothing.
    Pretend(u16),
    /// The body breaks off.
    Truncated,
    /// The body never ends.
    Endless,
    /// To another place.
    Redirect(String),
    /// The upload is at another place.
    Location(String),
}

/// A fault of the next `times` requests of this method whose path holds this.
pub(super) struct Rule {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) times: u32,
    pub(super) fault: Fault,
}

#[derive(Clone, Default)]
pub(super) struct Script {
    rules: Arc<Mutex<Vec<Rule>>>,
    log: Arc<Mutex<Vec<String>>>,
}

pub(super) struct Liar {
    pub(super) address: SocketAddr,
    script: Script,
    _dir: TempDir,
}

impl Liar {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = RegistryConfig::new(dir.path());
        config.push_token = Some(PushToken::new(TOKEN).unwrap());
        config.sync = false;
        let registry = Arc::new(Registry::open(config).unwrap());
        let script = Script::default();
        let app = router(registry).layer(from_fn_with_state(script.clone(), lie));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = BoundedListener::new(listener, 64, Duration::from_secs(20));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, script, _dir: dir }
    }

    pub(super) fn client(&self) -> Client {
        self.with(options(TOKEN))
    }

    pub(super) fn with(&self, options: Options) -> Client {
        Client::new(repository(self.address, "cars/donkey"), options).unwrap()
    }

    /// Adds a rule for the requests to come.
    pub(super) fn fault(&self, method: Method, path: &'static str, times: u32, fault: Fault) {
        self.script.rules.lock().unwrap().push(Rule { method, path, times, fault });
    }

    /// Forgets rules and log.
    pub(super) fn honest(&self) {
        self.script.rules.lock().unwrap().clear();
        self.script.log.lock().unwrap().clear();
    }

    /// Requests of this method whose path held this.
    pub(super) fn asked(&self, method: &str, path: &str) -> usize {
        let log = self.script.log.lock().unwrap();
        log.iter().filter(|line| line.starts_with(method) && line.contains(path)).count()
    }
}

async fn lie(State(script): State<Script>, request: Request, next: Next) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    script.log.lock().unwrap().push(line);
    // Logging in is never lied about: the faults are those of requests with a login.
    let logged_in = request.headers().contains_key(header::AUTHORIZATION);
    let fault = {
        let mut rules = script.rules.lock().unwrap();
        let path = request.uri().path().to_owned();
        let found = rules.iter_mut().find(|rule| {
            logged_in
                && rule.times > 0
                && rule.method == *request.method()
                && path.contains(rule.path)
        });
        found.map(|rule| {
            rule.times -= 1;
            rule.fault.clone()
        })
    };
    let Some(fault) = fault else { return next.run(request).await };
    let answer = |status: u16, body: Body| {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    };
    match fault {
        Fault::Status(status, retry_after) => {
            let mut response = answer(status, Body::from("<html>no"));
            if let Some(text) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(text));
            }
            response
        }
        Fault::After(status) => {
            next.run(request).await;
            answer(status, Body::empty())
        }
        Fault::Cut(bytes) => {
            let (mut parts, body) = request.into_parts();
            parts.headers.remove(header::CONTENT_LENGTH);
            let mut left = usize::try_from(bytes).unwrap();
            let cut = body.into_data_stream().map(move |piece| {
                let piece = piece.map_err(std::io::Error::other)?;
                if left == 0 {
                    return Err(std::io::Error::other("cut"));
                }
                let part = piece.slice(..piece.len().min(left));
                left -= part.len();
                Ok(part)
            });
            next.run(Request::from_parts(parts, Body::from_stream(cut))).await;
            // The connection ends without a word, as when a proxy is restarted.
            std::panic::resume_unwind(Box::new("cut"))
        }
        Fault::Other(bytes) => answer(200, Body::from(bytes)),
        Fault::Pretend(status) => {
            drain(request).await;
            answer(status, Body::empty())
        }
        Fault::Truncated => {
            let response = next.run(request).await;
            let (parts, body) = response.into_parts();
            let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let half = bytes.slice(..bytes.len() / 2);
            let broken = [Ok(half), Err(std::io::Error::other("cut"))];
            Response::from_parts(parts, Body::from_stream(stream::iter(broken)))
        }
        Fault::Endless => {
            let mebibyte = Bytes::from(vec![b' '; 1 << 20]);
            let pieces = stream::repeat_with(move || Ok::<_, Infallible>(mebibyte.clone()));
            answer(
                if request.method() == Method::PUT { 201 } else { 200 },
                Body::from_stream(pieces),
            )
        }
        Fault::Redirect(to) => {
            drain(request).await;
            let mut response = answer(307, Body::empty());
            response.headers_mut().insert(header::LOCATION, to.parse().unwrap());
            response
        }
        Fault::Location(to) => {
            let mut response = next.run(request).await;
            response.headers_mut().insert(header::LOCATION, to.parse().unwrap());
            response
        }
    }
}

/// Reads a body to its end: an answer before that may be lost with the connection.
async fn drain(request: Request) {
    let mut body = request.into_body().into_data_stream();
    while body.next().await.is_some_and(|piece| piece.is_ok()) {}
}
