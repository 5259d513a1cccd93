//! Passes: what the token endpoint hands out in place of a token, for an hour, for less.
//!
//! A pass names its token by the beginning of the token's hash and the scopes that were asked for,
//! under a seal. It dies with its token, and widens nothing: what it allows is what the token still
//! allows, and of that only its scopes. Source: distribution's token authentication specification.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use rand_core::{OsRng, RngCore as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    access::{Right, Rights},
    error::ApiError,
    names::Repo,
};

/// How long a pass lasts; clients fetch a new one by themselves.
pub(super) const PASS_SECONDS: u64 = 3600;
/// Scopes of one pass: a client that copies an image asks for two or three.
const MAX_SCOPES: usize = 16;
/// Longest text of all scopes, in bytes: a pass must fit into a header.
const MAX_SCOPE_BYTES: usize = 2048;
/// Stands for "whatever the token allows": the pass of a client that named no scope.
const EVERYTHING: &str = "*";

/// What a pass is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scopes {
    /// Whatever its token allows.
    All,
    /// These rights in these repositories.
    Some(Vec<(Repo, Rights)>),
}

impl Scopes {
    /// Reads `scope` parameters, each with one or several scopes; everything when there are none at
    /// all. Scopes of other things than repositories allow nothing here and are left out.
    pub(super) fn parse<'a>(parameters: impl Iterator<Item = &'a str>) -> Result<Self, ApiError> {
        let mut found = Vec::new();
        let (mut any, mut bytes) = (false, 0);
        for scope in parameters.flat_map(|text| text.split(' ')).filter(|scope| !scope.is_empty()) {
            any = true;
            bytes += scope.len() + 1;
            let Some((name, actions)) =
                scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':'))
            else {
                continue;
            };
            if found.len() == MAX_SCOPES || bytes > MAX_SCOPE_BYTES {
                return Err(ApiError::bad_query("too many scopes: ask for those of one request"));
            }
            found.push((Repo::parse(name)?, rights(actions)));
        }
        Ok(if any { Self::Some(found) } else { Self::All })
    }

    pub(super) fn allow(&self, right: Right, repo: &Repo) -> bool {
        match self {
            Self::All => true,
            Self::Some(list) => list.iter().any(|(name, rights)| name == repo && rights.has(right)),
        }
    }

    fn text(&self) -> String {
        let scope = |(repo, rights): &(Repo, Rights)| {
            let all = [Right::Pull, Right::Push, Right::Delete];
            let words: Vec<_> =
                all.into_iter().filter(|right| rights.has(*right)).map(Right::word).collect();
            format!("repository:{repo}:{}", words.join(","))
        };
        match self {
            Self::All => EVERYTHING.to_owned(),
            Self::Some(list) => list.iter().map(scope).collect::<Vec<_>>().join(" "),
        }
    }
}

/// `pull,push`; `*` is all of them (skopeo asks so for a delete); others mean nothing here.
fn rights(actions: &str) -> Rights {
    let mut rights = Rights::default();
    for action in actions.split(',') {
        match action {
            "pull" => rights.pull = true,
            "push" => rights.push = true,
            "delete" => rights.delete = true,
            "*" => rights = Rights::ALL,
            _ => {}
        }
    }
    rights
}

/// Seals passes and opens them.
pub(super) struct Passes {
    key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Passes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passes(..)")
    }
}

