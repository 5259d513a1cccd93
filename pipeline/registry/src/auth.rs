//! Who may do what: the push token, further tokens with fewer rights, and reads for everybody
//! where that is allowed.
//!
//! Clients send a token as the password of HTTP Basic (any user name) or as a Bearer token. Where
//! anything may be read without one, the challenge is a Bearer one with a token endpoint: Docker
//! and skopeo send their login only to registries that ask for it at `/v2/`, and Docker cannot pull
//! without a login from one that asks for Basic. The endpoint gives a login a pass for an hour, and
//! everybody else one that only reads. Where every read needs a token, it is plain Basic.

use std::fmt;

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    access::{Access, Grant, Pattern, Right, Rights},
    error::{ApiError, RegistryError},
    names::Repo,
    pass::{self, Passes, Scopes},
};

/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;
/// Longer ones do not fit into the headers that clients send.
const MAX_TOKEN_BYTES: usize = 1024;
/// What the token endpoint gives to who has no login: reads as if nothing were sent.
const ANONYMOUS_PASS: &str = "anonymous";
/// The address of the token endpoint.
pub(super) const TOKEN_PATH: &str = "/token";

/// The secret that allows everything. It is never printed, and wiped when dropped.
pub struct PushToken(Zeroizing<String>);

impl PushToken {
    /// Takes a token, without the line end of the file it came from: 16 to 1024 visible ASCII
    /// characters.
    pub fn new(text: &str) -> Result<Self, RegistryError> {
        let token = Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned());
        if token.len() < MIN_TOKEN_BYTES {
            return Err(RegistryError::BadToken("is shorter than 16 characters"));
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(RegistryError::BadToken("is longer than 1024 characters"));
        }
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(RegistryError::BadToken("holds spaces or characters outside ASCII"));
        }
        Ok(Self(token))
    }
}

impl fmt::Debug for PushToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PushToken(..)")
    }
}

/// What a request's credentials say about who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// No credentials.
    Anonymous,
    /// Somebody with a token, or with a pass that stands for one.
    Known {
        /// Which of the tokens.
        grant: usize,
        /// What the pass is for; none with the token itself.
        scopes: Option<Scopes>,
    },
    /// Credentials that are wrong or out of date.
    Wrong,
}

/// The rules of this registry.
#[derive(Debug)]
pub(super) struct Auth {
    grants: Vec<Grant>,
    /// What everybody may pull.
    public: Vec<Pattern>,
    passes: Passes,
}

impl Auth {
    pub(super) fn new(token: Option<PushToken>, access: Access, anonymous_pull: bool) -> Self {
        let passes = Passes::new(token.as_ref().map(|token| token.0.as_bytes()));
        let own = token.map(|token| Grant {
            name: "push".to_owned(),
            hash: Sha256::digest(token.0.as_bytes()).into(),
            rights: Rights::ALL,
            repositories: vec![Pattern::All],
            expires: None,
        });
        let public = if anonymous_pull { vec![Pattern::All] } else { Vec::new() };
        let public = access.anonymous.unwrap_or(public);
        Self { grants: own.into_iter().chain(access.grants).collect(), public, passes }
    }

