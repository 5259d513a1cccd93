//! Requests to the services: bounded in bytes, time and tries.

use std::time::Duration;

use reqwest::{RequestBuilder, Url};

use super::error::KeylessError;

/// Waits before the second and the third try. Longer outages are for whoever started us to
/// repeat; certificates and tokens live for minutes.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// Longest time for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Most of a refused request's answer that is shown (characters).
const SHOWN: usize = 300;

/// A client.
#[derive(Clone, Debug)]
pub(super) struct Http(reqwest::Client);

/// A service, as errors name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service<'a> {
    pub(super) name: &'static str,
    pub(super) url: &'a Url,
}

impl Service<'_> {
    /// An error about what this service did.
    pub(super) fn error(&self, why: impl std::fmt::Display) -> KeylessError {
        // An address may carry a secret in its query.
        let mut url = self.url.clone();
        url.set_query(None);
        KeylessError::Service { service: self.name, url: url.to_string(), why: why.to_string() }
    }
}

/// Why one try failed, and whether another may do better.
struct Failure {
    why: String,
    again: bool,
}

impl Http {
    /// A client whose requests take no longer than this each. Redirects are not followed: a token
    /// goes where the operator said.
    pub(super) fn new(limit: Duration) -> Result<Self, KeylessError> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT.min(limit))
            .timeout(limit)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("pitlane/", env!("CARGO_PKG_VERSION")))
            .build();
        client.map(Self).map_err(|error| KeylessError::Services(chain(&error)))
    }

    /// Posts a body and gives the answer's, of at most so many bytes.
    pub(super) async fn post(
        &self,
        service: Service<'_>,
        media: &str,
        body: Vec<u8>,
        most: usize,
    ) -> Result<Vec<u8>, KeylessError> {
        let body = bytes::Bytes::from(body);
        let request = || {
            let request = self.0.post(service.url.clone()).body(body.clone());
            request.header(reqwest::header::CONTENT_TYPE, media)
        };
        retried(service, request, most).await
    }

    /// Gets something with a bearer token.
    pub(super) async fn get(
        &self,
        service: Service<'_>,
        bearer: &str,
        most: usize,
    ) -> Result<Vec<u8>, KeylessError> {
        retried(service, || self.0.get(service.url.clone()).bearer_auth(bearer), most).await
    }
}

/// Tries again what may pass: no connection, 429 and 5xx. A time-out is final, so that the whole
/// has an end that one can wait for.
async fn retried(
    service: Service<'_>,
    request: impl Fn() -> RequestBuilder,
    most: usize,
) -> Result<Vec<u8>, KeylessError> {
    let mut pauses = PAUSES.iter();
    loop {
        let failure = match once(request(), most).await {
            Ok(body) => return Ok(body),
            Err(failure) => failure,
        };
        match pauses.next().filter(|_| failure.again) {
            Some(pause) => {
                tracing::warn!(url = %service.url.origin().ascii_serialization(), why = failure.why,
                    "{} failed, trying again", service.name);
                tokio::time::sleep(*pause).await;
            }
            None => return Err(service.error(failure.why)),
        }
    }
}

async fn once(request: RequestBuilder, most: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error: reqwest::Error| Failure {
        again: error.is_connect() && !error.is_timeout(),
        why: chain(&error.without_url()),
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > most {
            let why = format!("it answers with more than {most} bytes");
            return Err(Failure { why, again: false });
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(body);
    }
    let text = String::from_utf8_lossy(&body);
    let shown: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    let again = status.is_server_error() || status.as_u16() == 429;
    Err(Failure { why: format!("it answers {status}: {shown}"), again })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
