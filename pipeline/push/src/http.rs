//! Requests to one registry: authorized, tried again where that may help, never redirected, every
//! answer bounded in bytes and time.

use std::time::Duration;

use bytes::Bytes;
use pitlane_fetch::FetchError;
use pitlane_release::Repository;
use reqwest::{
    Method, StatusCode, Url,
    header::{self, HeaderMap, HeaderName},
};

use crate::{Login, PushError, Retry, error::said, retry, session::Session};

/// Time to a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest a request without a large body may take, its answer included.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest error body that is read.
const MAX_ERROR: usize = 16 * 1024;

/// A request.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Bytes,
    /// What it is, for messages: `blob sha256:…`.
    pub(crate) what: String,
    /// More repositories of the registry that the request reads from.
    pub(crate) also: Vec<String>,
    /// Most bytes of the answer's body; what is beyond is an error when the answer is a success.
    pub(crate) cap: usize,
}

impl Ask {
    /// A request without headers or body, of which the answer's body is not wanted.
    pub(crate) fn new(method: Method, url: Url, what: &str) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: Bytes::new(),
            what: what.to_owned(),
            also: Vec::new(),
            cap: MAX_ERROR,
        }
    }
}

/// An answer, read to its end or to its cap.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// One registry, as one repository of it is used.
pub(crate) struct Http {
    pub(crate) client: reqwest::Client,
    pub(crate) base: Url,
    pub(crate) repository: Repository,
    retry: Retry,
    pub(crate) session: Session,
}

impl Http {
    pub(crate) fn new(
        repository: Repository,
        plain: bool,
        login: Option<Login>,
        retry: Retry,
    ) -> Result<Self, PushError> {
        let place = repository.registry().to_owned();
        let fail =
            |why: String| PushError::Answer { place: place.clone(), what: "nothing".into(), why };
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .user_agent(concat!("pitlane/", env!("CARGO_PKG_VERSION")));
        // Certificates are only read when there is something to verify.
        let builder = if plain { builder.tls_certs_only([]).no_proxy() } else { builder };
        let client = builder.build().map_err(|error| fail(error.to_string()))?;
        let scheme = if plain { "http" } else { "https" };
        // Docker's own registry is served under another name than it goes by.
        let served = match place.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        let base = Url::parse(&format!("{scheme}://{served}/")).map_err(|e| fail(e.to_string()))?;
        Ok(Self { client, base, repository, retry, session: Session::new(login) })
    }

    pub(crate) const fn retry(&self) -> &Retry {
        &self.retry
    }

    pub(crate) fn place(&self) -> &str {
        self.repository.registry()
    }

