//! The other end of [`super::api`]: what `pitlane runs` and `pitlane rollback` ask.
//! [`super::render`] makes text of the answers.

use std::{fmt::Write as _, time::Duration};

use pitlane_release::{CarKind, causes};
use reqwest::{Method, Response, header};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    api::{
        AlertList, ApproveRequest, CarList, MAX_WAIT, PlaceList, RollbackRequest, RunList, StepList,
    },
    local::ReleaseRequest,
    reply::{Told, Wrapped},
    secret::Token,
    store::{Alert, Approved, Car, Placed, Run, RunFilter, StepRecord},
};

/// A request to the API ends after this long, whatever happens.
const TIME: Duration = Duration::from_secs(20);
/// Longest that a run is followed.
const LONGEST: Duration = Duration::from_hours(6);
/// The largest answer: 200 runs, or the steps of one with their outputs.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why the API gave no answer, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("`{0}` is no address of an API: want http://HOST:PORT")]
    Address(String),
    /// Nobody answered.
    #[error("no answer from {address}: {reason}; is `pitlane serve` running, and is this its API?")]
    Http {
        /// Asked address.
        address: String,
        /// Why.
        reason: String,
    },
    /// What came back is not what the API sends.
    #[error("{address} answered {status} with something that is not Pitlane's: {reason}")]
    Answer {
        /// Asked address.
        address: String,
        /// HTTP status.
        status: u16,
        /// Why.
        reason: String,
    },
    /// The API refused.
    #[error("{told}{}", if told.hint.is_empty() { String::new() } else { format!("; {}", told.hint) })]
    Refused {
        /// HTTP status.
        status: u16,
        /// Code, message and hint.
        told: Told,
    },
}

/// A client of one service's API.
#[derive(Debug)]
pub struct Client {
    base: String,
    token: Option<Token>,
    http: reqwest::Client,
}

