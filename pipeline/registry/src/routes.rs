//! From a request to its handler: the path is parsed once, who asks is judged once.
//!
//! Repository names have any number of segments, so paths are read from their end; axum's router
//! only carries the state. The path is taken as sent: of percent-escapes only the colon of a
//! digest is understood, because nothing else in a valid path needs one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, BodyDataStream},
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use pitlane_release::digest::Digest;

use super::{
    Registry,
    access::Right,
    auth::{self, Caller},
    blobs,
    error::ApiError,
    lists, manifests,
    names::{Reference, Repo, UploadId, parse_digest, shown},
    pass::{PASS_SECONDS, Scopes},
    removal, uploading,
};

/// A refused request's body is read up to here before the answer: a client that is still sending
/// when the connection closes may never see why.
const DRAIN_BYTES: usize = 64 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// An address of the API.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Ping,
    Token,
    Catalog,
    Tags(Repo),
    Referrers(Repo, Digest),
    Blob(Repo, Digest),
    Uploads(Repo),
    Upload(Repo, UploadId),
    Manifest(Repo, Reference),
}

/// A request's parts as handlers need them.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Vec<(String, String)>,
    pub(super) caller: Caller,
    /// Whether the caller may pull every repository.
    pub(super) reads_all: bool,
    /// Whether the caller may push to the repository that it asks.
    pub(super) writes: bool,
}

