//! A Sigstore instance on loopback, for tests and trials.
//!
//! It is real where verifiers look: tokens, proofs of possession and signatures are checked,
//! certificates carry log proofs, entries are in a Merkle tree, timestamps are RFC 3161. It is a
//! lab everywhere else: keys live in memory, logs forget, and anybody gets a token for anybody.
//!
//! - `issuer`: identity tokens (OIDC), as people and as GitHub Actions jobs have them
//! - `authority`, `ct`, `pki`: certificates in the manner of Fulcio
//! - `log`, `old_log`, `tree`: transparency logs in the manner of Rekor v2 and v1
//! - `stamper`: timestamps
//! - `files`: `trusted_root.json` and `signing_config.json`
//! - [`Fault`]: what each of them can be told to do wrong

mod authority;
mod ct;
mod fault;
mod files;
mod issuer;
mod log;
mod old_log;
mod pki;
mod stamper;
mod tree;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use axum::{Router, middleware};
use tokio::net::TcpListener;

pub use fault::{Fault, Part};
pub use issuer::{REQUEST_TOKEN, Subject};

/// A running instance. It ends when this is dropped.
pub struct Lab {
    world: Arc<World>,
    folder: PathBuf,
    _runtime: tokio::runtime::Runtime,
}

/// Where its services listen.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The issuer of tokens.
    pub issuer: String,
    /// The certificate authority.
    pub authority: String,
    /// The log that speaks Rekor v2.
    pub log: String,
    /// The log that speaks Rekor v1.
    pub old_log: String,
    /// The timestamp authority's endpoint.
    pub stamper: String,
}

/// All keys and all state.
struct World {
    addresses: Addresses,
    issuer: issuer::Issuer,
    authority: authority::Authority,
    log: log::Log,
    old_log: old_log::OldLog,
    stamper: stamper::Stamper,
    faults: fault::Faults,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lab({:?})", self.world.addresses)
    }
}

impl Lab {
    /// Starts an instance on free ports and writes its files into a folder.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let world = runtime.block_on(serve())?;
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        files::write(&world, folder)?;
        Ok(Self { world, folder: folder.to_owned(), _runtime: runtime })
    }

    /// Where its services listen.
    pub fn addresses(&self) -> &Addresses {
        &self.world.addresses
    }

    /// `trusted_root.json`.
    pub fn trusted_root(&self) -> PathBuf {
        self.folder.join(files::TRUSTED_ROOT)
    }

    /// `signing_config.json`, with the log of version 2.
    pub fn signing_config(&self) -> PathBuf {
        self.folder.join(files::SIGNING_CONFIG)
    }

    /// `signing_config_v1.json`, with the log of version 1 and no timestamps.
    pub fn old_signing_config(&self) -> PathBuf {
        self.folder.join(files::OLD_SIGNING_CONFIG)
    }

    /// A token that lives for ten minutes.
    pub fn token(&self, subject: &Subject<'_>) -> String {
        self.world.issuer.token(subject, issuer::LIFETIME)
    }

    /// A token that ended a minute ago.
    pub fn old_token(&self, subject: &Subject<'_>) -> String {
        self.world.issuer.token(subject, -60)
    }

    /// Tells a part what to do wrong from now on; nothing, when there is no fault.
    pub fn set(&self, part: Part, fault: Option<Fault>) {
        self.world.faults.set(part, fault);
    }

    /// How often a part was asked something.
    pub fn requests(&self, part: Part) -> usize {
        self.world.faults.requests(part)
    }
}

async fn serve() -> anyhow::Result<Arc<World>> {
    let mut listeners = Vec::new();
    for _ in 0..5 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let url = |at: usize| anyhow::Ok(format!("http://{}", listeners[at].local_addr()?));
    let addresses = Addresses {
        issuer: url(0)?,
        authority: url(1)?,
        log: url(2)?,
        old_log: url(3)?,
        stamper: format!("{}/api/v1/timestamp", url(4)?),
    };
    let world = Arc::new(World {
        issuer: issuer::Issuer::new(&addresses.issuer),
        authority: authority::Authority::new()?,
        log: log::Log::new()?,
        old_log: old_log::OldLog::new()?,
        stamper: stamper::Stamper::new()?,
        faults: fault::Faults::default(),
        addresses,
    });
    let parts = [
        (Part::Issuer, issuer::routes()),
        (Part::Authority, authority::routes()),
        (Part::Log, log::routes()),
        (Part::OldLog, old_log::routes()),
        (Part::Stamper, stamper::routes()),
    ];
    for (listener, (part, routes)) in listeners.into_iter().zip(parts) {
        let state = (Arc::clone(&world), part);
        let routes: Router<Arc<World>> =
            routes.layer(middleware::from_fn_with_state(state, fault::middleware));
        let app = routes.with_state(Arc::clone(&world));
        tokio::spawn(async move { axum::serve(listener, app).await });
    }
    Ok(world)
}
