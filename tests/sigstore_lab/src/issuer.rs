//! The issuer of identity tokens (OIDC), as far as certificate authorities look.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use p256::ecdsa::{
    Signature, SigningKey,
    signature::{Signer as _, Verifier as _},
};
use serde_json::{Value, json};

use crate::World;

/// How long a token lives (seconds).
pub(crate) const LIFETIME: i64 = 600;
/// What a job shows to get its token, in the place of `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
pub const REQUEST_TOKEN: &str = "lab-request-token";
const AUDIENCE: &str = "sigstore";
const KEY_ID: &str = "lab-1";

/// Whom a token is for.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Somebody with a mail address.
    Person {
        /// The address.
        email: &'a str,
    },
    /// A job of a workflow.
    Workflow {
        /// The repository, `owner/name`.
        repository: &'a str,
        /// The workflow's file in it.
        workflow: &'a str,
        /// What it runs for: `refs/tags/v1.0.0`.
        reference: &'a str,
        /// The commit.
        commit: &'a str,
    },
}

/// Signs tokens, and knows its own.
pub(crate) struct Issuer {
    url: String,
    key: SigningKey,
}

impl Issuer {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), key: SigningKey::random(&mut rand_core::OsRng) }
    }

    /// A token that ends in so many seconds.
    pub(crate) fn token(&self, subject: &Subject<'_>, lifetime: i64) -> String {
        let now = Timestamp::now().as_second();
        let mut claims = claims(subject);
        claims["iss"] = self.url.as_str().into();
        claims["aud"] = AUDIENCE.into();
        claims["iat"] = (now - 1).into();
        claims["nbf"] = (now - 1).into();
        claims["exp"] = (now + lifetime).into();
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": KEY_ID });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature: Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    /// The claims of a token, when it is one of ours that counts now.
    pub(crate) fn verify(&self, token: &str) -> anyhow::Result<Value> {
        let (signed, signature) = token.rsplit_once('.').unwrap_or_default();
        let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature)?)?;
        self.key.verifying_key().verify(signed.as_bytes(), &signature)?;
        let (_, claims) = signed.split_once('.').unwrap_or_default();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
        let now = Timestamp::now().as_second();
        anyhow::ensure!(claims["iss"] == self.url.as_str(), "another issuer");
        anyhow::ensure!(claims["aud"] == AUDIENCE, "another audience");
        anyhow::ensure!(claims["exp"].as_i64().is_some_and(|end| end > now), "it has ended");
        Ok(claims)
    }
}

/// The names of GitHub's claims are in its documentation of OIDC in Actions.
fn claims(subject: &Subject<'_>) -> Value {
    match *subject {
        Subject::Person { email } => {
            json!({ "sub": format!("lab-user-{email}"), "email": email, "email_verified": true })
        }
        Subject::Workflow { repository, workflow, reference, commit } => {
            let owner = repository.split('/').next().unwrap_or_default();
            let file = format!("{repository}/{workflow}@{reference}");
            json!({
                "sub": format!("repo:{repository}:ref:{reference}"),
                "repository": repository,
                "repository_id": "1001",
                "repository_owner": owner,
                "repository_owner_id": "101",
                "repository_visibility": "public",
                "ref": reference,
                "sha": commit,
                "workflow": "release",
                "workflow_ref": file,
                "workflow_sha": commit,
                "job_workflow_ref": file,
                "job_workflow_sha": commit,
                "event_name": "push",
                "run_id": "4242",
                "run_attempt": "1",
                "runner_environment": "github-hosted",
            })
        }
    }
}

pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/.well-known/openid-configuration", get(configuration))
        .route("/keys", get(keys))
        .route("/actions/token", get(job_token))
        .route("/token", get(person_token))
}

async fn configuration(State(world): State<Arc<World>>) -> Json<Value> {
    let url = &world.issuer.url;
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/keys"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}

async fn keys(State(world): State<Arc<World>>) -> Json<Value> {
    let point = world.issuer.key.verifying_key().to_encoded_point(false);
    let part = |bytes: Option<&p256::FieldBytes>| bytes.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    Json(json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
        "x": part(point.x()), "y": part(point.y()),
    }]}))
}

#[derive(serde::Deserialize)]
struct ForAudience {
    audience: Option<String>,
}

/// A job's token, the way GitHub gives it.
async fn job_token(
    State(world): State<Arc<World>>,
    Query(query): Query<ForAudience>,
    headers: HeaderMap,
) -> Response {
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
    if shown.is_none_or(|shown| !shown.eq_ignore_ascii_case(&format!("bearer {REQUEST_TOKEN}"))) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if query.audience.as_deref() != Some(AUDIENCE) {
        return (StatusCode::BAD_REQUEST, "want audience=sigstore").into_response();
    }
    let subject = Subject::Workflow {
        repository: "team/donkeycar",
        workflow: ".github/workflows/release.yml",
        reference: "refs/tags/v1.0.0",
        commit: "0123456789abcdef0123456789abcdef01234567",
    };
    Json(json!({ "value": world.issuer.token(&subject, LIFETIME) })).into_response()
}

#[derive(serde::Deserialize)]
struct ForPerson {
    email: String,
}

/// A token for anybody, as plain text: for scripts.
async fn person_token(
    State(world): State<Arc<World>>,
    Query(ForPerson { email }): Query<ForPerson>,
) -> String {
    world.issuer.token(&Subject::Person { email: &email }, LIFETIME)
}