impl Ask {
    /// A header as text.
    pub(super) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first query parameter of this name.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

/// The registry's API, for a listener of its own (it owns `/v2/` and `/token`). Serve it with
/// `TCP_NODELAY`: answers are small, and Nagle's algorithm would hold some back for 40 ms.
pub fn router(registry: Arc<Registry>) -> Router {
    Router::new().fallback(handle).with_state(registry)
}

async fn handle(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut body = body.into_data_stream();
    let mut response = match dispatch(&registry, parts, &mut body).await {
        Ok(response) => response,
        Err(refused) => {
            let drain = async {
                let mut left = DRAIN_BYTES;
                while let Some(Ok(piece)) = body.next().await {
                    let Some(less) = left.checked_sub(piece.len()) else { break };
                    left = less;
                }
            };
            // A client that stalls has nothing under way.
            if refused.status != StatusCode::REQUEST_TIMEOUT {
                let _ = tokio::time::timeout(DRAIN_TIME, drain).await;
            }
            refused.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn dispatch(
    registry: &Arc<Registry>,
    parts: Parts,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let route = parse(parts.uri.path())?;
    let Query(query) = Query::try_from_uri(&parts.uri)
        .map_err(|_| ApiError::bad_query("the query cannot be read: use key=value pairs"))?;
    let Parts { method, headers, .. } = parts;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let caller = registry.auth.caller(&headers, now);
    let realm = auth::realm(&headers);
    let auth = &registry.auth;
    match (&route, needed(&route, &method)) {
        (Route::Ping, _) => auth.ping(&caller, &realm)?,
        (Route::Catalog, _) => auth.list(&caller, &realm)?,
        (_, Some((right, repo))) => auth.may(&caller, right, repo, &realm)?,
        _ => {}
    }
    let deletes = method == Method::DELETE && !matches!(route, Route::Upload(..));
    if deletes && !registry.allow_delete {
        return Err(ApiError::unsupported(
            "deletes are off: start the registry with deletes allowed",
        ));
    }
    let reads_all = auth.reads_all(&caller);
    let writes = needed(&route, &Method::PUT)
        .is_some_and(|(right, repo)| auth.may(&caller, right, repo, &realm).is_ok());
    let ask = Ask { method, headers, query, caller, reads_all, writes };
    let registry = Arc::clone(registry);
    let method = ask.method.clone();
    match (route, method) {
        (Route::Ping, Method::GET | Method::HEAD) => Ok(json(&serde_json::json!({}))),
        (Route::Token, Method::GET) => token(&registry, &ask, now),
        (Route::Catalog, Method::GET) => lists::catalog(registry, &ask).await,
        (Route::Tags(repo), Method::GET) => lists::tags(registry, repo, &ask).await,
        (Route::Referrers(repo, subject), Method::GET) => {
            lists::referrers(registry, repo, subject, &ask).await
        }
        (Route::Blob(repo, digest), Method::GET | Method::HEAD) => {
            blobs::get(registry, repo, digest, &ask).await
        }
        (Route::Blob(repo, digest), Method::DELETE) => {
            blobs::delete(registry, repo, digest, &ask).await
        }
        (Route::Uploads(repo), Method::POST) => uploading::start(registry, repo, &ask, body).await,
        (Route::Upload(repo, id), Method::GET) => uploading::status(registry, repo, id).await,
        (Route::Upload(repo, id), Method::PATCH) => {
            uploading::patch(registry, repo, id, &ask, body).await
        }
        (Route::Upload(repo, id), Method::PUT) => {
            uploading::put(registry, repo, id, &ask, body).await
        }
        (Route::Upload(repo, id), Method::DELETE) => uploading::cancel(registry, repo, id).await,
        (Route::Manifest(repo, reference), Method::GET | Method::HEAD) => {
            manifests::get(registry, repo, reference, &ask).await
        }
        (Route::Manifest(repo, reference), Method::PUT) => {
            manifests::put(registry, repo, reference, &ask, body).await
        }
        (Route::Manifest(repo, reference), Method::DELETE) => {
            removal::delete(registry, repo, reference).await
        }
        (_, method) => Err(ApiError::unsupported(format!(
            "{} is not served here: see the OCI distribution specification",
            shown(method.as_str())
        ))),
    }
}

/// Which right a request needs, and where.
fn needed<'a>(route: &'a Route, method: &Method) -> Option<(Right, &'a Repo)> {
    let read = matches!(*method, Method::GET | Method::HEAD);
    match route {
        Route::Ping | Route::Token | Route::Catalog => None,
        Route::Uploads(repo) | Route::Upload(repo, _) => Some((Right::Push, repo)),
        Route::Tags(repo)
        | Route::Referrers(repo, _)
        | Route::Blob(repo, _)
        | Route::Manifest(repo, _) => Some(match *method {
            Method::DELETE => (Right::Delete, repo),
            _ if read => (Right::Pull, repo),
            _ => (Right::Push, repo),
        }),
    }
}

/// Reads a path from its end.
fn parse(path: &str) -> Result<Route, ApiError> {
    if path == auth::TOKEN_PATH {
        return Ok(Route::Token);
    }
    let rest = match path.strip_prefix("/v2") {
        Some("" | "/") => return Ok(Route::Ping),
        Some("/_catalog") => return Ok(Route::Catalog),
        Some(rest) => rest.strip_prefix('/').ok_or_else(ApiError::not_found)?,
        None => return Err(ApiError::not_found()),
    };
    if let Some(name) =
        rest.strip_suffix("/blobs/uploads").or_else(|| rest.strip_suffix("/blobs/uploads/"))
    {
        return Ok(Route::Uploads(Repo::parse(name)?));
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Ok(Route::Tags(Repo::parse(name)?));
    }
    let (head, last) = rest.rsplit_once('/').ok_or_else(ApiError::not_found)?;
    let (name, kind) = head.rsplit_once('/').ok_or_else(ApiError::not_found)?;
    let last = last.replace("%3A", ":").replace("%3a", ":");
    match kind {
        "manifests" => Ok(Route::Manifest(Repo::parse(name)?, Reference::parse(&last)?)),
        "blobs" => Ok(Route::Blob(Repo::parse(name)?, parse_digest(&last)?)),
        "referrers" => Ok(Route::Referrers(Repo::parse(name)?, parse_digest(&last)?)),
        "uploads" => {
            let name = name.strip_suffix("/blobs").ok_or_else(ApiError::not_found)?;
            Ok(Route::Upload(Repo::parse(name)?, UploadId::parse(&last)?))
        }
        _ => Err(ApiError::not_found()),
    }
}

fn token(registry: &Registry, ask: &Ask, now: u64) -> Result<Response, ApiError> {
    let asked = ask.query.iter().filter(|(key, _)| key == "scope").map(|(_, scope)| scope.as_str());
    let scopes = Scopes::parse(asked)?;
    let pass = registry.auth.hand_out(&ask.caller, &scopes, now)?;
    let mut response = json(&serde_json::json!({
        "token": pass, "access_token": pass, "expires_in": PASS_SECONDS,
    }));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// An answer in JSON.
pub(super) fn json(value: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths() {
        let repo = |name| Repo::parse(name).unwrap();
        let hex = "0".repeat(64);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        for (path, want) in [
            ("/v2", Route::Ping),
            ("/v2/", Route::Ping),
            ("/token", Route::Token),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/tags/list", Route::Tags(repo("a"))),
            ("/v2/a/b/c/tags/list", Route::Tags(repo("a/b/c"))),
            ("/v2/tags/list/tags/list", Route::Tags(repo("tags/list"))),
            ("/v2/a/blobs/uploads/", Route::Uploads(repo("a"))),
            ("/v2/a/blobs/uploads", Route::Uploads(repo("a"))),
            (
                "/v2/a/blobs/uploads/manifests/t",
                Route::Manifest(repo("a/blobs/uploads"), Reference::parse("t").unwrap()),
            ),
            (&format!("/v2/a/b/blobs/sha256:{hex}"), Route::Blob(repo("a/b"), digest)),
            (&format!("/v2/a/b/blobs/sha256%3A{hex}"), Route::Blob(repo("a/b"), digest)),
            (&format!("/v2/a/referrers/sha256:{hex}"), Route::Referrers(repo("a"), digest)),
            (
                &format!("/v2/a/manifests/sha256%3a{hex}"),
                Route::Manifest(repo("a"), Reference::Digest(digest)),
            ),
        ] {
            assert_eq!(parse(path).unwrap(), want, "{path}");
        }
        for bad in [
            "/",
            "",
            "/v1/",
            "/v2x",
            "/v2//tags/list",
            "/v2/tags/list",
            "/v2/../tags/list",
            "/v2/a/../b/tags/list",
            "/v2/%2e%2e/tags/list",
            "/v2/a%2fb/tags/list",
            "/v2/a/manifests/..",
            "/v2/a/manifests/%2e%2e",
            "/v2/a/manifests/",
            "/v2/a/manifests/a%00",
            "/v2/a/blobs/x",
            "/v2/a/uploads/x",
            "/v2/A/tags/list",
            "/v2/a/blobs/uploads/x",
            "/v2/a",
            "/v2/a/b",
            "/v2/manifests/x",
            "/v2/a/_tags/x",
            "/token/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(path in "/v2/[a-z./%:_\\-0-9A-F]{0,60}|\\PC{0,60}") {
            let _ = parse(&path);
        }
    }
}