impl Client {
    /// A client of the API at `base` (`http://127.0.0.1:9011`); `token` for what changes state.
    pub fn new(base: &str, token: Option<Token>) -> Result<Self, ClientError> {
        let base = base.trim_end_matches('/').to_owned();
        let good = base.starts_with("http://") || base.starts_with("https://");
        if !good || reqwest::Url::parse(&base).is_err() {
            return Err(ClientError::Address(base));
        }
        let mut builder = reqwest::Client::builder().timeout(TIME).no_proxy();
        if base.starts_with("http://") {
            // Reading the machine's certificates costs more than the request.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.redirect(reqwest::redirect::Policy::none()).build();
        let http =
            http.map_err(|e| ClientError::Http { address: base.clone(), reason: causes(&e) })?;
        Ok(Self { base, token, http })
    }

    /// `pitlane runs list`.
    pub async fn list(&self, filter: &RunFilter) -> Result<Vec<Run>, ClientError> {
        let mut path = String::from("/runs?");
        let mut add = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                path.push_str(key);
                path.push('=');
                for byte in value.bytes() {
                    match byte {
                        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                            path.push(char::from(byte));
                        }
                        _ => {
                            let _ = write!(path, "%{byte:02X}");
                        }
                    }
                }
                path.push('&');
            }
        };
        add("state", filter.state.map(|state| state.name().to_owned()));
        add("repository", filter.repository.clone());
        add("tag", filter.tag.clone());
        add("before", filter.before.map(|seq| seq.to_string()));
        add("limit", filter.limit.map(|limit| limit.to_string()));
        Ok(self.ask::<RunList>(Method::GET, &path, None::<&()>).await?.runs)
    }

    /// `pitlane runs show RUN`.
    pub async fn show(&self, id: &str) -> Result<Run, ClientError> {
        self.ask(Method::GET, &format!("/runs/{}", segment(id)), None::<&()>).await
    }

    /// `pitlane runs logs RUN`.
    pub async fn steps(&self, id: &str) -> Result<Vec<StepRecord>, ClientError> {
        let path = format!("/runs/{}/steps", segment(id));
        Ok(self.ask::<StepList>(Method::GET, &path, None::<&()>).await?.steps)
    }

    /// `pitlane runs places RUN`.
    pub async fn places(&self, id: &str) -> Result<Vec<Placed>, ClientError> {
        let path = format!("/runs/{}/places", segment(id));
        Ok(self.ask::<PlaceList>(Method::GET, &path, None::<&()>).await?.places)
    }

    /// `pitlane runs approve RUN`.
    pub async fn approve(
        &self,
        id: &str,
        environment: &CarKind,
        by: &str,
    ) -> Result<Approved, ClientError> {
        let body = ApproveRequest { environment: environment.clone(), by: by.to_owned() };
        self.ask(Method::POST, &format!("/runs/{}/approve", segment(id)), Some(&body)).await
    }

    /// `pitlane cars list`.
    pub async fn cars(&self) -> Result<Vec<Car>, ClientError> {
        Ok(self.ask::<CarList>(Method::GET, "/cars", None::<&()>).await?.cars)
    }

    /// The alerts.
    pub async fn alerts(&self) -> Result<Vec<Alert>, ClientError> {
        Ok(self.ask::<AlertList>(Method::GET, "/alerts", None::<&()>).await?.alerts)
    }

    /// `pitlane runs retry RUN`.
    pub async fn retry(&self, id: &str) -> Result<Run, ClientError> {
        self.ask(Method::POST, &format!("/runs/{}/retry", segment(id)), None::<&()>).await
    }

    /// `pitlane runs cancel RUN`.
    pub async fn cancel(&self, id: &str) -> Result<Run, ClientError> {
        self.ask(Method::POST, &format!("/runs/{}/cancel", segment(id)), None::<&()>).await
    }

    /// `pitlane runs logs -f RUN`: calls `each` with the name and the JSON of every event, until
    /// the stream ends.
    pub async fn follow(
        &self,
        id: &str,
        mut each: impl FnMut(&str, &str),
    ) -> Result<(), ClientError> {
        let failed = |e: &reqwest::Error| ClientError::Http {
            address: self.base.clone(),
            reason: causes(e),
        };
        let url = format!("{}/runs/{}/events", self.base, segment(id));
        let mut response =
            self.http.get(url).timeout(LONGEST).send().await.map_err(|e| failed(&e))?;
        if !response.status().is_success() {
            // The plain request for the run says why.
            return self.show(id).await.map(drop);
        }
        let mut waiting = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| failed(&e))? {
            waiting.extend_from_slice(&chunk);
            while let Some(end) = waiting.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = waiting.drain(..end + 2).collect();
                let text = String::from_utf8_lossy(&event);
                let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    each(name, data);
                }
            }
            if waiting.len() > MAX_ANSWER {
                let (address, status) = (self.base.clone(), response.status().as_u16());
                let reason = format!("an event of more than {MAX_ANSWER} bytes");
                return Err(ClientError::Answer { address, status, reason });
            }
        }
        Ok(())
    }

    /// `pitlane release --service`; returns when the run is accepted.
    pub async fn release(&self, request: &ReleaseRequest) -> Result<Run, ClientError> {
        self.ask(Method::POST, "/releases", Some(request)).await
    }

    /// Waits until a run has ended, done or failed.
    pub async fn end(&self, id: &str) -> Result<Run, ClientError> {
        loop {
            let path = format!("/runs/{}?wait={MAX_WAIT}", segment(id));
            let run: Run = self.ask(Method::GET, &path, None::<&()>).await?;
            if run.state.is_over() {
                return Ok(run);
            }
        }
    }

    /// `pitlane rollback TAG`.
    pub async fn rollback(&self, repository: &str, tag: &str) -> Result<Run, ClientError> {
        let body = RollbackRequest { repository: repository.to_owned(), tag: tag.to_owned() };
        self.ask(Method::POST, "/rollback", Some(&body)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let failed = |e: &reqwest::Error| ClientError::Http {
            address: self.base.clone(),
            reason: causes(e),
        };
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token.header().as_str());
        }
        if let Some(body) = body {
            let body = serde_json::to_vec(body).unwrap_or_default();
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = request.send().await.map_err(|e| failed(&e))?;
        let status = response.status();
        let bad = |reason: String| ClientError::Answer {
            address: self.base.clone(),
            status: status.as_u16(),
            reason,
        };
        let bytes = bounded(&mut response, MAX_ANSWER).await.map_err(|e| failed(&e))?;
        let bytes = bytes.ok_or_else(|| bad(format!("more than {MAX_ANSWER} bytes")))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()));
        }
        let wrapped: Wrapped = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        Err(ClientError::Refused { status: status.as_u16(), told: wrapped.error })
    }
}

/// A run's name as one path segment: names hold letters, digits and `-` alone.
fn segment(id: &str) -> String {
    let known = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '_';
    let safe: String = id.chars().filter(known).take(80).collect();
    if safe.is_empty() { "-".to_owned() } else { safe }
}

/// The body of an answer; `None` where it is larger than `cap`.
pub(super) async fn bounded(
    response: &mut Response,
    cap: usize,
) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut all = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if all.len() + chunk.len() > cap {
            return Ok(None);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(Some(all))
}
