//! One delivery's request: its content type, signature, body and headers, all bounded.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{reply::Refused, secret::Signature};

/// GitHub delivers nothing larger.
pub(super) const MAX_BODY: usize = 25 * 1024 * 1024;
/// A body must have arrived after this long; GitHub itself gives up after 10 s.
pub(super) const BODY_TIME: Duration = Duration::from_secs(30);
/// `X-GitHub-Delivery` is a GUID of 36 characters, `X-GitHub-Event` a word.
const MAX_NAME: usize = 100;
/// Headers that are kept with a delivery; none of them is a secret.
const KEPT: [&str; 6] = [
    "x-github-hook-id",
    "x-github-hook-installation-target-id",
    "x-github-hook-installation-target-type",
    "x-github-enterprise-host",
    "user-agent",
    "content-type",
];
/// Length of a kept header's value.
const KEPT_LENGTH: usize = 256;

/// Whether the body is a form (`payload=...`) rather than JSON.
pub(super) fn content_type(headers: &HeaderMap) -> Result<bool, Refused> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let kind = value.split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(false);
    }
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(true);
    }
    Err(Refused::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "content-type",
        format!("content type `{}` is not taken", kind.escape_debug()),
        "set the hook's content type to application/json",
    ))
}

pub(super) fn unsigned(message: &str) -> Refused {
    Refused::new(
        StatusCode::UNAUTHORIZED,
        "signature",
        message,
        "give the hook the secret that the service has; the service takes X-Hub-Signature-256",
    )
}

/// The one signature header; two of them are nobody's meaning.
pub(super) fn signature(headers: &HeaderMap) -> Result<Signature, Refused> {
    let mut values = headers.get_all("x-hub-signature-256").iter();
    let value = values.next().ok_or_else(|| unsigned("X-Hub-Signature-256 is missing"))?;
    let parsed = value.to_str().ok().and_then(Signature::parse).filter(|_| values.next().is_none());
    parsed.ok_or_else(|| unsigned("X-Hub-Signature-256 is not sha256= and 64 hexadecimal digits"))
}

fn too_large() -> Refused {
    Refused::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        format!("the body is larger than {MAX_BODY} bytes"),
        "GitHub sends no larger payloads either; push fewer commits at once",
    )
}

/// Reads the body: capped in bytes and time, within the memory that all bodies share.
pub(super) async fn read<'a>(
    memory: &'a Semaphore,
    headers: &HeaderMap,
    body: Body,
    time: Duration,
) -> Result<(Bytes, SemaphorePermit<'a>), Refused> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok());
    let length = length.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if length > MAX_BODY as u64 {
        return Err(too_large());
    }
    let reading = async {
        let mut held = memory.try_acquire_many(0).map_err(|_| crowded())?;
        let mut all = BytesMut::new();
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| {
                Refused::new(StatusCode::BAD_REQUEST, "body", "the body broke off", "deliver again")
            })?;
            if all.len() + chunk.len() > MAX_BODY {
                return Err(too_large());
            }
            all.extend_from_slice(&chunk);
            let want = all.len().div_ceil(1024) - held.num_permits();
            let more = u32::try_from(want).map_err(|_| too_large())?;
            held.merge(memory.try_acquire_many(more).map_err(|_| crowded())?);
        }
        Ok((all.freeze(), held))
    };
    tokio::time::timeout(time, reading).await.unwrap_or_else(|_| {
        Err(Refused::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow",
            format!("the body did not arrive within {} ms", time.as_millis()),
            "deliver again",
        ))
    })
}

fn crowded() -> Refused {
    let message = "too many large deliveries at once";
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message, "deliver again in a few seconds")
}

/// The headers that say what was delivered.
pub(super) struct Head {
    pub(super) delivery: Option<String>,
    pub(super) event: Option<String>,
    pub(super) kept: String,
}

impl Head {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let name = |header: &str| {
            let value = headers.get(header)?.to_str().ok()?;
            let fits = (1..=MAX_NAME).contains(&value.len());
            (fits && value.bytes().all(|b| b.is_ascii_graphic())).then(|| value.to_owned())
        };
        let kept: serde_json::Map<_, _> = KEPT
            .into_iter()
            .filter_map(|key| {
                let value = headers.get(key)?.to_str().ok()?;
                let value: String = value.chars().take(KEPT_LENGTH).collect();
                Some((key.to_owned(), value.into()))
            })
            .collect();
        Self {
            delivery: name("x-github-delivery"),
            event: name("x-github-event"),
            kept: serde_json::Value::from(kept).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn bodies_that_never_end_or_are_too_many() {
        let memory = Semaphore::new(8);
        let none = HeaderMap::new();
        let quick = Duration::from_millis(50);
        let silent = Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
        let start = Instant::now();
        let refused = read(&memory, &none, silent, quick).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::REQUEST_TIMEOUT);
        assert!(start.elapsed() < Duration::from_secs(5));
        let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        let refused = read(&memory, &none, Body::from_stream(broken), quick).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let first = read(&memory, &none, Body::from(vec![1; 6000]), quick).await.unwrap();
        let second = read(&memory, &none, Body::from(vec![1; 6000]), quick).await.unwrap_err();
        assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        assert!(read(&memory, &none, Body::from(vec![1; 6000]), quick).await.is_ok());
        assert_eq!(memory.available_permits(), 8, "all memory was given back");
    }
}
