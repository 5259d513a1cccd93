//! `pitlane serve`: the service on one machine.

mod duties;
mod embedded;
mod pipelines;

use std::{io::Write as _, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

pub(super) use self::embedded::Embedded;
use self::{
    duties::{keep_raising, tell},
    pipelines::{Opened, open, signatures_are_known},
};
use super::service_file::{Place, ServiceFile};
use crate::{
    github::Link,
    registry,
    service::{
        ApiState, CarTokens, Executor, ExecutorConfig, Intake, Keeping, LocalModels, Progress,
        Routes, Secrets, Store, Token, listen, secret::create_random,
    },
    steps::{Keeper, LocalLane, Tools},
    telemetry::Telemetry,
};

/// How long running steps may go on after a signal.
const DRAIN: Duration = Duration::from_secs(30);

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

impl Args {
    /// Where traces go, before anything is started; a file that cannot be read is told later.
    pub(super) fn telemetry(&self) -> Option<Telemetry> {
        ServiceFile::load(Some(self.config.as_ref()?)).ok()?.telemetry
    }
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
    let mut servers = JoinSet::new();
    let (mut registry_at, mut registry) = (None, None);
    if let Some(address) = file.listen.registry {
        let listener = bind(address, "registry").await?;
        registry_at = Some(listener.local_addr()?);
        let opened = file.registry.open(state, &push_token).await?;
        let router = registry::router(Arc::clone(&opened));
        servers.spawn(listen::serve(listener, router, stopping.clone()));
        registry = Some(opened);
    }

    let Opened { pipelines, routes, environments } = open(&file, registry_at, &push_token).await?;
    let local = if file.local_models { LocalModels::of(&routes) } else { LocalModels::default() };
    let store = store(&file).await?;
    let routes = Routes::new(routes)?;
    let sources = pipelines.values().map(|ready| &ready.pipeline.spec.source);
    let github = file.github.as_ref().filter(|_| file.work);
    let link = github.map(|github| Link::open(github, sources)).transpose()?;
    let link = link.map(Arc::new);
    signatures_are_known(&pipelines, link.as_deref())?;
    // A front knows no keys and tells nobody.
    let mut told = match file.work {
        true => tell(&file, &store, &routes, &pipelines, link.as_ref(), &stopping)?,
        false => JoinSet::new(),
    };
    if file.work || registry.is_some() {
        let (keep, store, runs) = (file.keep.clone(), store.clone(), state.join("runs"));
        told.spawn(Keeping { keep, store, runs, registry }.run(stopping.clone()));
    }
    let intake = Intake::new(store.clone(), routes, secrets);
    let webhook = bind(file.listen.webhook, "webhook").await?;
    let api = bind(file.listen.api, "api").await?;
    let listening = serde_json::json!({
        "webhook": format!("http://{}/webhook", webhook.local_addr()?),
        "api": format!("http://{}", api.local_addr()?),
        "registry": registry_at.map(|at| at.to_string()),
    });
    servers.spawn(listen::serve(webhook, intake.router(), stopping.clone()));
    let api_state = ApiState::new(store.clone(), token).with_local_models(local);
    let cars = file.car_tokens.as_deref().map(CarTokens::read).transpose()?.unwrap_or_default();
    let progress = Progress::default();
    let api_state = api_state.with_progress(progress.clone()).with_cars(cars);
    let api_state = api_state.with_environments(environments).until(stopping.clone());
    servers.spawn(listen::serve(api, api_state.router(), stopping.clone()));
    let raising = keep_raising(&store, &pipelines).await;
    let lane = LocalLane {
        pipelines,
        work: state.join("runs"),
        cache: state.join("cache"),
        tools: Tools::find()?,
        keeper: Keeper::Store(store.clone()),
        github: link,
        progress,
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
    told.join_all().await;
    Ok(())
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
