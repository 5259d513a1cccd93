//! `pitlane signer`: the process that has the key, apart from the service.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, ensure};
use nix::{
    sys::{
        prctl::set_dumpable,
        resource::{Resource, setrlimit},
    },
    unistd::{Gid, Group, Uid, User},
};
use pitlane_release::key::PublicKey;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::sign::{
    Algorithm, Signer,
    apart::{self, Allowed, Limits, Peers, place::Place},
};

/// Hold a key, and sign statements for a service on this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A service whose pipeline file says `sign.socket` and `sign.publicKey` has no key of its own. Signed \
are in-toto statements of the types that pipelines make, and cosign's documents for .sig tags; \
never a digest or other bytes. Each signature is a line of the log.

The first line on stdout says in JSON where it listens.

Examples:
  pitlane signer --key release.key --password-file password --socket /run/pitlane-signer/socket \\
    --group pitlane --allow-user pitlane
  pitlane signer --key laps.key --socket laps.sock --predicate https://pitlane.dev/lap/v1")]
pub(super) struct Args {
    /// The private key: cosign's format or PKCS#8; mode 0600.
    #[arg(long)]
    key: PathBuf,
    /// File with its password; mode 0600. Else `COSIGN_PASSWORD`, if it has one.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// Where the socket is made; the folder must exist.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// A group that may connect: the socket's mode is then 0660, else 0600.
    #[arg(long, value_name = "NAME|GID")]
    group: Option<String>,
    /// A user that is answered; this process's own when none is named.
    #[arg(long, value_name = "NAME|UID")]
    allow_user: Vec<String>,
    /// A predicate type that is signed; all that pipelines make when none is named.
    #[arg(long, value_name = "TYPE")]
    predicate: Vec<String>,
    /// Most requests a minute; a release makes about 14.
    #[arg(long, value_name = "N", default_value_t = 240)]
    per_minute: u32,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    // Before the key is here: neither a core file nor another process of this user may show it.
    set_dumpable(false).context("this process's memory cannot be closed to others")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("core files cannot be turned off")?;
    ensure!(args.per_minute > 0, "--per-minute 0: nothing would be signed");
    let allowed = if args.predicate.is_empty() {
        Allowed::default()
    } else {
        Allowed::only(&args.predicate).map_err(|unknown| {
            let known = apart::judge::KNOWN.join(", ");
            anyhow::anyhow!("--predicate {unknown}: no type that pipelines make; want {known}")
        })?
    };
    let peers = peers(&args.allow_user)?;
    let group = args.group.as_deref().map(group).transpose()?;
    let signer = Signer::open(&args.key, args.password_file.as_deref())?;
    signer.try_out()?;
    let place = Place::new(&args.socket, group)?;
    let key = signer.public().map(PublicKey::id);
    let listening = serde_json::json!({
        "socket": args.socket, "key": key, "algorithm": signer.algorithm().map(Algorithm::name),
        "users": peers,
    });
    let (stop, stopping) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    writeln!(std::io::stdout(), "{}", serde_json::json!({ "listening": listening }))?;
    tracing::info!(%listening, "the signer is ready");
    let limits = Limits { per_minute: args.per_minute };
    let asked = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
        // The sender lives on: without it nobody could tell a stop from its end.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = apart::serve(&place.listener, signer, allowed, peers, limits, stopping) => {}
        () = asked => {}
    }
    Ok(())
}

/// Users by name or number.
fn peers(named: &[String]) -> anyhow::Result<Peers> {
    if named.is_empty() {
        return Ok([Uid::effective().as_raw()].into());
    }
    let find = |name: &String| {
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        let user = User::from_name(name)?.with_context(|| format!("no user `{name}`"))?;
        Ok(user.uid.as_raw())
    };
    named.iter().map(find).collect()
}

fn group(name: &str) -> anyhow::Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    Ok(Group::from_name(name)?.with_context(|| format!("no group `{name}`"))?.gid)
}
