//! `pitlane-verifier admit`: Kubernetes' admission webhooks, and their certificates.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context as _;
use pitlane_fetch::{Credentials, Names, Registry, RegistryOptions, Source};
use pitlane_release::Platform;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    judge::Places,
    webhook::{
        certs,
        court::{Court, NoMatch, Rules},
        image,
        metrics::Metrics,
        policies::{Look, Policies, PolicyFiles},
        routes::{Health, Webhook},
        serve::serve,
        tls::Certificates,
    },
};

/// How long requests are still taken after a signal: endpoints are taken out of a Service while
/// requests are on their way.
const GOODBYE: Duration = Duration::from_secs(3);
/// Where the password for `--user` is read from.
const PASSWORD: &str = "PITLANE_REGISTRY_PASSWORD";

/// Admit only what the policies admit: Kubernetes' webhooks.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
/validate judges every image of a Pod and of what makes Pods; every policy that speaks of an image
must admit it. /mutate writes a digest where a tag is, so that what was judged is what is pulled.
What cannot be decided is denied. Policies, keys and certificate are read anew when their files
change; what is broken is told, and the one before stays.

The first line on stdout says in JSON where it listens. docs/admission.md has the installation on
K3s and MicroShift; examples/kubernetes the manifests.

Examples:
  pitlane-verifier admit --policy policies/ --key release=release.pub \\
      --tls-cert tls.crt --tls-key tls.key
  pitlane-verifier admit --policy p.yaml --platform linux/arm64 --no-match warn \\
      --user r.example=reader --tls-cert tls.crt --tls-key tls.key
  pitlane-verifier admit certs --out certs"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// A policy, or a folder of policies (*.yaml); may be repeated.
    #[arg(long, env = "PITLANE_ADMIT_POLICY", value_delimiter = ',', required = true)]
    policy: Vec<PathBuf>,
    /// A public key that a policy only names: FILE, or NAME=FILE; may be repeated.
    #[arg(long, env = "PITLANE_ADMIT_KEY", value_delimiter = ',')]
    key: Vec<String>,
    /// A trusted root that a policy names, or for one that names none: FILE, or NAME=FILE.
    #[arg(long, env = "PITLANE_ADMIT_TRUSTED_ROOT", value_delimiter = ',', value_name = "FILE")]
    trusted_root: Vec<String>,
    /// Where the hooks listen, with TLS.
    #[arg(long, env = "PITLANE_ADMIT_LISTEN", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// The certificate chain (PEM).
    #[arg(long, env = "PITLANE_ADMIT_TLS_CERT", value_name = "FILE", required = true)]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, env = "PITLANE_ADMIT_TLS_KEY", value_name = "FILE", required = true)]
    tls_key: Option<PathBuf>,
    /// Where /healthz, /readyz and /metrics listen, without TLS.
    #[arg(long, env = "PITLANE_ADMIT_HEALTH_LISTEN", default_value = "127.0.0.1:8081")]
    health_listen: SocketAddr,
    /// What happens to images that no policy speaks of.
    #[arg(long, env = "PITLANE_ADMIT_NO_MATCH", value_enum, default_value_t)]
    no_match: NoMatch,
    /// A platform that must be admitted; may be repeated. All that an image carries when absent:
    /// a Pod may be put on any node.
    #[arg(long, env = "PITLANE_ADMIT_PLATFORM", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Judge tags by what they name now, with a warning, instead of refusing them: what is pulled
    /// later may be another image. Install the mutating webhook instead.
    #[arg(long, env = "PITLANE_ADMIT_RESOLVE_TAGS")]
    resolve_tags: bool,
    /// Write REPOSITORY@DIGEST, without the tag that was there: for runtimes that take no image
    /// with both (CRI-O 1.31.0). Patterns for tags then match no pinned image.
    #[arg(long, env = "PITLANE_ADMIT_DROP_TAGS")]
    drop_tags: bool,
    /// Longest time to an answer (seconds); four fifths of what the API server grants if that is
    /// less.
    #[arg(long, env = "PITLANE_ADMIT_DEADLINE", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=30))]
    deadline: u64,
    /// Longest that an admission is kept (seconds); refusals are kept for at most 30.
    #[arg(long, env = "PITLANE_ADMIT_CACHE_SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    cache_seconds: u64,
    /// Most verdicts kept (about 1 KB each).
    #[arg(long, env = "PITLANE_ADMIT_CACHE_ENTRIES", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    cache_entries: u32,
    /// How often policies, keys and certificate are looked at (seconds).
    #[arg(long, env = "PITLANE_ADMIT_LOOK_EVERY", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    look_every: u64,
    /// A registry (HOST:PORT) to speak plain HTTP to; those on loopback always are.
    #[arg(long, env = "PITLANE_ADMIT_PLAIN_HTTP", value_delimiter = ',')]
    plain_http: Vec<String>,
    /// User name for one registry, which alone gets it; the password comes from
    /// `PITLANE_REGISTRY_PASSWORD`.
    #[arg(long, env = "PITLANE_ADMIT_USER", value_name = "REGISTRY=USER")]
    user: Option<Login>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make or renew an own authority's certificate for the webhook.
    Certs(CertsArgs),
}

/// Make or renew an own authority's certificate for the webhook.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes ca.crt, ca.key, tls.crt, tls.key and ca-bundle.yaml, a kustomize patch for both webhook
configurations. An authority that is there is used again: that is how a certificate is renewed.
Keep ca.key off the cluster.

Example:
  pitlane-verifier admit certs --out examples/kubernetes/components/own-certificate/certs")]
