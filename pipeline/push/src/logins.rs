//! Where logins come from: Docker's `config.json`, and the helper programs that it names.
//!
//! `auths` by host, with or without a path as podman writes them; `credHelpers` by host;
//! `credsStore` for all others. Source: docker/cli `config.json`; containers-auth.json(5).

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_release::Repository;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{PushError, helper};

/// Largest file of logins.
const MAX_FILE: u64 = 1 << 20;
/// What Docker calls its own registry in files, and what it is called here.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
const HUB: &str = "index.docker.io";

/// A login.
#[derive(Clone)]
pub enum Login {
    /// A user name and password, or a token in the place of one.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: Zeroizing<String>,
    },
    /// A token that only fetches others.
    Identity(Zeroizing<String>),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Login({user}, …)"),
            Self::Identity(_) => f.write_str("Login(…)"),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
}

/// A secret as it is read.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Secret(pub(crate) Zeroizing<String>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

/// The logins of a file. Nothing of it is ever printed.
pub struct Logins {
    file: PathBuf,
    wire: Wire,
    /// Where helpers are looked for; the system's `PATH` without.
    helpers: Option<PathBuf>,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Logins({})", self.file.display())
    }
}

impl Logins {
    /// The file that Docker, podman, crane and cosign would read: `$REGISTRY_AUTH_FILE`,
    /// `$DOCKER_CONFIG/config.json`, `~/.docker/config.json`. `None` when there is none.
    ///
    /// # Errors
    /// The file is there and cannot be used.
    pub fn usual() -> Result<Option<Self>, PushError> {
        let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let places = [
            set("REGISTRY_AUTH_FILE"),
            set("DOCKER_CONFIG").map(|dir| dir.join("config.json")),
            set("HOME").map(|home| home.join(".docker/config.json")),
        ];
        let file = places.into_iter().flatten().find(|path| path.is_file());
        file.map(|file| Self::read(&file)).transpose()
    }

    /// Reads a file of logins.
    pub fn read(file: &Path) -> Result<Self, PushError> {
        let failed = |source| PushError::File { what: file.display().to_string(), source };
        let mut bytes = Zeroizing::new(Vec::new());
        let open = File::open(file).map_err(failed)?;
        open.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        let fail = |why: String| PushError::Login { place: file.display().to_string(), why };
        if bytes.len() as u64 > MAX_FILE {
            return Err(fail(format!("it has more than {MAX_FILE} bytes")));
        }
        // The parser's message would repeat what it stumbled over, which may be a secret.
        let wire = serde_json::from_slice(&bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            fail(format!("it is no Docker configuration at line {line}, column {column}"))
        })?;
        Ok(Self { file: file.to_owned(), wire, helpers: None })
    }

    /// Looks for helper programs in this folder alone.
    #[must_use]
    pub fn with_helpers(mut self, folder: &Path) -> Self {
        self.helpers = Some(folder.to_owned());
        self
    }

    /// The login for a repository, if there is one.
    ///
    /// # Errors
    /// A helper that fails, or an entry that cannot be read: pushing without a login would only
    /// hide that.
    pub async fn find(&self, repository: &Repository) -> Result<Option<Login>, PushError> {
        let host = canonical(repository.registry());
        let path = format!("{host}/{}", repository.path());
        if let Some((name, own)) = self.helper(host) {
            let found = helper::get(name, self.helpers.as_deref(), &server(host)).await;
            let found = found.map_err(|why| PushError::Login {
                place: host.to_owned(),
                why: format!("docker-credential-{name} {why} (named in {})", self.file.display()),
            });
            match found {
                Ok(None) => {}
                // The store of a desktop that was never asked to keep this login may be locked.
                Err(error) if !own && self.entry(&path).is_none() => tracing::warn!("{error}"),
                other => return other,
            }
        }
        let entry = self.entry(&path);
        entry.map(|(key, auth)| self.login(key, auth)).transpose().map(Option::flatten)
    }

    /// The helper for a host, and whether it is that host's own.
    fn helper(&self, host: &str) -> Option<(&str, bool)> {
        let named = self.wire.cred_helpers.iter().find(|(key, _)| bare(key) == host);
        let own = named.map(|(_, name)| (name.as_str(), true));
        own.or_else(|| self.wire.creds_store.as_deref().map(|name| (name, false)))
    }

    /// The entry of the longest path that the repository lies below.
    fn entry(&self, path: &str) -> Option<(&str, &Entry)> {
        let below = |key: &str| {
            path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let entries = self.wire.auths.iter().map(|(key, auth)| (bare(key), auth));
        entries.filter(|(key, _)| below(key)).max_by_key(|(key, _)| key.len())
    }

    fn login(&self, key: &str, auth: &Entry) -> Result<Option<Login>, PushError> {
        if let Some(token) = auth.identitytoken.clone().filter(|token| !token.0.is_empty()) {
            return Ok(Some(Login::Identity(token.0)));
        }
        if let (Some(user), Some(password)) = (&auth.username, &auth.password) {
            return Ok(Some(Login::Password { user: user.clone(), password: password.0.clone() }));
        }
        let Some(text) = auth.auth.as_ref().map(|text| &text.0).filter(|text| !text.is_empty())
        else {
            return Ok(None);
        };
        let decoded = STANDARD.decode(text.trim()).ok().and_then(|b| String::from_utf8(b).ok());
        let decoded = decoded.map(Zeroizing::new);
        let login = decoded.as_ref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
        let (user, password) = login.ok_or_else(|| PushError::Login {
            place: key.to_owned(),
            why: format!("its `auth` in {} is not USER:PASSWORD in base64", self.file.display()),
        })?;
        let password = Zeroizing::new(password.to_owned());
        Ok(Some(Login::Password { user: user.to_owned(), password }))
    }
}

/// A key without what old files put around the host.
fn bare(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.strip_suffix("/v1/").or_else(|| key.strip_suffix("/v2/")).unwrap_or(key);
    canonical(key.trim_end_matches('/'))
}

/// One name for a registry that has several.
fn canonical(host: &str) -> &str {
    if matches!(host, "docker.io" | "registry-1.docker.io") { HUB } else { host }
}

/// What helpers know a registry by.
fn server(host: &str) -> String {
    if host == HUB { DOCKER_HUB.to_owned() } else { host.to_owned() }
}

#[cfg(test)]
mod tests;
