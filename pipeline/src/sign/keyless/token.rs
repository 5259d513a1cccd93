//! Identity tokens: where they come from, and what they say about whom the certificate will name.
//!
//! Nothing is verified here: that is the certificate authority's part. What is read decides what
//! is signed as proof of possession, and what the certificate must say in return.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use reqwest::Url;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    error::KeylessError,
    http::{Http, Service},
    services::is_private,
};

/// Whom a token for Sigstore is for.
const AUDIENCE: &str = "sigstore";
/// Largest token (bytes); GitHub's have 2 kB.
const MAX_TOKEN: usize = 32 * 1024;
/// Where a token may be found without being asked for; GitLab and others fill it.
const VARIABLE: &str = "SIGSTORE_ID_TOKEN";
/// Where GitHub Actions gives tokens to jobs that may have one.
const GITHUB: (&str, &str) = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN");

/// Where identity tokens come from. They live for minutes, so one is got for each signature.
pub enum TokenSource {
    /// The token itself.
    Text(Zeroizing<String>),
    /// A file with a token, which something else keeps fresh. Its mode is not looked at: mounted
    /// tokens of Kubernetes are readable to all in their pod.
    File(PathBuf),
    /// A GitHub Actions job with `permissions: id-token: write`.
    GitHub {
        /// Where to ask.
        url: Url,
        /// With what.
        bearer: Zeroizing<String>,
    },
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::GitHub { .. } => f.write_str("GitHub"),
        }
    }
}

impl TokenSource {
    /// What the environment offers: `SIGSTORE_ID_TOKEN`, else GitHub Actions.
    pub fn from_environment() -> Result<Self, KeylessError> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(token) = get(VARIABLE) {
            return Ok(Self::Text(Zeroizing::new(token)));
        }
        let (Some(url), Some(bearer)) = (get(GITHUB.0), get(GITHUB.1)) else {
            let why = format!("none was given, and neither {VARIABLE} nor {} is set", GITHUB.0);
            return Err(KeylessError::Token(why));
        };
        let url = Url::parse(&url).ok().filter(is_private);
        let url =
            url.ok_or_else(|| KeylessError::Token(format!("{} is no https address", GITHUB.0)))?;
        Ok(Self::GitHub { url, bearer: Zeroizing::new(bearer) })
    }

    /// Gets a token that is good at this time.
    pub(super) async fn token(
        &self,
        http: &Http,
        now: Timestamp,
    ) -> Result<IdentityToken, KeylessError> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => read(path)?,
            Self::GitHub { url, bearer } => ask_github(http, url, bearer).await?,
        };
        IdentityToken::parse(&text, now)
    }
}

fn read(path: &std::path::Path) -> Result<Zeroizing<String>, KeylessError> {
    use std::io::Read as _;
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(MAX_TOKEN as u64 + 1).read_to_string(&mut text))
        .map_err(|error| KeylessError::Token(format!("{}: {error}", path.display())))?;
    Ok(text)
}

/// Source: GitHub's documentation of OIDC in Actions, "methods for requesting the token".
async fn ask_github(
    http: &Http,
    url: &Url,
    bearer: &str,
) -> Result<Zeroizing<String>, KeylessError> {
    #[derive(Deserialize)]
    struct Answer {
        value: String,
    }
    let mut url = url.clone();
    url.query_pairs_mut().append_pair("audience", AUDIENCE);
    let service = Service { name: "token service", url: &url };
    let body = Zeroizing::new(http.get(service, bearer, 2 * MAX_TOKEN).await?);
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|_| service.error("its answer holds no token"))?;
    Ok(Zeroizing::new(answer.value))
}

/// A token, and what it claims.
pub(super) struct IdentityToken {
    text: Zeroizing<String>,
    claims: Claims,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    sub: String,
    aud: Audience,
    exp: i64,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: Option<serde_json::Value>,
    #[serde(default, rename = "federated_claims")]
    relayed: Option<Federated>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Who really attested it, when the issuer is a relay (Dex).
#[derive(Deserialize)]
struct Federated {
    #[serde(default)]
    connector_id: Option<String>,
}

impl IdentityToken {
    /// Reads a token (RFC 7519, JWS compact form).
    pub(super) fn parse(text: &str, now: Timestamp) -> Result<Self, KeylessError> {
        let fail = |why: String| Err(KeylessError::Token(why));
        let text = text.trim();
        if text.len() > MAX_TOKEN {
            return fail(format!("{} bytes, at most {MAX_TOKEN}", text.len()));
        }
        let mut parts = text.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return fail("not a JWT: want three parts with dots between".into());
        };
        let claims = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok();
        let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
        let Some(claims) = claims else {
            return fail("its claims cannot be read: want `iss`, `aud`, `exp`".into());
        };
        let for_us = match &claims.aud {
            Audience::One(aud) => aud == AUDIENCE,
            Audience::Many(auds) => auds.iter().any(|aud| aud == AUDIENCE),
        };
        if !for_us {
            return fail(format!("it is not for the audience `{AUDIENCE}`"));
        }
        let late = now.as_second().saturating_sub(claims.exp);
        if late >= 0 {
            return fail(format!("it ended {late} s ago"));
        }
        let token = Self { text: Zeroizing::new(text.to_owned()), claims };
        if token.subject().is_empty() {
            return fail("it names nobody: no `sub`".into());
        }
        if token.email().is_some() && !token.email_is_verified() {
            return fail("its issuer has not verified the mail address".into());
        }
        Ok(token)
    }

