//! Answers a registry's authentication challenge: Basic, or the token flow.
//!
//! Source: distribution's token authentication specification; RFC 7617.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_release::Repository;

use crate::{Challenge, Credentials, FetchError};

/// Largest answer of a token server (bytes).
const MAX_TOKEN: usize = 64 * 1024;
/// Longest a token may take.
const TOKEN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// The Authorization header that answers the challenge; `None` when it cannot be answered.
pub(crate) async fn answer(
    client: &reqwest::Client,
    url_scheme: &str,
    challenge: &str,
    repository: &Repository,
    credentials: Option<&Credentials>,
) -> Result<Option<String>, FetchError> {
    let basic = credentials
        .map(|c| format!("Basic {}", STANDARD.encode(format!("{}:{}", c.user, c.password))));
    // Credentials go over TLS, or to this machine, and nowhere else.
    let safe = url_scheme == "https" || crate::registry::is_loopback(repository.registry());
    let (realm, service) = match Challenge::parse(challenge) {
        Some(Challenge::Basic) => return Ok(basic.filter(|_| safe)),
        Some(Challenge::Bearer { realm, service }) => (realm, service),
        None => return Ok(None),
    };
    let Ok(mut url) = realm.parse::<reqwest::Url>() else { return Ok(None) };
    // Credentials go over TLS, or to this machine, and nowhere else.
    let host = url.host_str().unwrap_or("").to_owned();
    if url.scheme() != "https" && !crate::registry::is_loopback(&host) {
        return Ok(None);
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", &format!("repository:{}:pull", repository.path()));
    }
    let mut request = client.get(url);
    if let Some(basic) = basic {
        request = request.header(reqwest::header::AUTHORIZATION, basic);
    }
    let failed = |why: String| FetchError::Unreachable { place: host.clone(), why };
    let read = async {
        let mut answer = request.send().await.map_err(|e| failed(e.to_string()))?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|e| failed(e.to_string()))? {
            if body.len() + part.len() > MAX_TOKEN {
                return Err(failed("the token is too large".into()));
            }
            body.extend_from_slice(&part);
        }
        Ok(Some(body))
    };
    let read = tokio::time::timeout(TOKEN_TIMEOUT, read).await;
    let Some(body) = read.map_err(|_| failed("the token takes too long".into()))?? else {
        return Ok(None);
    };
    #[derive(serde::Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
    }
    let token: Token = serde_json::from_slice(&body).map_err(|e| failed(e.to_string()))?;
    Ok(token.token.or(token.access_token).map(|token| format!("Bearer {token}")))
}
