//! `pitlane registry serve`: the registry as a program of its own.

use std::{
    collections::HashSet,
    fs, io,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use zeroize::Zeroizing;

use super::{
    Access, CollectOptions, Limits, PushToken, Registry, RegistryConfig, access::MAX_FILE,
    listen::BoundedListener, router,
};

/// Connections at one time: a fleet that pulls at once waits in the kernel's queue.
const CONNECTIONS: usize = 512;
/// A connection without a byte in either direction ends after this.
const IDLE: Duration = Duration::from_mins(2);
/// After a signal, requests in progress get this long.
const DRAIN: Duration = Duration::from_secs(10);
/// Token files are one line.
const MAX_TOKEN_FILE: u64 = 4096;

/// Where the registry listens, what it keeps, who may push.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pitlane registry serve --root registry
      everybody on this machine may pull, nobody may push
  pitlane registry serve --root registry --push-token-file push.token
      pushing needs a login: any user name, and the token as the password
  pitlane registry serve --root registry --tokens tokens.yaml --private --collect-every 24
      each token does what the file says; garbage goes once a day
  pitlane registry serve --root registry --listen 127.0.0.1:0
      on any free port; the first line on stdout says which")]
pub struct ServeArgs {
    /// Folder of the registry, an OCI image layout; made when missing
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Address to listen on; plain HTTP, so put a TLS proxy in front of any that others can reach
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// File with the token that allows pushes (mode 0600, 16 or more characters)
    #[arg(long, value_name = "FILE")]
    push_token_file: Option<PathBuf>,
    /// File with further tokens and their rights (docs/registry.md)
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Let who has that right (the push token has) delete manifests, tags and blobs
    #[arg(long)]
    allow_delete: bool,
    /// Reading needs a token as well
    #[arg(long)]
    private: bool,
    /// Most that all blobs may take, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    quota: u64,
    /// Most that one repository may hold, in GiB
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    repository_quota: Option<u64>,
    /// Collect garbage every so many hours
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    collect_every: Option<u64>,
    /// What was put or asked for within so many hours is no garbage
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    collect_grace: u64,
    /// Manifests that no tag leads to are garbage after so many days; without it they stay
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    collect_untagged: Option<u64>,
    /// Answer without waiting for the disk: a power cut may lose the last pushes
    #[arg(long)]
    no_sync: bool,
}

/// Serves until SIGINT or SIGTERM. Prints `{"listening":"HOST:PORT"}` on stdout when ready.
pub async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let push_token = args.push_token_file.as_deref().map(read_token).transpose()?;
    let access = args.tokens.as_deref().map(read_access).transpose()?.unwrap_or_default();
    let repository_bytes = args.repository_quota.map_or(u64::MAX, |gib| gib << 30);
    let config = RegistryConfig {
        limits: Limits { quota_bytes: args.quota << 30, repository_bytes, ..Limits::default() },
        push_token,
        access,
        allow_delete: args.allow_delete,
        anonymous_pull: !args.private,
        sync: !args.no_sync,
        ..RegistryConfig::new(args.root)
    };
    let registry = Arc::new(tokio::task::spawn_blocking(|| Registry::open(config)).await??);
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!("cannot listen on {}: choose another address with --listen", args.listen)
    })?;
    let address = listener.local_addr()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    writeln!(io::stdout(), "{}", serde_json::json!({ "listening": address.to_string() }))?;
    tracing::info!(%address, used_bytes = registry.used_bytes(), "registry is ready");

    let collecting = args.collect_every.map(|hours| {
        let options = CollectOptions {
            grace: Duration::from_hours(args.collect_grace),
            untagged: args.collect_untagged.map(|days| Duration::from_hours(days * 24)),
            dry_run: false,
        };
        let every = Duration::from_hours(hours);
        tokio::spawn(collect(Arc::clone(&registry), every, options))
    });

    let (stop, mut stopping) = tokio::sync::watch::channel(());
    let server = axum::serve(
        BoundedListener::new(listener, CONNECTIONS, IDLE),
        router(Arc::clone(&registry)),
    )
    .with_graceful_shutdown(async move {
        let _ = stopping.changed().await;
    })
    .into_future();
    let mut server = Box::pin(server);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    drop(stop);
    // Idle keep-alive connections would hold a graceful stop for long.
    let _ = tokio::time::timeout(DRAIN, server).await;
    if let Some(collecting) = collecting {
        collecting.abort();
    }
    Ok(())
}

/// Collects garbage now and then; nobody else says what must stay.
async fn collect(registry: Arc<Registry>, every: Duration, options: CollectOptions) {
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first turn is at once.
    turns.tick().await;
    loop {
        turns.tick().await;
        let (registry, options) = (Arc::clone(&registry), options.clone());
        let nothing = || anyhow::Ok(HashSet::new());
        let work = move || registry.collect(&options, &nothing);
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!("garbage was not collected: {error}"),
            Err(error) => tracing::error!("the collection of garbage ended: {error}"),
        }
    }
}

/// Looks at the folder of a registry that does not run.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Folder of the registry
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
}

/// Prints what is wrong with a registry's folder, a line each on stdout; fails when anything is.
pub async fn check(args: CheckArgs) -> anyhow::Result<()> {
    let root = args.root.clone();
    let wrong = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        // Takes the lock and mends what a crash left, as a start does.
        drop(Registry::open(RegistryConfig::new(&root))?);
        Ok(super::check(&root)?)
    });
    let wrong = wrong.await??;
    let mut out = io::stdout().lock();
    wrong.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    ensure!(
        wrong.is_empty(),
        "{} has {} things wrong: push them again, or delete what cannot be pushed",
        args.root.display(),
        wrong.len()
    );
    Ok(())
}

/// Reads the file with further tokens; refuses one that others may write.
pub fn read_access(path: &Path) -> anyhow::Result<Access> {
    let shown = path.display();
    let file = fs::File::open(path).with_context(|| format!("cannot read the tokens {shown}"))?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    ensure!(mode & 0o022 == 0, "others may write {shown} (mode {mode:04o}): run chmod go-w on it");
    let mut text = String::new();
    let most = u64::try_from(MAX_FILE)? + 1;
    io::Read::read_to_string(&mut io::Read::take(file, most), &mut text)
        .with_context(|| format!("cannot read the tokens {shown}"))?;
    Access::parse(&text).with_context(|| format!("in {shown}"))
}

/// Reads the push token; refuses a file that others can read.
pub fn read_token(path: &Path) -> anyhow::Result<PushToken> {
    let meta = fs::metadata(path)
        .with_context(|| format!("cannot read the push token {}", path.display()))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "others may read the push token {} (mode {mode:04o}): run chmod 600 on it",
            path.display()
        );
    }
    ensure!(meta.len() <= MAX_TOKEN_FILE, "{} is too large for a push token", path.display());
    let text = fs::read_to_string(path).map(Zeroizing::new);
    let text = text.with_context(|| format!("cannot read the push token {}", path.display()))?;
    PushToken::new(&text).with_context(|| format!("in {}", path.display()))
}
