//! Who holds which right where: the registry's tokens file, parsed once.
//!
//! The file has the SHA-256 of each token, never the token: who reads it can push nothing.
//! docs/registry.md is its page.

use std::collections::HashSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{error::RegistryError, names::Repo};

/// Largest tokens file, in bytes.
pub(super) const MAX_FILE: usize = 1 << 20;
/// Most tokens: each is compared with every login.
const MAX_TOKENS: usize = 1000;
/// Most patterns of one token.
const MAX_PATTERNS: usize = 100;
/// Longest name of a token, in bytes.
const MAX_NAME: usize = 64;

/// Something that may be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Read manifests, tags, referrers and blobs.
    Pull,
    /// Write them; who may write may also read.
    Push,
    /// Delete them, where the registry allows deletes at all.
    Delete,
}

impl Right {
    /// Its word in scopes and messages.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) pull: bool,
    pub(super) push: bool,
    pub(super) delete: bool,
}

impl Rights {
    pub(super) const ALL: Self = Self { pull: true, push: true, delete: true };

    pub(super) const fn has(self, right: Right) -> bool {
        match right {
            Right::Pull => self.pull || self.push,
            Right::Push => self.push,
            Right::Delete => self.delete,
        }
    }

    pub(super) const fn add(&mut self, right: Right) {
        match right {
            Right::Pull => self.pull = true,
            Right::Push => self.push = true,
            Right::Delete => self.delete = true,
        }
    }
}

/// Which repositories: `*`, one by its name, or all below one (`cars/*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    All,
    One(Repo),
    /// With the slash at its end.
    Below(String),
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let repo = |name: &str| {
            Repo::parse(name).map_err(|_| {
                format!("`{}` is no repository, `NAME/*` or `*`", super::names::shown(text))
            })
        };
        match text.strip_suffix('*') {
            Some("") => Ok(Self::All),
            Some(below) => match below.strip_suffix('/') {
                Some(name) => repo(name).map(|_| Self::Below(below.to_owned())),
                None => repo(text).map(Self::One),
            },
            None => repo(text).map(Self::One),
        }
    }

    pub(super) fn matches(&self, repo: &Repo) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == repo,
            Self::Below(prefix) => repo.as_str().starts_with(prefix.as_str()),
        }
    }
}

/// The tokens file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TokensFile {
    /// `pitlane.dev/v1`.
    pub api_version: String,
    /// `RegistryTokens`.
    pub kind: String,
    /// Who may do what.
    #[serde(default)]
    pub tokens: Vec<TokenSpec>,
    /// Repositories that everybody may pull: names, `NAME/*`, or `*`. Left out, the registry's own
    /// setting stands for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous_pull: Option<Vec<String>>,
}

/// One token.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenSpec {
    /// Whose it is: what messages and logs call it.
    pub name: String,
    /// SHA-256 of the token, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// What it allows.
    pub rights: Vec<Right>,
    /// Where: repository names, `NAME/*`, or `*`.
    pub repositories: Vec<String>,
    /// From when on it allows nothing (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires: Option<Timestamp>,
}

/// What one token allows.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) name: String,
    /// SHA-256 of the token.
    pub(super) hash: [u8; 32],
    pub(super) rights: Rights,
    pub(super) repositories: Vec<Pattern>,
    /// Seconds since 1970.
    pub(super) expires: Option<i64>,
}

impl Grant {
    pub(super) fn allows(&self, right: Right, repo: &Repo) -> bool {
        self.rights.has(right) && self.repositories.iter().any(|pattern| pattern.matches(repo))
    }

    /// Whether it reads every repository.
    pub(super) fn reads_all(&self) -> bool {
        self.rights.has(Right::Pull) && self.repositories.contains(&Pattern::All)
    }

    pub(super) fn expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|end| i64::try_from(now).unwrap_or(i64::MAX) >= end)
    }
}

/// The tokens besides the push token, and who may read without any.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub(super) grants: Vec<Grant>,
    pub(super) anonymous: Option<Vec<Pattern>>,
}

impl Access {
    /// Parses a tokens file (YAML).
    ///
    /// # Errors
    /// `BadTokens` names the token and the field.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let file: TokensFile = pitlane_release::yaml::read(text, MAX_FILE)
            .map_err(|error| RegistryError::BadTokens(error.to_string()))?;
        Self::of(file).map_err(RegistryError::BadTokens)
    }

    fn of(file: TokensFile) -> Result<Self, String> {
        if file.api_version != "pitlane.dev/v1" || file.kind != "RegistryTokens" {
            let (version, kind) = (&file.api_version, &file.kind);
            return Err(format!(
                "it is `{version}` `{kind}`, want `pitlane.dev/v1` `RegistryTokens`"
            ));
        }
        if file.tokens.len() > MAX_TOKENS {
            return Err(format!("more than {MAX_TOKENS} tokens: remove those out of use"));
        }
        let grants: Vec<_> = file.tokens.into_iter().map(grant).collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        let mut hashes = HashSet::new();
        for grant in &grants {
            if !names.insert(&grant.name) || !hashes.insert(grant.hash) {
                return Err(format!("token `{}` is there twice: remove one", grant.name));
            }
        }
        let anonymous = file.anonymous_pull.map(|list| patterns(&list)).transpose();
        let anonymous = anonymous.map_err(|why| format!("anonymousPull: {why}"))?;
        Ok(Self { grants, anonymous })
    }
}

fn grant(spec: TokenSpec) -> Result<Grant, String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    if spec.name.is_empty() || spec.name.len() > MAX_NAME || !spec.name.bytes().all(word) {
        return Err(format!(
            "`{}` is no name of a token: use up to {MAX_NAME} letters, digits, `-`, `_`, `.`, `@`",
            super::names::shown(&spec.name)
        ));
    }
    let fail = |why: String| format!("token `{}`: {why}", spec.name);
    let lower = spec.sha256.bytes().all(|b| !b.is_ascii_uppercase());
    let hash = hex::decode(&spec.sha256).ok().and_then(|bytes| bytes.try_into().ok());
    let hash = hash.filter(|_| lower).ok_or_else(|| {
        fail(
            "sha256 is not 64 lower-case hexadecimal digits: take `printf %s TOKEN | sha256sum`"
                .into(),
        )
    })?;
    if spec.rights.is_empty() {
        return Err(fail("it has no rights: list pull, push or delete".into()));
    }
    let mut rights = Rights::default();
    spec.rights.iter().for_each(|right| rights.add(*right));
    if spec.repositories.is_empty() {
        return Err(fail("it has no repositories: list names, `NAME/*`, or `*`".into()));
    }
    let repositories = patterns(&spec.repositories).map_err(fail)?;
    let expires = spec.expires.map(Timestamp::as_second);
    Ok(Grant { name: spec.name, hash, rights, repositories, expires })
}

fn patterns(list: &[String]) -> Result<Vec<Pattern>, String> {
    if list.len() > MAX_PATTERNS {
        return Err(format!("more than {MAX_PATTERNS} repositories: use `NAME/*`"));
    }
    list.iter().map(|text| Pattern::parse(text)).collect()
}

#[cfg(test)]
mod tests;
