//! One request over HTTP: bounded in time and bytes, answered as it was answered.
//!
//! octocrab carries it. Its typed calls are not used: they read answers of any length, and want
//! fields that differ between servers.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt as _;
use octocrab::Octocrab;
use serde_json::Value;

use crate::{address::ApiAddress, credential::Token, error::tame};

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// To connect.
    pub connect: Duration,
    /// One request with its answer.
    pub request: Duration,
    /// Longest pause that is waited for within a call; a longer one is an error with the time.
    pub patience: Duration,
    /// Before the second attempt; each later pause is twice as long.
    pub backoff: Duration,
    /// How often a request that may be repeated is tried.
    pub attempts: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(30),
            patience: Duration::from_secs(20),
            backoff: Duration::from_millis(500),
            attempts: 4,
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) method: Method,
    /// Path and query, encoded.
    pub(crate) path: &'a str,
    pub(crate) body: Option<&'a Value>,
    /// Answer only if it is not this any more.
    pub(crate) etag: Option<&'a str>,
    /// Largest answer taken (bytes).
    pub(crate) limit: usize,
}

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Raw {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The address of the next page.
    pub(crate) fn next(&self) -> Option<&str> {
        self.header("link")?.split(',').find_map(|link| {
            let (address, relation) = link.trim().split_once('>')?;
            let next = relation.split(';').any(|part| part.trim() == "rel=\"next\"");
            address.strip_prefix('<').filter(|_| next)
        })
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) enum Silence {
    /// It may come another time.
    Gone(String),
    /// The answer is larger than any that is wanted.
    TooLarge,
    /// The request cannot be made.
    Unmade(String),
}

/// The carrier.
#[derive(Clone)]
pub(crate) struct Transport {
    crab: Octocrab,
    times: Times,
}

impl Transport {
    /// Must be made within a tokio runtime, which it uses until it is dropped.
    pub(crate) fn new(address: &ApiAddress, times: Times) -> Result<Self, String> {
        let build = || -> octocrab::Result<Octocrab> {
            Octocrab::builder()
                .base_uri(address.uri().clone())?
                .set_connect_timeout(Some(times.connect))
                .add_header(header::USER_AGENT, "pitlane".to_owned())
                .build()
        };
        let crab = build().map_err(|error| format!("no HTTP client: {}", cause(&error)))?;
        Ok(Self { crab, times })
    }

    pub(crate) fn times(&self) -> Times {
        self.times
    }

    pub(crate) async fn send(&self, wanted: &Wanted<'_>, token: &Token) -> Result<Raw, Silence> {
        let limit = self.times.request;
        match tokio::time::timeout(limit, self.exchange(wanted, token)).await {
            Ok(answer) => answer,
            Err(_) => Err(Silence::Gone(format!("nothing within {} ms", limit.as_millis()))),
        }
    }

    async fn exchange(&self, wanted: &Wanted<'_>, token: &Token) -> Result<Raw, Silence> {
        let unmade = |error: String| Silence::Unmade(tame(&error));
        let gone = |error: &octocrab::Error| Silence::Gone(tame(&cause(error)));
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
            .map_err(|_| unmade("the token cannot be sent".to_owned()))?;
        authorization.set_sensitive(true);
        let mut builder = http::Request::builder()
            .method(wanted.method.clone())
            .uri(wanted.path)
            .header(header::ACCEPT, "application/vnd.github+json")
            .header(header::AUTHORIZATION, authorization);
        if let Some(etag) = wanted.etag {
            builder = builder.header(header::IF_NONE_MATCH, etag);
        }
        let request = self.crab.build_request(builder, wanted.body);
        let request = request.map_err(|error| unmade(cause(&error)))?;
        let response = self.crab.execute(request).await.map_err(|error| gone(&error))?;
        let (parts, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| gone(&error))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > wanted.limit {
                    return Err(Silence::TooLarge);
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(Raw { status: parts.status.as_u16(), headers: parts.headers, body: bytes.into() })
    }
}

/// The innermost reason; the outer ones only say that something failed.
fn cause(error: &octocrab::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        let next = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, link.parse().unwrap());
            let raw = Raw { status: 200, headers, body: Bytes::new() };
            raw.next().map(str::to_owned)
        };
        let both = "<https://h/a?page=1>; rel=\"prev\", <https://h/a?page=3&x=y>; rel=\"next\"";
        assert_eq!(next(both).as_deref(), Some("https://h/a?page=3&x=y"));
        for none in ["", "<https://h/a>; rel=\"last\"", "https://h/a; rel=\"next\"", "<; rel", ",,"]
        {
            assert_eq!(next(none), None, "{none}");
        }
    }
}
