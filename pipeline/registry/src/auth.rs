//! Who may do what: one push token, and reads for everybody unless that is switched off.
//!
//! Clients send the token as the password of HTTP Basic (any user name) or as a Bearer token. When
//! reads are open, the challenge is a Bearer one with a token endpoint: Docker and skopeo send
//! their login only to registries that ask for it at `/v2/`, and Docker cannot pull without a
//! login from one that asks for Basic. The endpoint gives a login a one-hour push pass, and
//! everybody else a pass that only reads. When reads need the token as well, it is plain Basic.

use std::fmt;

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::error::{ApiError, RegistryError};

/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;
/// Longer ones do not fit into the headers that clients send.
const MAX_TOKEN_BYTES: usize = 1024;
/// How long a pass of the token endpoint lasts; clients fetch a new one by themselves.
pub(super) const PASS_SECONDS: u64 = 3600;
/// What the token endpoint gives to who has no login: reads as if nothing were sent.
pub(super) const ANONYMOUS_PASS: &str = "anonymous";
/// The address of the token endpoint.
pub(super) const TOKEN_PATH: &str = "/token";

/// The secret that allows pushes. It is never printed, and wiped when dropped.
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

/// What a request's credentials allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// No credentials.
    Anonymous,
    /// The push token, or a pass that stands for it.
    Pusher,
    /// Credentials that are wrong or out of date.
    Wrong,
}

/// The rules of this registry.
#[derive(Debug)]
pub(super) struct Auth {
    token: Option<PushToken>,
    anonymous_pull: bool,
}

impl Auth {
    pub(super) fn new(token: Option<PushToken>, anonymous_pull: bool) -> Self {
        Self { token, anonymous_pull }
    }

    /// Judges the `Authorization` header. `now`: seconds since 1970, for passes.
    pub(super) fn caller(&self, headers: &HeaderMap, now: u64) -> Caller {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Caller::Anonymous };
        let Some((scheme, rest)) = value.to_str().ok().and_then(|v| v.split_once(' ')) else {
            return Caller::Wrong;
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return match rest {
                ANONYMOUS_PASS => Caller::Anonymous,
                pass if self.is_token(pass) || self.is_pass(pass, now) => Caller::Pusher,
                _ => Caller::Wrong,
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
            Some((_, password)) if self.is_token(password) => Caller::Pusher,
            _ => Caller::Wrong,
        }
    }

    /// May this caller read?
    pub(super) fn read(&self, caller: Caller, realm: &str) -> Result<(), ApiError> {
        match caller {
            Caller::Pusher => Ok(()),
            Caller::Anonymous if self.anonymous_pull => Ok(()),
            Caller::Anonymous => Err(self.ask("reads need the registry's token: log in", realm)),
            // A client with an outdated login must hear of it, or it goes on with it.
            Caller::Wrong => Err(self.ask(WRONG, realm)),
        }
    }

    /// May this caller write?
    pub(super) fn write(&self, caller: Caller, realm: &str) -> Result<(), ApiError> {
        if self.token.is_none() {
            return Err(ApiError::denied(
                "this registry is read-only: start it with a push token to push",
            ));
        }
        match caller {
            Caller::Pusher => Ok(()),
            Caller::Anonymous => Err(self.ask(
                "pushing needs the registry's token: log in with any user name and the token as \
                 the password",
                realm,
            )),
            Caller::Wrong => Err(self.ask(WRONG, realm)),
        }
    }

    /// Answers the ping of `/v2/`: clients learn here whether and how to log in.
    pub(super) fn ping(&self, caller: Caller, realm: &str) -> Result<(), ApiError> {
        if self.token.is_some() && caller == Caller::Anonymous && realm != NO_REALM {
            return Err(
                self.ask("log in to push; reading needs no login when the registry is open", realm)
            );
        }
        self.read(caller, realm)
    }

    /// A pass for the token endpoint to hand out.
    pub(super) fn pass(&self, caller: Caller, realm: &str, now: u64) -> Result<String, ApiError> {
        match caller {
            Caller::Pusher => {
                let until = now.saturating_add(PASS_SECONDS);
                let seal = self.seal(until).map(|mac| hex::encode(mac.finalize().into_bytes()));
                seal.map(|seal| format!("{until}.{seal}")).ok_or_else(|| self.ask(WRONG, realm))
            }
            Caller::Anonymous if self.anonymous_pull => Ok(ANONYMOUS_PASS.to_owned()),
            Caller::Anonymous | Caller::Wrong => Err(ApiError::unauthorized(WRONG, BASIC)),
        }
    }

    fn ask(&self, message: &str, realm: &str) -> ApiError {
        let bearer = format!("Bearer realm=\"{realm}\",service=\"pitlane\"");
        let challenge = if self.anonymous_pull && realm != NO_REALM { &bearer } else { BASIC };
        ApiError::unauthorized(message, challenge)
    }