    /// Judges the `Authorization` header. `now`: seconds since 1970.
    pub(super) fn caller(&self, headers: &HeaderMap, now: u64) -> Caller {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Caller::Anonymous };
        let Some((scheme, rest)) = value.to_str().ok().and_then(|v| v.split_once(' ')) else {
            return Caller::Wrong;
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return match rest {
                ANONYMOUS_PASS => Caller::Anonymous,
                _ => {
                    self.token(rest, now).or_else(|| self.pass(rest, now)).unwrap_or(Caller::Wrong)
                }
            };
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Caller::Wrong;
        }
        let Some(login) = STANDARD.decode(rest).ok().and_then(|b| String::from_utf8(b).ok()) else {
            return Caller::Wrong;
        };
        let login = Zeroizing::new(login);
        match login.split_once(':') {
            // Clients without a login send an empty one after a Basic challenge.
            Some(("", "")) => Caller::Anonymous,
            Some((_, password)) => self.token(password, now).unwrap_or(Caller::Wrong),
            None => Caller::Wrong,
        }
    }

    fn token(&self, given: &str, now: u64) -> Option<Caller> {
        // Hashes, so that the comparison tells nothing about the length; all of them, so that it
        // tells nothing about the order either.
        let given: [u8; 32] = Sha256::digest(given).into();
        let mut found = None;
        for (grant, known) in self.grants.iter().enumerate() {
            if bool::from(known.hash.ct_eq(&given)) {
                found = Some(grant);
            }
        }
        let grant = found.filter(|grant| !self.grants[*grant].expired(now))?;
        Some(Caller::Known { grant, scopes: None })
    }

    fn pass(&self, given: &str, now: u64) -> Option<Caller> {
        let (mark, scopes) = self.passes.open(given, now)?;
        let grant = self.grants.iter().position(|grant| pass::mark(&grant.hash) == mark)?;
        (!self.grants[grant].expired(now)).then_some(Caller::Known { grant, scopes: Some(scopes) })
    }

    /// May this caller do that here?
    pub(super) fn may(
        &self,
        caller: &Caller,
        right: Right,
        repo: &Repo,
        realm: &str,
    ) -> Result<(), ApiError> {
        let writes = right != Right::Pull;
        if writes && self.grants.is_empty() {
            return Err(ApiError::denied(
                "this registry is read-only: start it with a push token to push",
            ));
        }
        let public = !writes && self.public.iter().any(|pattern| pattern.matches(repo));
        let ask = |message: &str, error: &str| {
            let actions = if right == Right::Push { "pull,push" } else { right.word() };
            self.ask(message, realm, &format!(",scope=\"repository:{repo}:{actions}\"{error}"))
        };
        match caller {
            // A client with an outdated login must hear of it, or it goes on with it.
            Caller::Wrong => Err(ask(WRONG, "")),
            Caller::Anonymous | Caller::Known { .. } if public => Ok(()),
            Caller::Anonymous if writes => Err(ask(
                "writing needs one of the registry's tokens: log in with any user name and the \
                 token as the password",
                "",
            )),
            Caller::Anonymous => Err(ask("reads need one of the registry's tokens: log in", "")),
            Caller::Known { grant, scopes } => {
                let grant = &self.grants[*grant];
                if !grant.allows(right, repo) {
                    return Err(ApiError::denied(format!(
                        "the token `{}` has no right to {} in {repo}: use another, or ask who \
                         keeps the registry's tokens",
                        grant.name,
                        right.word()
                    )));
                }
                match scopes {
                    Some(scopes) if !scopes.allow(right, repo) => Err(ask(
                        "the pass is for other repositories or rights: fetch one with this scope",
                        ",error=\"insufficient_scope\"",
                    )),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Whether this caller may pull a repository; nobody is told how.
    pub(super) fn pulls(&self, caller: &Caller, repo: &Repo) -> bool {
        let own = match caller {
            Caller::Known { grant, .. } => self.grants[*grant].allows(Right::Pull, repo),
            Caller::Anonymous | Caller::Wrong => false,
        };
        own || self.public.iter().any(|pattern| pattern.matches(repo))
    }

    /// Whether this caller may pull whatever is here: then blobs need not be looked for in the
    /// repository that is asked.
    pub(super) fn reads_all(&self, caller: &Caller) -> bool {
        let own = match caller {
            Caller::Known { grant, .. } => self.grants[*grant].reads_all(),
            Caller::Anonymous | Caller::Wrong => false,
        };
        own || self.public.contains(&Pattern::All)
    }

    /// May this caller see the list of repositories? It is cut to those that it may pull.
    pub(super) fn list(&self, caller: &Caller, realm: &str) -> Result<(), ApiError> {
        match caller {
            Caller::Known { .. } => Ok(()),
            Caller::Anonymous if !self.public.is_empty() => Ok(()),
            Caller::Anonymous => {
                Err(self.ask("reads need one of the registry's tokens: log in", realm, ""))
            }
            Caller::Wrong => Err(self.ask(WRONG, realm, "")),
        }
    }

    /// Answers the ping of `/v2/`: clients learn here whether and how to log in.
    pub(super) fn ping(&self, caller: &Caller, realm: &str) -> Result<(), ApiError> {
        if !self.grants.is_empty() && *caller == Caller::Anonymous && realm != NO_REALM {
            let why = "log in to push; reading needs no login when the registry is open";
            return Err(self.ask(why, realm, ""));
        }
        self.list(caller, realm)
    }

    /// A pass for the token endpoint to hand out.
    pub(super) fn hand_out(
        &self,
        caller: &Caller,
        scopes: &Scopes,
        now: u64,
    ) -> Result<String, ApiError> {
        match caller {
            // A pass for a pass would never run out.
            Caller::Known { grant, scopes: None } => {
                Ok(self.passes.seal(&self.grants[*grant].hash, scopes, now))
            }
            Caller::Anonymous if !self.public.is_empty() => Ok(ANONYMOUS_PASS.to_owned()),
            _ => Err(ApiError::unauthorized(WRONG, BASIC)),
        }
    }

    fn ask(&self, message: &str, realm: &str, more: &str) -> ApiError {
        let bearer = format!("Bearer realm=\"{realm}\",service=\"pitlane\"{more}");
        let open = !self.public.is_empty() && realm != NO_REALM;
        ApiError::unauthorized(message, if open { &bearer } else { BASIC })
    }
}

const WRONG: &str = "the login is wrong or has run out: log in again with one of the registry's tokens as the password";
const BASIC: &str = "Basic realm=\"pitlane\", charset=\"UTF-8\"";
/// The realm of a request whose `Host` cannot be repeated in a header.
pub(super) const NO_REALM: &str = "";

/// The token endpoint as the client can reach it: the host it used, and https when a proxy in
/// front says so.
pub(super) fn realm(headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|v: &header::HeaderValue| v.to_str().ok());
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    let host = text("host").filter(|h| !h.is_empty() && h.len() <= 255 && h.bytes().all(plain));
    let scheme = if text("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    host.map_or_else(|| NO_REALM.to_owned(), |host| format!("{scheme}://{host}{TOKEN_PATH}"))
}

#[cfg(test)]
mod tests;