    /// The token, to be sent.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What proves possession of the key when it is signed: the mail address, else the subject.
    pub(super) fn subject(&self) -> &str {
        self.email().unwrap_or(&self.claims.sub)
    }

    /// The mail address, which is then the certificate's name, too.
    pub(super) fn email(&self) -> Option<&str> {
        self.claims.email.as_deref().filter(|email| !email.is_empty())
    }

    /// The issuer that the certificate must name.
    pub(super) fn issuer(&self) -> &str {
        let relayed = self.claims.relayed.as_ref();
        relayed
            .and_then(|federated| federated.connector_id.as_deref())
            // A connector's id is an issuer's address with the public instance, a mere word elsewhere.
            .filter(|id| id.starts_with("https://"))
            .unwrap_or(&self.claims.iss)
    }

    fn email_is_verified(&self) -> bool {
        match &self.claims.email_verified {
            Some(serde_json::Value::Bool(verified)) => *verified,
            Some(serde_json::Value::String(text)) => text == "true",
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn good() -> Value {
        json!({"iss": "https://issuer.example", "sub": "repo:team/car:ref:refs/tags/v1",
            "aud": "sigstore", "exp": 1_800_000_060})
    }

    #[test]
    fn who_is_named() {
        let token = IdentityToken::parse(&jwt(&good()), now()).unwrap();
        assert_eq!(token.subject(), "repo:team/car:ref:refs/tags/v1");
        assert_eq!((token.issuer(), token.email()), ("https://issuer.example", None));

        let mut claims = good();
        claims["aud"] = json!(["other", "sigstore"]);
        claims["email"] = "eve@example.org".into();
        claims["email_verified"] = true.into();
        claims["federated_claims"] = json!({"connector_id": "https://github.com/login/oauth"});
        let token = IdentityToken::parse(&format!(" {}\n", jwt(&claims)), now()).unwrap();
        assert_eq!(token.subject(), "eve@example.org");
        assert_eq!(token.issuer(), "https://github.com/login/oauth");
        claims["federated_claims"] = json!({"connector_id": "ldap"});
        let token = IdentityToken::parse(&jwt(&claims), now()).unwrap();
        assert_eq!(token.issuer(), "https://issuer.example");
    }

    #[test]
    fn tokens_that_cannot_work_are_not_sent() {
        type Edit = fn(&mut Value);
        let table: [(&str, Edit, &str); 6] = [
            ("audience", |c| c["aud"] = "https://github.com/team".into(), "audience"),
            ("ended", |c| c["exp"] = 1_800_000_000.into(), "ended 0 s ago"),
            ("nobody", |c| c["sub"] = "".into(), "nobody"),
            ("unverified", |c| c["email"] = "eve@example.org".into(), "not verified"),
            (
                "said to be unverified",
                |c| {
                    c["email"] = "eve@example.org".into();
                    c["email_verified"] = "false".into();
                },
                "not verified",
            ),
            ("no issuer", |c| c["iss"] = Value::Null, "cannot be read"),
        ];
        for (name, edit, want) in table {
            let mut claims = good();
            edit(&mut claims);
            let Err(error) = IdentityToken::parse(&jwt(&claims), now()) else {
                panic!("{name} is accepted")
            };
            assert!(error.to_string().contains(want), "{name}: {error}");
        }
        for text in ["", "a.b", "a.b.c", "a.b.c.d", &"x".repeat(MAX_TOKEN + 1)] {
            assert!(IdentityToken::parse(text, now()).is_err(), "{text:.20}");
        }
    }

    #[test]
    fn no_token_is_shown() {
        let shown = format!("{:?}", TokenSource::Text(Zeroizing::new("secret".into())));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
