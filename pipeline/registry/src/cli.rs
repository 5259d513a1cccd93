//! `pitlane registry serve`: the registry as a program of its own.

use std::{
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

use super::{Limits, PushToken, Registry, RegistryConfig, listen::BoundedListener, router};

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
    /// Let who knows the push token delete manifests, tags and blobs
    #[arg(long)]
    allow_delete: bool,
    /// Reading needs the push token as well
    #[arg(long, requires = "push_token_file")]
    private: bool,
    /// Most that all blobs may take, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    quota: u64,
    /// Answer without waiting for the disk: a power cut may lose the last pushes
    #[arg(long)]
    no_sync: bool,
}

/// Serves until SIGINT or SIGTERM. Prints `{"listening":"HOST:PORT"}` on stdout when ready.
pub async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let push_token = args.push_token_file.as_deref().map(read_token).transpose()?;
    let config = RegistryConfig {
        limits: Limits { quota_bytes: args.quota << 30, ..Limits::default() },
        push_token,
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
    Ok(())
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