    fn is_token(&self, given: &str) -> bool {
        let Some(token) = &self.token else { return false };
        // Hashes, so that the comparison tells nothing about the length either.
        let (given, token) = (Sha256::digest(given), Sha256::digest(token.0.as_bytes()));
        given.ct_eq(&token).into()
    }

    fn is_pass(&self, given: &str, now: u64) -> bool {
        let Some((until, seal)) = given.split_once('.') else { return false };
        let (Ok(until), Ok(seal)) = (until.parse::<u64>(), hex::decode(seal)) else { return false };
        let genuine = self.seal(until).is_some_and(|mac| mac.verify_slice(&seal).is_ok());
        genuine && now < until
    }

    /// Keyed by the push token itself: passes outlive a restart, and die with the token.
    fn seal(&self, until: u64) -> Option<Hmac<Sha256>> {
        let token = self.token.as_ref()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(token.0.as_bytes()).ok()?;
        mac.update(b"pitlane registry push pass until ");
        mac.update(until.to_string().as_bytes());
        Some(mac)
    }
}

const WRONG: &str = "the login is wrong or has run out: log in again with the registry's push token as the password";
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
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef-token";

    fn auth() -> Auth {
        Auth::new(Some(PushToken::new(&format!("{TOKEN}\n")).unwrap()), true)
    }

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
    }

    fn basic(login: &str) -> String {
        format!("Basic {}", STANDARD.encode(login))
    }

    #[test]
    fn callers() {
        let auth = auth();
        assert_eq!(auth.caller(&HeaderMap::new(), 0), Caller::Anonymous);
        for (header, want) in [
            (basic(&format!("me:{TOKEN}")), Caller::Pusher),
            (basic(&format!(":{TOKEN}")), Caller::Pusher),
            (format!("bearer {TOKEN}"), Caller::Pusher),
            ("Bearer anonymous".to_owned(), Caller::Anonymous),
            (basic(":"), Caller::Anonymous),
            (basic("me:wrong"), Caller::Wrong),
            (basic(&format!("me:{TOKEN}x")), Caller::Wrong),
            (basic(&format!("me:{}", &TOKEN[1..])), Caller::Wrong),
            (basic(TOKEN), Caller::Wrong),
            ("Basic ???".to_owned(), Caller::Wrong),
            ("Digest x".to_owned(), Caller::Wrong),
            (TOKEN.to_owned(), Caller::Wrong),
            ("Bearer ".to_owned(), Caller::Wrong),
        ] {
            assert_eq!(auth.caller(&headers(&header), 0), want, "{header}");
        }
    }

    #[test]
    fn passes_run_out_and_cannot_be_stretched() {
        let auth = auth();
        let pass = auth.pass(Caller::Pusher, "", 1000).unwrap();
        let bearer = |pass: &str| headers(&format!("Bearer {pass}"));
        assert_eq!(auth.caller(&bearer(&pass), 1000 + PASS_SECONDS - 1), Caller::Pusher);
        assert_eq!(auth.caller(&bearer(&pass), 1000 + PASS_SECONDS), Caller::Wrong);
        let (until, seal) = pass.split_once('.').unwrap();
        let stretched = format!("{}.{seal}", until.parse::<u64>().unwrap() + 1);
        assert_eq!(auth.caller(&bearer(&stretched), 1000), Caller::Wrong);
        let other = Auth::new(Some(PushToken::new(&"f".repeat(32)).unwrap()), true);
        assert_eq!(other.caller(&bearer(&pass), 1000), Caller::Wrong);
        // Without a token nobody pushes, whatever is sent.
        let closed = Auth::new(None, true);
        assert_eq!(closed.caller(&bearer(&pass), 1000), Caller::Wrong);
        assert!(closed.write(Caller::Pusher, "").is_err());
    }

    #[test]
    fn tokens_are_checked_and_not_shown() {
        for bad in ["", "short", "with space 0123456789", "ümlaut-0123456789-0123"] {
            assert!(PushToken::new(bad).is_err(), "{bad}");
        }
        assert!(!format!("{:?}", auth()).contains(TOKEN));
    }

    #[test]
    fn realms_do_not_break_out_of_the_header() {
        let host =
            |host: &str| realm(&HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]));
        assert_eq!(host("127.0.0.1:5000"), "http://127.0.0.1:5000/token");
        assert_eq!(host("[::1]:5000"), "http://[::1]:5000/token");
        assert_eq!(host("a\",realm=\"http://evil"), NO_REALM);
        assert_eq!(realm(&HeaderMap::new()), NO_REALM);
    }
}
