//! Answers a registry's challenge: Basic, or a token for a scope.
//!
//! Secrets go over TLS or to this machine, and nowhere else. Source: distribution's token
//! authentication specification, its `OAuth2` form; RFC 7617.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
pub(crate) use pitlane_fetch::Challenge;
use reqwest::{Url, header};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{Login, PushError, http::bounded, logins::Secret};

/// Largest answer of a token server (bytes).
const MAX_TOKEN: usize = 64 * 1024;
/// Longest a token may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a token lasts whose server does not say (token specification).
const USUAL_SECONDS: u64 = 60;
/// A token is let go of this much before its end.
const MARGIN: Duration = Duration::from_secs(10);

/// An `Authorization` header, and until when it is good.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) value: Zeroizing<String>,
    pub(crate) until: Option<Instant>,
}

/// Answers a challenge of `place` for these scopes; `None` when it wants a login that is not there.
pub(crate) async fn answer(
    client: &reqwest::Client,
    place: &str,
    secure: bool,
    challenge: &Challenge,
    scopes: &[String],
    login: Option<&Login>,
) -> Result<Option<Authorization>, PushError> {
    match challenge {
        Challenge::Basic => {
            let Some(Login::Password { user, password }) = login else { return Ok(None) };
            if !secure {
                return Err(PushError::Login {
                    place: place.to_owned(),
                    why: "it speaks plain HTTP, over which no password is sent; use TLS".into(),
                });
            }
            Ok(Some(Authorization { value: basic(user, password), until: None }))
        }
        Challenge::Bearer { realm, service } => {
            let fail = |why: String| PushError::Login { place: place.to_owned(), why };
            let url: Url =
                realm.parse().map_err(|_| fail("its token server has no address".into()))?;
            let host = url.host_str().unwrap_or("").to_owned();
            if url.scheme() != "https" && !pitlane_fetch::registry::is_loopback(&host) {
                return Err(fail(format!("its token server {host} speaks plain HTTP")));
            }
            let request = request(client, url, service.as_deref(), scopes, login);
            let read = async {
                let answer =
                    request.send().await.map_err(|error| fail(error.without_url().to_string()))?;
                let status = answer.status();
                if !status.is_success() {
                    return Err(fail(format!("its token server {host} answers {status}")));
                }
                bounded(answer, MAX_TOKEN).await.map_err(|why| fail(format!("{host} {why}")))
            };
            let read = tokio::time::timeout(TOKEN_TIMEOUT, read).await;
            let body =
                read.map_err(|_| fail(format!("its token server {host} takes too long")))??;
            let body = Zeroizing::new(body);
            token(&body)
                .ok_or_else(|| fail(format!("what its token server {host} gives is no token")))
                .map(Some)
        }
    }
}

fn basic(user: &str, password: &str) -> Zeroizing<String> {
    let login = Zeroizing::new(format!("{user}:{password}"));
    Zeroizing::new(format!("Basic {}", STANDARD.encode(login.as_bytes())))
}

fn request(
    client: &reqwest::Client,
    mut url: Url,
    service: Option<&str>,
    scopes: &[String],
    login: Option<&Login>,
) -> reqwest::RequestBuilder {
    if let Some(Login::Identity(refresh)) = login {
        // A form of the same shape as a query.
        let mut form = Url::parse("http://form").expect("a constant address");
        let scope = scopes.join(" ");
        let mut pairs = form.query_pairs_mut();
        pairs.append_pair("grant_type", "refresh_token").append_pair("client_id", "pitlane");
        pairs.append_pair("refresh_token", refresh).append_pair("scope", &scope);
        pairs.append_pair("service", service.unwrap_or(""));
        drop(pairs);
        let body = form.query().unwrap_or("").to_owned();
        let kind = "application/x-www-form-urlencoded";
        return client.post(url).header(header::CONTENT_TYPE, kind).body(body);
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    let request = client.get(url);
    match login {
        Some(Login::Password { user, password }) => {
            request.header(header::AUTHORIZATION, basic(user, password).as_str())
        }
        _ => request,
    }
}

fn token(body: &[u8]) -> Option<Authorization> {
    #[derive(Deserialize)]
    struct Given {
        token: Option<Secret>,
        access_token: Option<Secret>,
        expires_in: Option<u64>,
    }
    let answer: Given = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.0.is_empty())?;
    let lasts = Duration::from_secs(answer.expires_in.unwrap_or(USUAL_SECONDS));
    let until = Instant::now().checked_add(lasts.saturating_sub(MARGIN));
    Some(Authorization { value: Zeroizing::new(format!("Bearer {}", *token.0)), until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let read = |text: &str| token(text.as_bytes()).map(|found| found.value.to_string());
        assert_eq!(read(r#"{"token":"a","access_token":"b"}"#).as_deref(), Some("Bearer a"));
        assert_eq!(read(r#"{"access_token":"b","expires_in":300}"#).as_deref(), Some("Bearer b"));
        for none in ["", "{}", r#"{"token":""}"#, r#"{"token":1}"#, "[]"] {
            assert_eq!(read(none), None, "{none}");
        }
        // One that has run out on arrival is used once, and asked for again.
        assert!(
            token(br#"{"token":"a","expires_in":0}"#).unwrap().until.unwrap() <= Instant::now()
        );
        assert!(token(br#"{"token":"a","expires_in":18446744073709551615}"#).is_some());
    }

    proptest::proptest! {
        /// What strangers say in headers and bodies never panics, and stays short.
        #[test]
        fn strangers_words(text in "(Bearer |Basic )?[\\PC\"=, ]{0,80}", body in "\\PC{0,300}") {
            let _ = Challenge::parse(&text);
            let _ = token(body.as_bytes());
            proptest::prop_assert!(crate::error::said(body.as_bytes()).chars().count() <= 202);
        }
    }
}
