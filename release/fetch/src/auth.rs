//! Answers a registry's authentication challenge: Basic, or the token flow.
//!
//! Source: distribution's token authentication specification; RFC 7617.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_release::Repository;

use crate::{Credentials, FetchError};

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
    let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
    // Credentials go over TLS, or to this machine, and nowhere else.
    let safe = url_scheme == "https" || crate::registry::is_loopback(repository.registry());
    if scheme.eq_ignore_ascii_case("basic") {
        return Ok(basic.filter(|_| safe));
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let Some(realm) = parameter(parameters, "realm") else { return Ok(None) };
    let Ok(mut url) = realm.parse::<reqwest::Url>() else { return Ok(None) };
    // Credentials go over TLS, or to this machine, and nowhere else.
    let host = url.host_str().unwrap_or("").to_owned();
    if url.scheme() != "https" && !crate::registry::is_loopback(&host) {
        return Ok(None);
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = parameter(parameters, "service") {
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

/// One `name="value"` of a challenge.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = parameters;
    loop {
        let (key, tail) = rest.split_once("=\"")?;
        let (value, tail) = tail.split_once('"')?;
        if key.trim_start_matches([',', ' ']).eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn challenges_are_read() {
        let text = r#"realm="https://auth.example/token",service="r.example", scope="a,b""#;
        assert_eq!(super::parameter(text, "realm"), Some("https://auth.example/token"));
        assert_eq!(super::parameter(text, "service"), Some("r.example"));
        assert_eq!(super::parameter(text, "scope"), Some("a,b"));
        assert_eq!(super::parameter(text, "missing"), None);
        assert_eq!(super::parameter("=\"", "realm"), None);
    }
}
