//! `pitlane serve`: the service on one machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::service_file::{Place, ServiceFile};
use crate::{
    config::Pipeline,
    github::Link,
    registry::{self, Registry, RegistryConfig},
    service::{
        Advancing, ApiState, CarTokens, Executor, ExecutorConfig, Intake, LocalModels, Progress,
        Reporting, Route, Routes, Secrets, Store, Telling, Token, Watch, follow, holder, listen,
        secret::create_random,
    },
    steps::{Keeper, LocalLane, Ready, Tools, highest_counter},
    telemetry::Telemetry,
};

/// How long running steps may go on after a signal.
const DRAIN: Duration = Duration::from_secs(30);
/// How often the registry is asked for its highest counter: a one-shot release beside the
/// service takes numbers, too.
const RAISE_EVERY: Duration = Duration::from_secs(15);

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
    let mut registry_at = None;
    if let Some(address) = file.listen.registry {
        let listener = bind(address, "registry").await?;
        registry_at = Some(listener.local_addr()?);
        let router = embedded_registry(state, &push_token).await?;
        servers.spawn(listen::serve(listener, router, stopping.clone()));
    }

    let (pipelines, routes) = open(&file, registry_at, &push_token).await?;

    let local = if file.local_models { LocalModels::of(&routes) } else { LocalModels::default() };
    let store = store(&file).await?;
    let routes = Routes::new(routes)?;
    let sources = pipelines.values().map(|ready| &ready.pipeline.spec.source);
    let github = file.github.as_ref().filter(|_| file.work);
    let link = github.map(|github| Link::open(github, sources)).transpose()?;
    let link = link.map(Arc::new);
    signatures_are_known(&pipelines, link.as_deref())?;
    // A front knows no keys and tells nobody.
    let told = match file.work {
        true => tell(&file, &store, &routes, &pipelines, link.as_ref(), &stopping)?,
        false => JoinSet::new(),
    };
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
    let api_state =
        api_state.with_progress(progress.clone()).with_cars(cars).until(stopping.clone());
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

/// The pipelines of a configuration, by name.
type Pipelines = BTreeMap<String, Arc<Ready>>;

/// Opens the pipelines, and says which tags they are for. A front opens none. Those that push to
/// the embedded registry get its token.
async fn open(
    file: &ServiceFile,
    registry_at: Option<SocketAddr>,
    push_token: &Path,
) -> anyhow::Result<(Pipelines, Vec<Route>)> {
    let mut pipelines = BTreeMap::new();
    let mut routes = Vec::new();
    let mut named = BTreeSet::new();
    for path in &file.pipelines {
        let mut pipeline = Pipeline::load(path)?;
        let registry = &mut pipeline.spec.registry;
        let own = registry_at.is_some_and(|at| at.to_string() == registry.repository.registry());
        if own && registry.password_file.is_none() {
            registry.password_file = Some(push_token.to_owned());
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
    Ok((pipelines, routes))
}

/// Refuses a pipeline that asks for signed tags where nobody could say which are.
fn signatures_are_known(pipelines: &Pipelines, link: Option<&Link>) -> anyhow::Result<()> {
    for ready in pipelines.values() {
        let source = &ready.pipeline.spec.source;
        if source.signed_tags && !link.is_some_and(|link| link.has(&source.repository)) {
            bail!(
                "pipeline {}: `source.signedTags` needs `github:` in the service's configuration, \
                 and a source on it",
                ready.pipeline.name
            );
        }
    }
    Ok(())
}

/// Starts those who look at GitHub, and who tell others of what changes in the store.
fn tell(
    file: &ServiceFile,
    store: &Store,
    routes: &Routes,
    pipelines: &Pipelines,
    link: Option<&Arc<Link>>,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<()>> {
    let mut told = JoinSet::new();
    if let Some(link) = link {
        let watch = Watch::new(Arc::clone(link), store.clone(), routes.clone(), holder());
        told.spawn(watch.run(stopping.clone()));
        if link.report().any() {
            let reporting = Reporting::new(store.clone(), Arc::clone(link), pipelines.clone());
            told.spawn(follow(store.clone(), holder(), reporting, stopping.clone()));
        }
    }
    if let Some(notify) = &file.notify {
        let telling = Telling::new(store.clone(), notify.clone())?;
        told.spawn(follow(store.clone(), holder(), telling, stopping.clone()));
    }
    if pipelines.values().any(|ready| ready.pipeline.spec.promote.is_some()) {
        let dir = file.state.join("promote");
        let advancing = Advancing::new(store.clone(), pipelines.clone(), link.cloned(), dir);
        told.spawn(follow(store.clone(), holder(), advancing, stopping.clone()));
    }
    Ok(told)
}

/// Raises the counters of all pipelines, now and from time to time.
async fn keep_raising(store: &Store, pipelines: &Pipelines) -> tokio::task::JoinHandle<()> {
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
