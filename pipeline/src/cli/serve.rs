//! `pitlane serve`: the service on one machine, and `pitlane config check`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use pitlane_release::{key::PublicKey, yaml};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use zeroize::Zeroizing;

use crate::{
    config::{self, Pipeline},
    registry::{self, Registry, RegistryConfig},
    service::{
        ApiState, Executor, ExecutorConfig, Intake, LocalModels, Route, Routes, Secrets, Store,
        Token, listen, secret::create_random, store::PostgresUrl,
    },
    sign::{Algorithm, Signer},
    steps::{Keeper, LocalLane, Ready, Tools, highest_counter},
    telemetry::Telemetry,
};

/// How long running steps may go on after a signal.
const DRAIN: Duration = Duration::from_secs(30);
/// How often the registry is asked for its highest counter: a one-shot release beside the
/// service takes numbers, too.
const RAISE_EVERY: Duration = Duration::from_secs(15);
/// Largest configuration read (bytes).
const MAX_CONFIG: usize = 256 * 1024;

/// Run the service: webhook, embedded registry, API.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --config: state in ./pitlane-state, webhook on 127.0.0.1:9010, API on 127.0.0.1:9011,
registry on 127.0.0.1:5000, and every pipelines/*.yaml. Secrets are made at the first start:
pitlane-state/webhook-secret, api-token, registry-token.

The first line on stdout says in JSON where it listens.

Examples:
  pitlane serve
  pitlane serve --config pitlane.yaml")]
pub(super) struct Args {
    /// The service's configuration (docs/service.md).
    #[arg(long, env = "PITLANE_CONFIG")]
    config: Option<PathBuf>,
}

/// Check pipeline files and what they name.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read a service configuration or pipeline files, and open all that they name.
    Check {
        /// Files; a service configuration (kind: Service) or pipelines.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

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
    state: PathBuf,
    /// Pipeline files; relative to this file.
    pipelines: Vec<PathBuf>,
    /// Where it listens.
    #[serde(default)]
    listen: Listen,
    /// Further webhook secrets: files with one secret a line, mode 0600.
    #[serde(default)]
    webhook_secret_files: Vec<PathBuf>,
    /// Whether the API's `POST /releases` takes models from files on this machine, on the word
    /// of who has the API token. Off: models come from tags alone.
    #[serde(default)]
    local_models: bool,
    /// `postgres://user@host/database`: a store for several replicas of the service, instead of a
    /// file below `state`.
    #[serde(default)]
    database: Option<String>,
    /// A file with that address, when it holds a password; mode 0600.
    #[serde(default)]
    database_file: Option<PathBuf>,
    /// Certificates (PEM) of the authority that the database server's certificate is from; the
    /// system's when absent.
    #[serde(default)]
    database_root: Option<PathBuf>,
    /// Runs (of different pipelines) at once.
    #[serde(default = "default_concurrent")]
    concurrent: usize,
    /// Whether this process executes runs. Off: it takes deliveries and answers the API, and other
    /// processes on the same `database` execute; it then opens no key, registry or policy.
    #[serde(default = "works")]
    work: bool,
    /// Where traces of runs are sent; nowhere when absent.
    #[serde(default)]
    telemetry: Option<Telemetry>,
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
struct Listen {
    /// For webhooks.
    webhook: SocketAddr,
    /// For `pitlane runs`; keep it on loopback.
    api: SocketAddr,
    /// For images; no registry is embedded when it is null.
    registry: Option<SocketAddr>,
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
                concurrent: default_concurrent(),
                work: works(),
                telemetry: None,
            });
        };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{}: cannot be read", file.display()))?;
        let mut parsed: Self = yaml::read(&text, MAX_CONFIG)
            .with_context(|| format!("{}: not a service configuration", file.display()))?;
        let dir = std::path::absolute(file)?;
        let dir = dir.parent().unwrap_or(Path::new("/"));
        parsed.state = dir.join(&parsed.state);
        let named = parsed.database_file.iter_mut().chain(&mut parsed.database_root);
        let paths =
            parsed.pipelines.iter_mut().chain(&mut parsed.webhook_secret_files).chain(named);
        paths.for_each(|path| *path = dir.join(&*path));
        let shared = parsed.database.is_some() || parsed.database_file.is_some();
        if !parsed.work && !shared {
            bail!("field `work` is off and there is no `database`: nobody would execute the runs");
        }
        Ok(parsed)
    }
}

impl Args {
    /// Where traces go, before anything is started; a file that cannot be read is told later.
    pub(super) fn telemetry(&self) -> Option<Telemetry> {
        ServiceFile::load(Some(self.config.as_ref()?)).ok()?.telemetry
    }
}

/// Checks files without starting anything.
pub(super) async fn check(args: ConfigArgs) -> anyhow::Result<()> {
    let ConfigCommand::Check { files } = args.command;
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{}: cannot be read", file.display()))?;
        let value: serde_json::Value = yaml::read(&text, MAX_CONFIG)?;
        let (pipelines, works) = match value["kind"].as_str() {
            Some("Service") => {
                let service = ServiceFile::load(Some(&file))?;
                (service.pipelines, service.work)
            }
            _ => (vec![file], true),
        };
        for pipeline in pipelines {
            if !works {
                // What it would not open is not opened here, either.
                let name = Pipeline::load(&pipeline)?.name;
                found.push(serde_json::json!({
                    "file": pipeline, "pipeline": name, "ok": true, "work": false,
                }));
                continue;
            }
            let ready = Ready::open(Pipeline::load(&pipeline)?).await?;
            for platform in &ready.pipeline.spec.platforms {
                crate::assemble::base::read(&ready.pipeline.spec.base.layout, *platform)?;
            }
            found.push(serde_json::json!({
                "file": pipeline, "pipeline": ready.pipeline.name, "ok": true,
                "repository": ready.pipeline.spec.registry.repository,
                "key": ready.signer.public().map(PublicKey::id), "policy": ready.policy.name,
                "sign": shown(&ready.signer)?,
                "laps": ready.lap_signer.as_ref().map(shown).transpose()?,
            }));
        }
    }
    super::print_json(&found)
}

/// What signs; a program is called once, to see that it does.
fn shown(signer: &Signer) -> anyhow::Result<serde_json::Value> {
    signer.try_out()?;
    Ok(serde_json::json!({
        "by": signer.kind(), "algorithm": signer.algorithm().map(Algorithm::name),
        "key": signer.public().map(PublicKey::id),
    }))
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let file = ServiceFile::load(args.config.as_deref())?;
    let state = file.state.as_path();
    std::fs::create_dir_all(state.join("cache"))
        .with_context(|| format!("{}: cannot be made", state.display()))?;
    let secrets = secrets(&file)?;
    let token = Token::from_file_or_new(&state.join("api-token"))?;
    let push_token = state.join("registry-token");
    create_random(&push_token)?;

    let (stop, stopping) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    let mut registry_at = None;
    if let Some(address) = file.listen.registry {
        let listener = bind(address, "registry").await?;
        registry_at = Some(listener.local_addr()?);
        let router = embedded_registry(state, &push_token).await?;
        servers.spawn(listen::serve(listener, router, stopping.clone()));
    }

    let mut pipelines = BTreeMap::new();
    let mut routes = Vec::new();
    let mut named = BTreeSet::new();
    for path in &file.pipelines {
        let mut pipeline = Pipeline::load(path)?;
        let registry = &mut pipeline.spec.registry;
        let own = registry_at.is_some_and(|at| at.to_string() == registry.repository.registry());
        if own && registry.password_file.is_none() {
            registry.password_file = Some(push_token.clone());
        }
        let source = &pipeline.spec.source;
        routes.push(Route {
            repository: source.repository.to_string(),
            pipeline: pipeline.name.clone(),
            car_kind: pipeline.spec.car_kind.to_string(),
            tag_pattern: source.tags.clone(),
            allow_moved_tags: source.allow_moved_tags,
            supersede: source.supersede,
        });
        let name = pipeline.name.clone();
        if !file.work {
            if !named.insert(name.clone()) {
                bail!("two pipeline files have the name `{name}`");
            }
            continue;
        }
        let ready = Ready::open(pipeline).await.with_context(|| path.display().to_string())?;
        if pipelines.insert(name.clone(), Arc::new(ready)).is_some() {
            bail!("two pipeline files have the name `{name}`");
        }
    }
    if routes.is_empty() {
        bail!("no pipeline to run: name one under `pipelines:`, or put one into pipelines/");
    }

    let local = if file.local_models { LocalModels::of(&routes) } else { LocalModels::default() };
    let store = store(&file).await?;
    let intake = Intake::new(store.clone(), Routes::new(routes)?, secrets);
    let webhook = bind(file.listen.webhook, "webhook").await?;
    let api = bind(file.listen.api, "api").await?;
    let listening = serde_json::json!({
        "webhook": format!("http://{}/webhook", webhook.local_addr()?),
        "api": format!("http://{}", api.local_addr()?),
        "registry": registry_at.map(|at| at.to_string()),
    });
    servers.spawn(listen::serve(webhook, intake.router(), stopping.clone()));
    let api_state = ApiState::new(store.clone(), token).with_local_models(local);
    let api_state = api_state.until(stopping.clone());
    servers.spawn(listen::serve(api, api_state.router(), stopping.clone()));
    let raising = keep_raising(&store, &pipelines).await;
    let lane = LocalLane {
        pipelines,
        work: state.join("runs"),
        cache: state.join("cache"),
        tools: Tools::find()?,
        keeper: Keeper::Store(store.clone()),
    };
    let config = ExecutorConfig { concurrent: file.concurrent, ..ExecutorConfig::default() };
    let executor = match file.work {
        true => Some(Executor::start(store, Arc::new(lane), config).await?),
        false => None,
    };
    writeln!(std::io::stdout(), "{}", serde_json::json!({ "listening": listening }))?;
    tracing::info!(%listening, "the service is ready");

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("draining; running steps are continued at the next start if they take longer");
    // The registry goes last: steps that end now still push to it.
    raising.abort();
    if let Some(executor) = executor {
        executor.drain(DRAIN).await;
    }
    stop.send_replace(true);
    while servers.join_next().await.is_some() {}
    Ok(())
}

/// Raises the counters of all pipelines, now and from time to time.
async fn keep_raising(
    store: &Store,
    pipelines: &BTreeMap<String, Arc<Ready>>,
) -> tokio::task::JoinHandle<()> {
    for ready in pipelines.values() {
        raise_counter(store, ready).await;
    }
    let (counters, known) = (store.clone(), pipelines.values().cloned().collect::<Vec<_>>());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RAISE_EVERY).await;
            for ready in &known {
                raise_counter(&counters, ready).await;
            }
        }
    })
}

/// Counters go on above what this key has already signed in the registry: by one-shot releases,
/// or by a service whose store was lost.
async fn raise_counter(store: &Store, ready: &Ready) {
    let spec = &ready.pipeline.spec;
    let raised = async {
        let highest = highest_counter(ready).await?;
        if let Some(counter) = pitlane_release::Counter::new(highest) {
            let (source, kind) = (spec.source.repository.as_str(), spec.car_kind.as_str());
            store.raise_counter(source, kind, counter).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = raised.await {
        let name = &ready.pipeline.name;
        tracing::warn!("pipeline {name}: the registry's highest counter is not known: {error:#}");
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

async fn store(file: &ServiceFile) -> anyhow::Result<Store> {
    match file.place()? {
        Place::File(path) => Ok(Store::open(&path)?),
        Place::Server(url) => Ok(tokio::task::spawn_blocking(move || Store::connect(&url)).await??),
    }
}

fn secrets(file: &ServiceFile) -> anyhow::Result<Secrets> {
    let mut secrets = Secrets::new();
    let own = file.state.join("webhook-secret");
    create_random(&own)?;
    secrets.add_file(&own, None)?;
    for path in &file.webhook_secret_files {
        secrets.add_file(path, None)?;
    }
    Ok(secrets)
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{address} is taken; choose another under `listen.{what}` of the configuration")
    })
}

async fn embedded_registry(state: &Path, push_token: &Path) -> anyhow::Result<axum::Router> {
    let config = RegistryConfig {
        push_token: Some(registry::cli::read_token(push_token)?),
        ..RegistryConfig::new(state.join("registry"))
    };
    let registry = tokio::task::spawn_blocking(|| Registry::open(config)).await??;
    Ok(registry::router(Arc::new(registry)))
}