impl Passes {
    /// Keyed by a secret when there is one, so that passes outlive a restart; else until the end
    /// of this process.
    pub(super) fn new(secret: Option<&[u8]>) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let keyed = secret.and_then(|secret| Hmac::<Sha256>::new_from_slice(secret).ok());
        match keyed {
            Some(mut mac) => {
                mac.update(b"pitlane registry passes");
                key.copy_from_slice(&mac.finalize().into_bytes());
            }
            None => OsRng.fill_bytes(&mut *key),
        }
        Self { key }
    }

    /// A pass for the token of this hash. `now`: seconds since 1970.
    pub(super) fn seal(&self, hash: &[u8; 32], scopes: &Scopes, now: u64) -> String {
        let until = now.saturating_add(PASS_SECONDS);
        let body = format!("{until}.{}.{}", mark(hash), URL_SAFE_NO_PAD.encode(scopes.text()));
        let seal = self.mac(&body).map(|mac| hex::encode(mac.finalize().into_bytes()));
        format!("{body}.{}", seal.unwrap_or_default())
    }

    /// The mark of the token that a genuine pass stands for, and its scopes.
    pub(super) fn open<'a>(&self, pass: &'a str, now: u64) -> Option<(&'a str, Scopes)> {
        let (body, seal) = pass.rsplit_once('.')?;
        self.mac(body)?.verify_slice(&hex::decode(seal).ok()?).ok()?;
        let mut parts = body.split('.');
        let (until, mark, scopes) = (parts.next()?, parts.next()?, parts.next()?);
        if until.parse::<u64>().ok()? <= now {
            return None;
        }
        let scopes = String::from_utf8(URL_SAFE_NO_PAD.decode(scopes).ok()?).ok()?;
        if scopes == EVERYTHING {
            return Some((mark, Scopes::All));
        }
        if scopes.is_empty() {
            return Some((mark, Scopes::Some(Vec::new())));
        }
        Some((mark, Scopes::parse(std::iter::once(scopes.as_str())).ok()?))
    }

    fn mac(&self, body: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).ok()?;
        mac.update(body.as_bytes());
        Some(mac)
    }
}

/// How a pass names its token.
pub(super) fn mark(hash: &[u8; 32]) -> String {
    hex::encode(&hash[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(name: &str) -> Repo {
        Repo::parse(name).unwrap()
    }

    #[test]
    fn scopes() {
        let parse = |text: &str| Scopes::parse(std::iter::once(text)).unwrap();
        assert_eq!(parse(""), Scopes::All);
        let two = parse("repository:cars/a:pull,push repository:cars/b:pull");
        assert!(
            two.allow(Right::Push, &repo("cars/a")) && !two.allow(Right::Push, &repo("cars/b"))
        );
        assert!(two.allow(Right::Pull, &repo("cars/b")) && !two.allow(Right::Pull, &repo("cars")));
        assert!(!two.allow(Right::Delete, &repo("cars/a")));
        assert!(parse("repository:a:*").allow(Right::Delete, &repo("a")));
        assert_eq!(parse("registry:catalog:*"), Scopes::Some(Vec::new()));
        assert!(!parse("repository:a:fly").allow(Right::Pull, &repo("a")));
        let many: Vec<_> = (0..=MAX_SCOPES).map(|n| format!("repository:a{n}:pull")).collect();
        let many = many.join(" ");
        assert!(Scopes::parse(std::iter::once(many.as_str())).is_err());
        assert!(Scopes::parse(std::iter::once("repository:../a:pull")).is_err());
    }

    #[test]
    fn passes_run_out_and_cannot_be_stretched_or_widened() {
        let passes = Passes::new(Some(b"secret"));
        let scopes = Scopes::parse(std::iter::once("repository:a:pull")).unwrap();
        let pass = passes.seal(&[7; 32], &scopes, 1000);
        let named = mark(&[7; 32]);
        assert_eq!(passes.open(&pass, 999 + PASS_SECONDS), Some((named.as_str(), scopes)));
        assert_eq!(passes.open(&pass, 1000 + PASS_SECONDS), None);
        let all = passes.seal(&[7; 32], &Scopes::All, 1000);
        assert_eq!(passes.open(&all, 1000), Some((named.as_str(), Scopes::All)));
        let parts: Vec<_> = pass.split('.').collect();
        let other: Vec<_> = all.split('.').collect();
        for forged in [
            format!("{}.{}.{}.{}", u64::MAX, parts[1], parts[2], parts[3]),
            format!("{}.{}.{}.{}", parts[0], "0".repeat(16), parts[2], parts[3]),
            format!("{}.{}.{}.{}", parts[0], parts[1], other[2], parts[3]),
            format!("{}.{}.{}.", parts[0], parts[1], parts[2]),
            String::new(),
            "...".to_owned(),
        ] {
            assert_eq!(passes.open(&forged, 1000), None, "{forged}");
        }
        // The same secret opens it after a restart, another one does not.
        assert!(Passes::new(Some(b"secret")).open(&pass, 1000).is_some());
        assert!(Passes::new(Some(b"other")).open(&pass, 1000).is_none());
        assert!(Passes::new(None).open(&pass, 1000).is_none());
    }
}
