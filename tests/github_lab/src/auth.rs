//! Who asks: Apps by a signed token of their own, installations and people by issued tokens; and
//! what each of them may do.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, refuse},
    world::World,
};

/// Longest that an App's own token may be good for (s).
const APP_TOKEN_LIFE: i64 = 600;

/// A registered App with one installation.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) id: u64,
    pub(crate) installation: u64,
    pub(crate) public_key: Vec<u8>,
    pub(crate) permissions: BTreeMap<String, String>,
    /// Repositories that it is installed for, in lower case.
    pub(crate) repositories: BTreeSet<String>,
}

/// A token that was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// `None` for a person's.
    pub(crate) installation: Option<u64>,
    pub(crate) permissions: BTreeMap<String, String>,
    pub(crate) repositories: BTreeSet<String>,
    /// By the lab's clock (s).
    pub(crate) expires: Option<i64>,
    pub(crate) revoked: bool,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Nobody,
    App(App),
    Token(Issued),
}

impl Caller {
    /// What their requests are counted under.
    pub(crate) fn bucket(&self) -> String {
        match self {
            Self::Nobody => "nobody".to_owned(),
            Self::App(app) => format!("app-{}", app.id),
            Self::Token(Issued { installation: Some(id), .. }) => format!("installation-{id}"),
            Self::Token(_) => "person".to_owned(),
        }
    }
}

/// A new key pair: the private key as GitHub hands it out (PKCS #1 in PEM), and the public key.
pub(crate) fn key_pair() -> anyhow::Result<(String, Vec<u8>)> {
    let pair = KeyPair::generate(KeySize::Rsa2048)?;
    let wrapped: Pkcs8V1Der<'_> = pair.as_der()?;
    let inner = pkcs8::PrivateKeyInfo::try_from(wrapped.as_ref())
        .map_err(|error| anyhow::anyhow!("the key cannot be read: {error}"))?;
    let text = STANDARD.encode(inner.private_key);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    let pem = format!(
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
        lines.join("\n")
    );
    Ok((pem, pair.public_key().as_ref().to_vec()))
}

/// Who an `Authorization` header speaks for.
pub(crate) fn caller(world: &World, header: Option<&str>) -> Result<Caller, Answer> {
    let Some(header) = header else { return Ok(Caller::Nobody) };
    let bad = || refuse(401, "Bad credentials");
    let (scheme, value) = header.split_once(' ').ok_or_else(bad)?;
    let token = match scheme.to_ascii_lowercase().as_str() {
        "bearer" | "token" => value.to_owned(),
        "basic" => {
            let decoded = STANDARD.decode(value).ok().and_then(|b| String::from_utf8(b).ok());
            let decoded = decoded.ok_or_else(bad)?;
            decoded.split_once(':').ok_or_else(bad)?.1.to_owned()
        }
        _ => return Err(bad()),
    };
    if token.matches('.').count() == 2 {
        return app(world, &token).map(Caller::App);
    }
    let issued = world.tokens.get(&token).ok_or_else(bad)?;
    if issued.revoked || issued.expires.is_some_and(|end| end <= world.now()) {
        return Err(bad());
    }
    Ok(Caller::Token(issued.clone()))
}

fn app(world: &World, token: &str) -> Result<App, Answer> {
    let wrong = || refuse(401, "A JSON web token could not be decoded");
    let (signed, signature) = token.rsplit_once('.').ok_or_else(wrong)?;
    let (header, claims) = signed.split_once('.').ok_or_else(wrong)?;
    let read = |text: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    };
    let (header, claims) = (read(header).ok_or_else(wrong)?, read(claims).ok_or_else(wrong)?);
    if header["alg"] != "RS256" {
        return Err(wrong());
    }
    let issuer = claims["iss"].as_u64().or_else(|| claims["iss"].as_str()?.parse().ok());
    let app = world.apps.iter().find(|app| Some(app.id) == issuer);
    let app = app.ok_or_else(|| refuse(404, "Integration not found"))?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| wrong())?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &app.public_key)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| wrong())?;
    let now = world.now();
    let (begins, ends) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    if ends <= now {
        return Err(refuse(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        ));
    }
    if ends > now + APP_TOKEN_LIFE {
        return Err(refuse(401, "'Expiration time' claim ('exp') is too far in the future"));
    }
    if begins > now {
        return Err(refuse(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        ));
    }
    Ok(app.clone())
}

/// Refuses who may not do this to a repository. What they may not even see is not there.
pub(crate) fn need(
    world: &World,
    caller: &Caller,
    repository: &str,
    permission: &str,
    level: &str,
) -> Result<(), Answer> {
    let hidden = || refuse(404, "Not Found");
    let found = world.repositories.get(repository).ok_or_else(hidden)?;
    let issued = match caller {
        Caller::Token(issued) if issued.repositories.contains(repository) => issued,
        // Anybody may read what is public.
        _ if !found.private && level == "read" => return Ok(()),
        _ => return Err(hidden()),
    };
    if permission == "checks" && level == "write" && issued.installation.is_none() {
        return Err(refuse(403, "You must authenticate via a GitHub App."));
    }
    let held = issued.permissions.get(permission).map(String::as_str);
    if held == Some("write") || held == Some(level) || permission == "metadata" {
        return Ok(());
    }
    let who = if issued.installation.is_some() { "integration" } else { "personal access token" };
    let mut answer = refuse(403, &format!("Resource not accessible by {who}"));
    answer
        .headers
        .push(("x-accepted-github-permissions".to_owned(), format!("{permission}={level}")));
    Err(answer)
}

/// Hands out a token of an installation, no wider than the App.
pub(crate) fn issue(world: &mut World, app: &App, wanted: &Value) -> Result<Answer, Answer> {
    let mut permissions = app.permissions.clone();
    if let Some(asked) = wanted["permissions"].as_object() {
        for (name, level) in asked {
            let held = app.permissions.get(name).map(String::as_str);
            if held != Some("write") && held != level.as_str() {
                return Err(refuse(
                    422,
                    "The permissions requested are not granted to this installation.",
                ));
            }
        }
        permissions = asked
            .iter()
            .map(|(name, level)| (name.clone(), level.as_str().unwrap_or_default().to_owned()))
            .collect();
    }
    let mut repositories = app.repositories.clone();
    if let Some(asked) = wanted["repositories"].as_array() {
        let asked: Vec<String> =
            asked.iter().filter_map(Value::as_str).map(str::to_lowercase).collect();
        let has =
            |full: &String| asked.iter().any(|n| full.split_once('/').is_some_and(|(_, f)| f == n));
        repositories.retain(has);
        if repositories.len() < asked.len() {
            return Err(refuse(
                422,
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            ));
        }
    }
    let token = format!("ghs_lab{:033}", world.id());
    let expires = world.now() + i64::try_from(world.token_life.as_secs()).unwrap_or(i64::MAX);
    let answer = json!({
        "token": token, "expires_at": crate::world::time(expires), "permissions": permissions,
        "repository_selection": "selected",
    });
    let issued = Issued {
        installation: Some(app.installation),
        permissions,
        repositories,
        expires: Some(expires),
        revoked: false,
    };
    world.tokens.insert(token, issued);
    Ok(Answer::new(201, answer))
}
