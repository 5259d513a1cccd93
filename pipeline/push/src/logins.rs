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
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
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
    fn entry(&self, path: &str) -> Option<(&str, &Auth)> {
        let below = |key: &str| {
            path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let entries = self.wire.auths.iter().map(|(key, auth)| (bare(key), auth));
        entries.filter(|(key, _)| below(key)).max_by_key(|(key, _)| key.len())
    }

    fn login(&self, key: &str, auth: &Auth) -> Result<Option<Login>, PushError> {
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
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

    use super::*;

    fn logins(text: &str) -> Logins {
        Logins {
            file: "config.json".into(),
            wire: serde_json::from_str(text).unwrap(),
            helpers: None,
        }
    }

    async fn find(logins: &Logins, image: &str) -> String {
        let found = logins.find(&image.parse().unwrap()).await;
        match found {
            Ok(Some(Login::Password { user, password })) => format!("{user}:{}", *password),
            Ok(Some(Login::Identity(token))) => format!("identity {}", *token),
            Ok(None) => "none".into(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn entries_by_host_and_path() {
        let encode = |login: &str| STANDARD.encode(login);
        let file = logins(&format!(
            r#"{{"auths":{{
                "r.example:5000":{{"auth":"{}"}},
                "r.example:5000/team":{{"auth":"{}"}},
                "https://old.example/v1/":{{"auth":"{}"}},
                "https://index.docker.io/v1/":{{"auth":"{}"}},
                "plain.example":{{"username":"u","password":"p"}},
                "token.example":{{"auth":"","identitytoken":"abc"}},
                "helped.example":{{}},
                "broken.example":{{"auth":"%%%"}}
            }},"HttpHeaders":{{"x":"y"}}}}"#,
            encode("host:one"),
            encode("team:two:with:colons"),
            encode("old:three"),
            encode("hub:four")
        ));
        for (image, want) in [
            ("r.example:5000/car", "host:one"),
            ("r.example:5000/team/car", "team:two:with:colons"),
            ("r.example:5000/teamwork/car", "host:one"),
            ("old.example/car", "old:three"),
            ("docker.io/team/car", "hub:four"),
            ("plain.example/car", "u:p"),
            ("token.example/car", "identity abc"),
            ("helped.example/car", "none"),
            ("r.example/car", "none"),
        ] {
            assert_eq!(find(&file, image).await, want, "{image}");
        }
        let broken = find(&file, "broken.example/car").await;
        assert!(broken.contains("config.json") && !broken.contains("%%%"), "{broken}");
    }

    #[test]
    fn a_file_that_is_none_shows_nothing_of_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, r#"{"auths":{"r.example":{"auth":["hunter2"]}}}"#).unwrap();
        let error = Logins::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
        fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(Logins::read(&path).is_err());
    }

    /// A folder with a helper of this script.
    fn helper(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[tokio::test]
    async fn helpers() {
        let store = r#"{"credsStore":"test","auths":{"r.example":{}}}"#;
        let own = r#"{"credHelpers":{"r.example":"test"},"credsStore":"nowhere"}"#;
        let good = r#"read server; echo "{\"ServerURL\":\"$server\",\"Username\":\"u\",\"Secret\":\"$1-$server\"}""#;
        let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
        for (script, config, want) in [
            (good, store, "u:get-r.example"),
            (good, own, "u:get-r.example"),
            (token, store, "identity t"),
            ("echo 'credentials not found in native keychain'; exit 1", store, "none"),
        ] {
            let dir = helper(script);
            let logins = logins(config).with_helpers(dir.path());
            assert_eq!(find(&logins, "r.example/car").await, want, "{script}");
        }
        for (script, word) in [
            ("echo 'hunter2 locked'; echo 'hunter2 locked' >&2; exit 3", "exit status: 3"),
            ("echo '{\"Secret\": \"hunter2\"'", "is no answer"),
            ("exec cat /dev/zero", "more than"),
        ] {
            let dir = helper(script);
            let logins = logins(store).with_helpers(dir.path());
            let error = find(&logins, "r.example/car").await;
            assert!(error.contains(word) && !error.contains("hunter2"), "{script}: {error}");
        }
        let missing =
            find(&logins(store).with_helpers(Path::new("/nonexistent")), "r.example/a").await;
        assert!(missing.contains("docker-credential-test"), "{missing}");
        // A store that fails is no matter where it was never asked to keep the login.
        let locked = helper("exit 1");
        let stranger = logins(store).with_helpers(locked.path());
        assert_eq!(find(&stranger, "other.example/car").await, "none");
        for name in ["../test", "a/b", "", "a b"] {
            let config = format!(r#"{{"credHelpers":{{"r.example":"{name}"}}}}"#);
            let error = find(&logins(&config), "r.example/car").await;
            assert!(error.contains("is no name"), "{name}: {error}");
        }
    }

    #[tokio::test]
    async fn a_helper_that_hangs_is_ended_with_all_that_it_started() {
        let dir = helper("echo $$ > \"$(dirname \"$0\")/pid\"; sleep 1000 & wait");
        let began = Instant::now();
        let limit = std::time::Duration::from_millis(500);
        let path = dir.path().join("docker-credential-test");
        let answer = helper::run(&path, "r.example", limit).await;
        assert!(answer.is_err_and(|why| why.contains("did not end")));
        assert!(began.elapsed() < std::time::Duration::from_secs(10));
        let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
        let gone = || {
            !Path::new(&format!("/proc/{}/fd", pid.trim())).exists()
                || fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
                    .is_ok_and(|s| s.contains(") Z"))
        };
        for _ in 0..100 {
            if gone() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the helper still runs");
    }
}