    /// An address below the repository.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{path}", self.repository.path()));
        url
    }

    /// An address that the registry gave, when it is the registry's own.
    pub(crate) fn own(&self, location: &str, what: &str) -> Result<Url, PushError> {
        let elsewhere = |to: String| PushError::Elsewhere {
            place: self.place().to_owned(),
            what: what.to_owned(),
            to,
        };
        let url = self.base.join(location).map_err(|_| elsewhere("no address at all".into()))?;
        if url.origin() != self.base.origin()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(elsewhere(url.origin().ascii_serialization()));
        }
        Ok(url)
    }

    /// Sends a request, again and again where that may help. Redirects are errors.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Answer, PushError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let once = tokio::time::timeout(ANSWER_TIMEOUT, self.once(ask)).await;
            let once = once.unwrap_or_else(|_| {
                let why = format!("no whole answer within {} s", ANSWER_TIMEOUT.as_secs());
                Err(Once::Broken(why))
            });
            let (source, asked) = match once {
                Ok(answer) if retry::may_pass(answer.status.as_u16()) => {
                    let asked = retry::asked(answer.header(header::RETRY_AFTER));
                    (self.status(ask, answer.status), asked)
                }
                Ok(answer) => return Ok(answer),
                Err(Once::Final(error)) => return Err(error),
                Err(Once::Broken(why)) => {
                    (FetchError::Unreachable { place: self.place().to_owned(), why }, None)
                }
            };
            let Some(pause) = self.retry.pause(tried, asked, fastrand::f64()) else {
                return Err(PushError::Network { what: ask.what.clone(), tries: tried, source });
            };
            tracing::debug!(what = %ask.what, tried, ?pause, "trying again: {source}");
            tokio::time::sleep(pause).await;
        }
    }

    pub(crate) fn status(&self, ask: &Ask, status: StatusCode) -> FetchError {
        let (place, what) = (self.place().to_owned(), ask.what.clone());
        FetchError::Status { place, what, status: status.as_u16() }
    }

    async fn once(&self, ask: &Ask) -> Result<Answer, Once> {
        let scopes = self.scopes(&ask.also);
        for fresh in [false, true] {
            let body = reqwest::Body::from(ask.body.clone());
            let answer = self.start(ask, &scopes, body).await?;
            if answer.status() == StatusCode::UNAUTHORIZED && !fresh {
                self.log_in(answer.headers(), &scopes).await.map_err(Once::Final)?;
                continue;
            }
            return self.read(ask, answer).await;
        }
        unreachable!("the second turn returns")
    }

    /// Sends a request with this body, and gives the answer before its body.
    pub(crate) async fn start(
        &self,
        ask: &Ask,
        scopes: &[String],
        body: reqwest::Body,
    ) -> Result<reqwest::Response, Once> {
        self.greet(scopes).await?;
        let mut request = self.client.request(ask.method.clone(), ask.url.clone());
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(value) = self.session.token(scopes) {
            request = request.header(header::AUTHORIZATION, value.as_str());
        }
        request.body(body).send().await.map_err(|error| Once::Broken(words(&error)))
    }

    /// Reads an answer's body, and refuses what is no answer to take.
    pub(crate) async fn read(&self, ask: &Ask, answer: reqwest::Response) -> Result<Answer, Once> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        if status.is_redirection() {
            let to = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("");
            let to = self
                .base
                .join(to)
                .map_or_else(|_| String::new(), |url| url.origin().ascii_serialization());
            let (place, what) = (self.place().to_owned(), ask.what.clone());
            return Err(Once::Final(PushError::Elsewhere { place, what, to }));
        }
        let read = status.is_success() && ask.method != Method::HEAD && ask.cap > MAX_ERROR;
        let body = if read {
            bounded(answer, ask.cap).await.map_err(|why| match why {
                Unread::Large(cap) => Once::Final(PushError::Answer {
                    place: self.place().to_owned(),
                    what: ask.what.clone(),
                    why: format!("more than {cap} bytes"),
                }),
                Unread::Broken(why) => Once::Broken(why),
            })?
        } else if status.is_success() {
            // Nobody reads it; an endless one ends with its connection.
            Vec::new()
        } else {
            bounded(answer, MAX_ERROR).await.unwrap_or_default()
        };
        Ok(Answer { status, headers, body })
    }

    /// What a refusal says; for answers that nothing else can be made of.
    pub(crate) fn refused(&self, what: &str, answer: &Answer) -> PushError {
        PushError::Refused {
            place: self.place().to_owned(),
            what: what.to_owned(),
            status: answer.status.as_u16(),
            said: said(&answer.body),
        }
    }
}

/// Why one try gave nothing.
#[derive(Debug)]
pub(crate) enum Once {
    /// The network failed.
    Broken(String),
    /// Trying again would not help.
    Final(PushError),
}

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is larger than this.
    Large(usize),
    /// The connection ended.
    Broken(String),
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Large(cap) => write!(f, "gives more than {cap} bytes"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

/// Reads a body of at most `cap` bytes.
pub(crate) async fn bounded(mut answer: reqwest::Response, cap: usize) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| Unread::Broken(words(&error)))? {
        if body.len() + part.len() > cap {
            return Err(Unread::Large(cap));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// The innermost cause, without the address: an upload's may hold a token of its own.
pub(crate) fn words(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match inner.downcast_ref::<reqwest::Error>() {
        Some(_) => "the request failed".to_owned(),
        None => inner.to_string(),
    }
}
