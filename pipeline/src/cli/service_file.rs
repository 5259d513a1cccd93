//! The service's configuration file (`docs/service.md`).

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use pitlane_notify::Notify;
use pitlane_release::yaml;
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::serve::Embedded;
use crate::{
    config,
    github::Github,
    service::{Keep, store::PostgresUrl},
    telemetry::Telemetry,
};

/// Largest configuration read (bytes).
pub(super) const MAX_CONFIG: usize = 256 * 1024;

/// The service's configuration. Format `pitlane.dev/v1`, kind `Service`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceFile {
    /// `pitlane.dev/v1`.
    #[serde(rename = "apiVersion")]
    #[expect(dead_code, reason = "one value; any other is refused")]
    api_version: pitlane_release::model::ApiVersion,
    /// `Service`.
    #[expect(dead_code, reason = "one value; any other is refused")]
    kind: ServiceKind,
    /// Store, registry, runs and secrets; relative to this file.
    #[serde(default = "default_state")]
    pub(super) state: PathBuf,
    /// Pipeline files; relative to this file.
    pub(super) pipelines: Vec<PathBuf>,
    /// Where it listens.
    #[serde(default)]
    pub(super) listen: Listen,
    /// Further webhook secrets: files with one secret a line, mode 0600.
    #[serde(default)]
    pub(super) webhook_secret_files: Vec<PathBuf>,
    /// Whether the API's `POST /releases` takes models from files on this machine, on the word
    /// of who has the API token. Off: models come from tags alone.
    #[serde(default)]
    pub(super) local_models: bool,
    /// `postgres://user@host/database`: a store for several replicas of the service, instead of a
    /// file below `state`.
    #[serde(default)]
    pub(super) database: Option<String>,
    /// A file with that address, when it holds a password; mode 0600.
    #[serde(default)]
    pub(super) database_file: Option<PathBuf>,
    /// Certificates (PEM) of the authority that the database server's certificate is from; the
    /// system's when absent.
    #[serde(default)]
    pub(super) database_root: Option<PathBuf>,
    /// GitHub's API, for what webhooks do not tell and for private sources.
    #[serde(default)]
    pub(super) github: Option<Github>,
    /// Who is told what: chats, webhooks, MQTT brokers.
    #[serde(default)]
    pub(super) notify: Option<Notify>,
    /// A file of cars that may tell how releases stand on them; lines of
    /// `PIPELINE ENVIRONMENT CAR sha256:DIGEST`, of the car's token.
    #[serde(default)]
    pub(super) car_tokens: Option<PathBuf>,
    /// Runs (of different pipelines) at once.
    #[serde(default = "default_concurrent")]
    pub(super) concurrent: usize,
    /// Whether this process executes runs. Off: it takes deliveries and answers the API, and other
    /// processes on the same `database` execute; it then opens no key, registry or policy.
    #[serde(default = "works")]
    pub(super) work: bool,
    /// Where traces of runs are sent; nowhere when absent.
    #[serde(default)]
    pub(super) telemetry: Option<Telemetry>,
    /// Rights and limits of the embedded registry.
    #[serde(default)]
    pub(super) registry: Embedded,
    /// What is kept of runs that are over.
    #[serde(default)]
    pub(super) keep: Keep,
}

/// The word in `kind:`.
#[derive(Debug, Deserialize, JsonSchema)]
enum ServiceKind {
    /// A service.
    Service,
}

/// Where the service listens; port 0 is any free one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listen {
    /// For webhooks.
    pub(super) webhook: SocketAddr,
    /// For `pitlane runs`; keep it on loopback.
    pub(super) api: SocketAddr,
    /// For images; no registry is embedded when it is null.
    pub(super) registry: Option<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { webhook: local(9010), api: local(9011), registry: Some(local(5000)) }
    }
}

const fn works() -> bool {
    true
}

const fn default_concurrent() -> usize {
    2
}

fn default_state() -> PathBuf {
    "pitlane-state".into()
}

impl ServiceFile {
    pub(super) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else {
            let mut pipelines: Vec<PathBuf> = std::fs::read_dir("pipelines")
                .context("no --config, and no folder `pipelines` here")?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
                    path.extension().is_some_and(|e| e == "yaml") && !name.contains(".lock.")
                })
                .collect();
            pipelines.sort();
            return Ok(Self {
                api_version: pitlane_release::model::ApiVersion::V1,
                kind: ServiceKind::Service,
                state: default_state(),
                pipelines,
                listen: Listen::default(),
                webhook_secret_files: Vec::new(),
                local_models: false,
                database: None,
                database_file: None,
                database_root: None,
                github: None,
                notify: None,
                car_tokens: None,
                concurrent: default_concurrent(),
                work: works(),
                telemetry: None,
                registry: Embedded::default(),
                keep: Keep::default(),
            });
        };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{}: cannot be read", file.display()))?;
        let mut parsed: Self = yaml::read(&text, MAX_CONFIG)
            .with_context(|| format!("{}: not a service configuration", file.display()))?;
        let dir = std::path::absolute(file)?;
        let dir = dir.parent().unwrap_or(Path::new("/"));
        parsed.state = dir.join(&parsed.state);
        parsed.github.iter_mut().for_each(|github| github.rebase(dir));
        parsed.notify.iter_mut().for_each(|notify| notify.rebase(dir));
        let named = parsed.database_file.iter_mut().chain(&mut parsed.database_root);
        let named = named.chain(&mut parsed.car_tokens).chain(&mut parsed.registry.tokens);
        let paths =
            parsed.pipelines.iter_mut().chain(&mut parsed.webhook_secret_files).chain(named);
        paths.for_each(|path| *path = dir.join(&*path));
        let checked = parsed.keep.check().and_then(|()| parsed.registry.check());
        checked
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("{}: not a service configuration", file.display()))?;
        let shared = parsed.database.is_some() || parsed.database_file.is_some();
        if !parsed.work && !shared {
            bail!("field `work` is off and there is no `database`: nobody would execute the runs");
        }
        Ok(parsed)
    }
}

/// Where the store is.
pub(super) enum Place {
    /// A file below `state`.
    File(PathBuf),
    /// The server that the configuration names.
    Server(Box<PostgresUrl>),
}

impl ServiceFile {
    /// Where the store is.
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        let address = match (&self.database, &self.database_file) {
            (Some(_), Some(_)) => bail!("fields `database` and `databaseFile`: give one of them"),
            (Some(address), None) => Zeroizing::new(address.clone()),
            (None, Some(path)) => config::read_secret(path)?,
            (None, None) => return Ok(Place::File(self.state.join("pitlane.sqlite"))),
        };
        let url = PostgresUrl::parse(&address, self.database_root.clone())
            .map_err(|why| anyhow::anyhow!("field `database`: {why}"))?;
        Ok(Place::Server(Box::new(url)))
    }
}
