//! The embedded registry: the OCI distribution API over an OCI image layout on disk.
//!
//! It serves what crane, cosign, Docker, skopeo, oras and the pipeline itself need to push, pull,
//! tag and find referrers, from one folder, without a daemon. docs/registry.md is the user's page.
//!
//! # Modules
//! - from the outside in: [`cli`], [`listen`], `routes`, then one module of handlers for each of
//!   `blobs`, `uploading`, `manifests`, `lists`
//! - parsed once: `names`, `range`, `manifest`, `auth`
//! - state: `store` (blobs), `upload` (sessions), `links` (what a repository holds), `layout`,
//!   `disk` (atomic and durable files), `quota`
//!
//! # Invariants
//! - A final file name never points at half a file; a blob's name is the hash of its bytes.
//! - A manifest is answered with 201 after it, its tag and all that it names are on the disk.
//! - No handler reads, changes and writes back a shared file.

mod auth;
mod blobs;
pub mod cli;
mod disk;
mod error;
mod layout;
mod links;
pub mod listen;
mod lists;
mod manifest;
mod manifests;
mod names;
mod quota;
mod range;
mod routes;
mod store;
#[cfg(test)]
mod tests;
mod upload;
mod uploading;

use std::{
    fs::{self, File, TryLockError},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub use auth::PushToken;
pub use error::RegistryError;
pub use routes::router;

use self::{
    auth::Auth, disk::Committer, layout::Layout, links::Links, quota::Quota, store::Store,
    upload::Uploads,
};

const LOCK_FILE: &str = "lock";

/// What a registry accepts. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest blob.
    pub blob_bytes: u64,
    /// Largest manifest; the distribution specification asks for 4 MiB at least.
    pub manifest_bytes: u64,
    /// All blobs and uploads together.
    pub quota_bytes: u64,
    /// Uploads at one time.
    pub uploads: usize,
    /// After how long without a byte an upload is forgotten.
    pub upload_idle: Duration,
    /// How long a request body may pause.
    pub body_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            // A CUDA base has layers of several GiB.
            blob_bytes: 16 * 1024 * MIB,
            manifest_bytes: 4 * MIB,
            quota_bytes: 256 * 1024 * MIB,
            // Docker pushes five blobs at once; this is some ten clients.
            uploads: 64,
            upload_idle: Duration::from_hours(1),
            body_stall: Duration::from_secs(30),
        }
    }
}

/// How to open a registry.
#[derive(Debug)]
pub struct RegistryConfig {
    /// The folder: empty, or of an earlier run.
    pub root: PathBuf,
    /// What is accepted.
    pub limits: Limits,
    /// Who knows it may push; without one the registry only reads.
    pub push_token: Option<PushToken>,
    /// Whether pushers may delete.
    pub allow_delete: bool,
    /// Whether reading needs no token.
    pub anonymous_pull: bool,
    /// Whether a manifest's 201 means that it survives a power cut. Without, a killed process
    /// still loses nothing that was answered.
    pub sync: bool,
}

impl RegistryConfig {
    /// A registry that everybody may read and nobody may change, with the default limits.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            limits: Limits::default(),
            push_token: None,
            allow_delete: false,
            anonymous_pull: true,
            sync: true,
        }
    }
}

/// An open registry. One process at a time has a folder open; dropping closes it.
#[derive(Debug)]
pub struct Registry {
    auth: Auth,
    limits: Limits,
    allow_delete: bool,
    links: Links,
    uploads: Arc<Uploads>,
    layout: Arc<Layout>,
    store: Store,
    /// Held until everything above is closed: fields drop in order.
    _lock: File,
}

impl Registry {
    /// Opens the folder: takes its lock, recovers from a crash, counts what is there.
    pub fn open(config: RegistryConfig) -> Result<Self, RegistryError> {
        let RegistryConfig { root, limits, push_token, allow_delete, anonymous_pull, sync } =
            config;
        fs::create_dir_all(&root).map_err(RegistryError::io("create", &root))?;
        let path = root.join(LOCK_FILE);
        let lock = File::create(&path).map_err(RegistryError::io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RegistryError::InUse(root)),
            Err(TryLockError::Error(e)) => return Err(RegistryError::io("lock", &path)(e)),
        }
        layout::prepare(&root)?;
        let quota = Quota::new(store::recover(&root)?, limits.quota_bytes);
        let layout = Arc::new(Layout::new(&root));
        layout.refresh();
        let uploads =
            Arc::new(Uploads::new(root.join("uploads"), Arc::clone(&quota), limits.clone()));
        let (tick_layout, tick_uploads) = (Arc::clone(&layout), Arc::clone(&uploads));
        let committer = Committer::start(sync, move || {
            tick_uploads.expire();
            tick_layout.refresh();
        })
        .map_err(RegistryError::io("start the disk thread of", &root))?;
        Ok(Self {
            auth: Auth::new(push_token, anonymous_pull),
            limits,
            allow_delete,
            links: Links::new(&root),
            uploads,
            layout,
            store: Store::new(root, sync, quota, committer),
            _lock: lock,
        })
    }

    /// Bytes kept and on their way.
    pub fn used_bytes(&self) -> u64 {
        self.store.quota.used()
    }
}