struct CertsArgs {
    /// The folder.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A name of the webhook; may be repeated.
    #[arg(long, default_values_t = [
        "pitlane-admission.pitlane-system.svc".to_owned(),
        "pitlane-admission.pitlane-system.svc.cluster.local".to_owned(),
    ])]
    name: Vec<String>,
    /// How long the certificate lasts.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

/// `REGISTRY=USER`.
#[derive(Clone, Debug)]
struct Login {
    registry: String,
    user: String,
}

impl std::str::FromStr for Login {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((registry, user)) if !registry.is_empty() && !user.is_empty() => {
                // As images are looked up by.
                let registry = image::registry(registry).map_err(|error| error.to_string())?;
                Ok(Self { registry: registry.into(), user: user.into() })
            }
            _ => Err("want REGISTRY=USER, e.g. r.example:5000=reader".into()),
        }
    }
}

/// Runs the webhooks until a signal, or makes certificates.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(Command::Certs(args)) = &args.command {
        let today = crate::judge::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let made = certs::make(&args.out, &args.name, args.days, today)?;
        let value = serde_json::json!({
            "authority": made.authority, "certificate": made.leaf[0], "key": made.leaf[1],
            "patch": made.patch, "renewed": made.renewed, "names": args.name,
        });
        super::print_json(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(admit(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn admit(args: Args) -> anyhow::Result<()> {
    // clap demands both.
    let (chain, key) = (args.tls_cert.clone(), args.tls_key.clone());
    let (chain, key) = (chain.unwrap_or_default(), key.unwrap_or_default());
    let certificates = Arc::new(Certificates::open(&chain, &key)?);
    let tls = TlsAcceptor::from(Arc::new(certificates.config()?));
    let mut names = Names::default();
    args.key.iter().for_each(|key| names.add_key(key));
    args.trusted_root.iter().for_each(|root| names.add_root(root));
    let places = Arc::new(places(&args)?);
    let files = PolicyFiles { paths: args.policy.clone(), names };
    let policies = Arc::new(Policies::open(files, places)?);
    let metrics = Arc::new(Metrics::default());
    let rules = Rules {
        no_match: args.no_match,
        platforms: args.platform.clone(),
        resolve_tags: args.resolve_tags,
        keep: Duration::from_secs(args.cache_seconds),
        most_kept: usize::try_from(args.cache_entries).unwrap_or(usize::MAX),
    };
    let court = Court::new(Arc::clone(&policies), rules, Arc::clone(&metrics));
    let deadline = Duration::from_secs(args.deadline);
    let webhook = Arc::new(Webhook::new(court, deadline, !args.drop_tags, metrics));
    let health = Arc::new(Health {
        ready: AtomicBool::new(true),
        policies: Arc::clone(&policies),
        certificates,
        webhook: Arc::clone(&webhook),
    });

    let hooks = bind(args.listen, "--listen").await?;
    let probes = bind(args.health_listen, "--health-listen").await?;
    let listening = serde_json::json!({
        "hooks": format!("https://{}", hooks.local_addr()?),
        "health": format!("http://{}", probes.local_addr()?),
    });
    let (stop, stopping) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(serve(hooks, Some(tls), webhook.router(), stopping.clone()));
    servers.spawn(serve(probes, None, health.router(), stopping));
    let looking = tokio::spawn(look(Arc::clone(&health), Duration::from_secs(args.look_every)));
    writeln!(std::io::stdout(), "{}", serde_json::json!({ "listening": listening }))?;
    tracing::info!(%listening, policies = policies.set().judge.len(), "ready to admit");

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("ending; requests are taken for another {GOODBYE:?}");
    health.ready.store(false, Relaxed);
    tokio::time::sleep(GOODBYE).await;
    looking.abort();
    stop.send_replace(true);
    while servers.join_next().await.is_some() {}
    Ok(())
}

/// Looks at policies, keys and certificate again and again.
async fn look(health: Arc<Health>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let health = Arc::clone(&health);
        // Parsing a few hundred policies is no work for a thread that answers.
        let looked = tokio::task::spawn_blocking(move || {
            match health.policies.look() {
                Look::Same => {}
                Look::Changed(policies) => {
                    let generation = health.policies.set().generation;
                    tracing::info!(policies, generation, "the policies changed");
                }
                Look::Broken(why) => {
                    health.webhook.metrics.reload_failed();
                    tracing::error!("the policies before stay in use: {why}");
                }
            }
            match health.certificates.look() {
                Ok(false) => {}
                Ok(true) => tracing::info!(ends = health.certificates.ends(), "a new certificate"),
                Err(error) => {
                    health.webhook.metrics.reload_failed();
                    tracing::error!("the certificate before stays in use: {error:#}");
                }
            }
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "looking at the files failed");
        }
    }
}

fn places(args: &Args) -> anyhow::Result<Places> {
    let options = RegistryOptions { plain_http: args.plain_http.clone(), credentials: None };
    let login = args.user.clone().map(|Login { registry, user }| {
        let password = std::env::var(PASSWORD)
            .with_context(|| format!("--user wants a password in {PASSWORD}"))?;
        let credentials = Some(Credentials { user, password });
        let source = Registry::new(RegistryOptions { credentials, ..options.clone() })?;
        anyhow::Ok((registry, Source::Registry(source)))
    });
    let login = login.transpose()?;
    Ok(Places { open: Source::Registry(Registry::new(options)?), login })
}

async fn bind(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{address} is taken; choose another with {option}"))
}
