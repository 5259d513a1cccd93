//! Pushes to registries: blobs, manifests, what refers to them, and tags at the end.
//!
//! - [`Client`]: one repository of one registry. Everything is asked for before it is sent, and
//!   read back before a tag names it.
//! - [`Logins`], [`Login`]: Docker's configuration and credential helpers
//! - [`Retry`]: what is tried again, and when
//! - [`Content`]: what can be pushed
//!
//! # What always holds
//! - Nothing of ours, and no login, follows a registry to another place: redirects are errors.
//! - An answer is read up to a bound in bytes and time.
//! - A tag that names the wanted digest is not written again; one that names another is moved only
//!   where the registry moves tags, and else refused by name.
//! - An entry in a list that is kept in a tag is looked for again after it was written, and again
//!   before any tag of a release is.

mod auth;
mod content;
mod error;
mod helper;
mod http;
mod logins;
mod manifest;
mod referrers;
mod retry;
mod session;
#[cfg(test)]
mod tests;
mod upload;

use std::{
    collections::HashSet,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pitlane_release::{Digest, Repository};
use tokio::sync::Semaphore;

pub use content::{Content, Inline};
pub use error::PushError;
pub use logins::{Login, Logins};
pub use retry::Retry;

use self::{http::Http, referrers::Pending, upload::Upload};

/// Uploads at one time: more would share the same line, and registries count connections.
const PARALLEL: usize = 4;
/// Digests that are remembered as read back; then all are read again.
const MAX_PROVEN: usize = 4096;

/// How to push.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether the registry is spoken to without TLS. On loopback it always is.
    pub plain_http: bool,
    /// The login, if it wants one.
    pub login: Option<Login>,
    /// What is tried again.
    pub retry: Retry,
    /// Repositories of the same registry (their paths) that may have blobs already: they are
    /// mounted from there, where the registry does that, and not sent.
    pub mount_from: Vec<String>,
    /// Largest piece of a blob in one request, for registries behind proxies that take no more;
    /// everything in one without.
    pub chunk_bytes: Option<u64>,
}

/// Writes to one repository.
pub struct Client {
    http: Http,
    repository: Repository,
    mount_from: Vec<String>,
    chunk_bytes: Option<u64>,
    slots: Semaphore,
    sent: AtomicU64,
    /// Manifests that were read back.
    proven: Mutex<HashSet<Digest>>,
    /// Whether the registry lists referrers by itself, once that is known.
    native: OnceLock<bool>,
    /// Entries of fallback tags that are to be looked for again.
    pending: Mutex<Vec<Pending>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.repository)
    }
}

impl Client {
    /// A client for a repository. Opens no connection.
    pub fn new(repository: Repository, options: Options) -> Result<Self, PushError> {
        let Options { plain_http, login, retry, mount_from, chunk_bytes } = options;
        let plain = plain_http || pitlane_fetch::registry::is_loopback(repository.registry());
        Ok(Self {
            http: Http::new(repository.clone(), plain, login, retry)?,
            repository,
            mount_from,
            chunk_bytes,
            slots: Semaphore::new(PARALLEL),
            sent: AtomicU64::new(0),
            proven: Mutex::default(),
            native: OnceLock::new(),
            pending: Mutex::default(),
        })
    }

    /// The repository it writes to.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Bytes of blobs and manifests sent so far.
    pub fn uploaded(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Uploads a blob unless the repository has it. Calls at the same time wait for one of a few
    /// places.
    pub async fn blob(&self, content: &dyn Content) -> Result<(), PushError> {
        let _slot = self.slots.acquire().await;
        let upload = Upload {
            http: &self.http,
            content,
            mount_from: &self.mount_from,
            chunk: self.chunk_bytes,
        };
        let sent = upload.run().await?;
        self.sent.fetch_add(sent, Ordering::Relaxed);
        Ok(())
    }

    /// Uploads several blobs, some at a time.
    pub async fn blobs(&self, contents: &[&dyn Content]) -> Result<(), PushError> {
        let all = stream::iter(contents.iter().map(|content| self.blob(*content)));
        all.buffer_unordered(PARALLEL).try_collect().await
    }
}
