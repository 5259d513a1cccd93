//! The embedded registry: the OCI distribution API over an OCI image layout on disk.
//!
//! It serves what crane, cosign, Docker, skopeo, oras and the pipeline itself need to push, pull,
//! tag and find referrers, from one folder, without a daemon. docs/registry.md is the user's page.
//!
//! # Modules
//! - from the outside in: [`cli`], [`listen`], `routes`, then one module of handlers for each of
//!   `blobs`, `uploading`, `manifests`, `removal`, `lists`
//! - parsed once: `names`, `range`, `manifest`; who may what: `access`, `auth`, `pass`
//! - state: `store` (blobs), `upload` (sessions), `links` (what a repository holds), `layout`,
//!   `disk` (atomic and durable files), `quota`
//! - what goes: `collect`, decided by `reach`, kept apart from pushes by `gate`
//! - after a crash: `repair`; [`check()`] says what is wrong
//!
//! # Invariants
//! - A final file name never points at half a file; a blob's name is the hash of its bytes.
//! - A manifest is answered with 201 after it, its tag and all that it names are on the disk.
//! - No handler reads, changes and writes back a shared file.
//! - Nothing is removed that a kept manifest names, or that a push under way counts on.

mod access;
mod auth;
mod blobs;
mod check;
pub mod cli;
mod collect;
mod disk;
mod error;
mod gate;
mod layout;
mod links;
pub mod listen;
mod lists;
mod manifest;
mod manifests;
mod names;
mod pass;
mod quota;
mod range;
mod reach;
mod removal;
mod repair;
mod routes;
mod store;
#[cfg(test)]
mod tests;
mod upload;
mod uploading;

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

pub use access::{Access, Right, TokenSpec, TokensFile};
pub use auth::PushToken;
pub use check::check;
pub use collect::{CollectOptions, Collected, Keep};
pub use error::RegistryError;
pub use routes::router;

use self::{
    auth::Auth,
    disk::Committer,
    gate::Gate,
    layout::Layout,
    links::Links,
    manifest::Parsed,
    names::Repo,
    quota::{Quota, Shares},
    repair::Closing,
    store::Store,
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
    /// What one repository may hold; a blob counts in every repository that holds it.
    pub repository_bytes: u64,
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
            repository_bytes: u64::MAX,
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
    /// Who knows it may do everything everywhere. Without it and without others in `access` the
    /// registry only reads.
    pub push_token: Option<PushToken>,
    /// Tokens with fewer rights, and who reads without one.
    pub access: Access,
    /// Whether anything may be deleted, by who has that right.
    pub allow_delete: bool,
    /// Whether reading needs no token; `access` may say it by repository.
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
            access: Access::default(),
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
    gate: Gate,
    links: Links,
    shares: Arc<Shares>,
    uploads: Arc<Uploads>,
    layout: Arc<Layout>,
    store: Store,
    _closing: Closing,
    /// Held until everything above is closed: fields drop in order.
    _lock: File,
}

impl Registry {
    /// Opens the folder: takes its lock, recovers from a crash, counts what is there.
    pub fn open(config: RegistryConfig) -> Result<Self, RegistryError> {
        let RegistryConfig { root, limits, push_token, access, allow_delete, anonymous_pull, sync } =
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
        let links = Links::new(&root);
        let sizes = store::recover(&root)?;
        let (closing, closed) = Closing::open(&root).map_err(RegistryError::io("open", &root))?;
        if !closed {
            let repaired = repair::repair(&root, &links, limits.manifest_bytes);
            repaired.map_err(RegistryError::io("mend links in", &root))?;
        }
        let used = sizes.values().fold(0u64, |sum, size| sum.saturating_add(*size));
        let quota = Quota::new("the registry", used, limits.quota_bytes);
        let shares = shares(&links, &sizes).map_err(RegistryError::io("count links in", &root))?;
        let shares = Arc::new(Shares::new(limits.repository_bytes, shares));
        let layout = Arc::new(Layout::new(&root));
        layout.refresh();
        let uploads = Arc::new(Uploads::new(
            root.join("uploads"),
            Arc::clone(&quota),
            Arc::clone(&shares),
            limits.clone(),
        ));
        let (tick_layout, tick_uploads) = (Arc::clone(&layout), Arc::clone(&uploads));
        let committer = Committer::start(sync, move || {
            tick_uploads.expire();
            tick_layout.refresh();
        })
        .map_err(RegistryError::io("start the disk thread of", &root))?;
        Ok(Self {
            auth: Auth::new(push_token, access, anonymous_pull),
            limits,
            allow_delete,
            gate: Gate::default(),
            links,
            shares,
            uploads,
            layout,
            store: Store::new(root, sync, quota, committer),
            _closing: closing,
            _lock: lock,
        })
    }

    /// Bytes kept and on their way.
    pub fn used_bytes(&self) -> u64 {
        self.store.quota.used()
    }

    /// What a manifest of a repository says; `None` when it is not there, or was altered on the
    /// disk.
    fn parsed(&self, repo: &Repo, digest: &pitlane_release::Digest) -> io::Result<Option<Parsed>> {
        let open = |digest: &_| self.store.open(digest);
        self.links.parsed(repo, digest, open, self.limits.manifest_bytes)
    }
}

/// What each repository holds, in bytes.
fn shares(
    links: &Links,
    sizes: &HashMap<pitlane_release::Digest, u64>,
) -> io::Result<Vec<(Repo, u64)>> {
    let count = |repo: Repo| {
        let held = links.blobs(&repo)?.into_iter().chain(links.manifests(&repo)?);
        let used = held.filter_map(|digest| sizes.get(&digest)).sum();
        Ok((repo, used))
    };
    links.places()?.into_iter().map(count).collect()
}
