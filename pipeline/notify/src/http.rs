//! Posting to a webhook: bounded in bytes and time, redirects not followed, tokens not shown.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use reqwest::{Client, StatusCode, header};
use zeroize::Zeroizing;

use crate::{
    Again, Failure,
    secret::{SecretError, SecretUrl, read_public},
    text,
};

/// Longest time for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longest time from the first byte to the end of the answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// Most bytes of an answer that are read: enough for a reason. The rest is left on the wire.
const MAX_ANSWER: usize = 4096;
/// Most of an answer that is shown (characters).
const SHOWN: usize = 200;
/// Largest body that is sent (bytes).
const MAX_BODY: usize = 256 * 1024;

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{0}")]
    Client(String),
}

/// One webhook.
#[derive(Debug)]
pub(crate) struct Poster {
    url: SecretUrl,
    client: Client,
}

impl Poster {
    /// `ca` is a file of PEM certificates that are trusted besides those of the system.
    pub(crate) fn new(url: SecretUrl, ca: Option<&Path>) -> Result<Self, HttpError> {
        let failed = |error: reqwest::Error| HttpError::Client(text::chain(&error));
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(REQUEST_LIMIT)
            // A token goes where the operator said.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("pitlane-notify/", env!("CARGO_PKG_VERSION")));
        if url.is_plain() {
            builder = builder.no_proxy();
        }
        if let Some(file) = ca {
            let pem = read_public(file)?;
            let roots = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(failed)?;
            if roots.is_empty() {
                let why = format!("{}: no certificate in it, want PEM", file.display());
                return Err(HttpError::Client(why));
            }
            builder = builder.tls_certs_merge(roots);
        }
        Ok(Self { url, client: builder.build().map_err(failed)? })
    }

    /// Where it leads, for logs.
    pub(crate) fn shown(&self) -> String {
        self.url.to_string()
    }

    /// Posts once. `secret` is one that the answer must not show.
    pub(crate) async fn post(
        &self,
        media: &str,
        headers: &[(&str, String)],
        body: Bytes,
        secret: Option<&Zeroizing<String>>,
    ) -> Result<(), Failure> {
        if body.len() > MAX_BODY {
            return Err(Failure::never(format!(
                "{} bytes, at most {MAX_BODY} are sent",
                body.len()
            )));
        }
        let mut request = self.client.post(self.url.url().clone()).body(body);
        request = request.header(header::CONTENT_TYPE, media);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let sent = request.send().await;
        // The library puts the whole address into its errors.
        let failed = |error: reqwest::Error| text::chain(&error.without_url());
        let mut answer =
            sent.map_err(|e| Failure::later(format!("{}: {}", self.url, failed(e))))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let again = again(status, answer.headers().get(header::RETRY_AFTER));
        let mut said = Vec::new();
        while said.len() < MAX_ANSWER {
            let Ok(Some(chunk)) = answer.chunk().await else { break };
            said.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - said.len())]);
        }
        let said = String::from_utf8_lossy(&said);
        // Before it is cut: half a token is one that nobody would recognise.
        let secrets: Vec<&str> = secret.iter().map(|secret| secret.as_str()).collect();
        let said = text::line(&self.url.redact(&said, &secrets), SHOWN);
        Err(Failure { why: format!("{} answers {status}: {said}", self.url), again })
    }
}

/// Whether another try may do better after this answer.
fn again(status: StatusCode, retry_after: Option<&header::HeaderValue>) -> Again {
    let may_pass = matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error();
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match (may_pass, seconds) {
        (false, _) => Again::Never,
        (true, None) => Again::Later,
        (true, Some(seconds)) => Again::After(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_may_pass() {
        let five = header::HeaderValue::from_static("5");
        for (status, after, want) in [
            (301, None, Again::Never),
            (302, Some(&five), Again::Never),
            (400, None, Again::Never),
            (404, None, Again::Never),
            (408, None, Again::Later),
            (410, None, Again::Never),
            (429, Some(&five), Again::After(Duration::from_secs(5))),
            (500, None, Again::Later),
            (503, Some(&five), Again::After(Duration::from_secs(5))),
        ] {
            assert_eq!(again(StatusCode::from_u16(status).unwrap(), after), want, "{status}");
        }
        let date = header::HeaderValue::from_static("Fri, 31 Dec 1999 23:59:59 GMT");
        assert_eq!(again(StatusCode::TOO_MANY_REQUESTS, Some(&date)), Again::Later);
    }
}
