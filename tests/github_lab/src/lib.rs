//! A GitHub in memory on loopback, for tests and trials; it speaks real HTTP and real git.
//!
//! It is strict where clients go wrong: signatures of Apps are checked, tokens end and have
//! permissions, requests are counted and blocked, lists have pages, pushes of more than three
//! tags are silent, annotations pile up. It forgets everything when it ends.
//!
//! - `git`, `push`, `smart`: objects and refs, pushes, cloning by `git http-backend`
//! - `event`, `hook`: payloads and their signed delivery, with [`Mischief`]
//! - `auth`, `limit`: Apps, tokens, permissions; budgets
//! - `serve`, `api`, `answer`: the HTTP API, at the root and at `/api/v3`
//! - `steer`, `look`: what tests do with it; `control`: what scripts do
//! - [`Fault`]: what single requests can be told to do wrong

// A repository has sixty fields.
#![recursion_limit = "256"]

mod answer;
mod api;
mod auth;
mod control;
mod event;
mod fault;
mod git;
mod hook;
mod limit;
mod look;
mod push;
mod serve;
mod smart;
mod steer;
mod world;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::net::TcpListener;

pub use fault::{Fault, Rule};
pub use git::Signature;
pub use hook::{Form, Mischief};
pub use world::Asked;

use world::World;

/// A running lab. It ends when this is dropped.
pub struct Lab {
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// What the listener and the handle share.
pub(crate) struct Shared {
    world: Mutex<World>,
    client: reqwest::Client,
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An App as its owner has it.
#[derive(Clone, Debug)]
pub struct AppKey {
    /// The App's number.
    pub id: u64,
    /// The number of its one installation.
    pub installation: u64,
    /// The private key in PEM.
    pub pem: String,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lab({})", self.shared.world().base)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A runtime must not be waited for from within another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Lab {
    /// Starts a lab on a free port; its bare repositories lie in a folder.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let base = format!("http://{}", listener.local_addr()?);
        std::fs::create_dir_all(folder)?;
        let world = Mutex::new(World::new(base, folder.canonicalize()?));
        let client = reqwest::Client::builder().no_proxy().build()?;
        let shared = Arc::new(Shared { world, client });
        let serving = Arc::clone(&shared);
        runtime.spawn(async move {
            if let Ok(listener) = TcpListener::from_std(listener) {
                serve::listen(listener, serving).await;
            }
        });
        Ok(Self { shared, runtime: Some(runtime) })
    }
}
