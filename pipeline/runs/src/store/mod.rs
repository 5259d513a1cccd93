//! The durable store: deliveries, tags, counters, runs and their journal, in one `SQLite` file or
//! in `PostgreSQL`.
//!
//! One thread writes, in group commits ([`writer`]): what callers queue while a transaction is
//! being synced goes into the next one, so a thousand deliveries share a few syncs and each is on
//! disk before its caller goes on. Reads use a connection of their own (WAL).
//!
//! The methods of [`Store`] are the seam: each is one transaction with a name and typed arguments,
//! no SQL leaves this directory. Leases carry fencing numbers and end: what a dead replica held is
//! taken over by another.

mod address;
pub mod backup;
mod counters;
mod db;
mod documents;
mod duty;
mod environments;
mod figures;
mod follow;
mod inbox;
mod journal;
mod kept;
pub mod migrate;
mod outbox;
mod postgres;
mod runs;
mod schema;
mod sqlite;
mod tags;
mod takeover;
mod types;
mod wire;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::{Notify, watch};

pub use address::PostgresUrl;
use db::Db;
pub use environments::{Approved, Car, CarState, CarStatus, Placed};
pub use figures::Figures;
pub use follow::{Change, Changed};
pub use inbox::{Decision, Delivery, Receipt};
pub use journal::{Claim, Lease};
pub use outbox::{Fact, Waiting};
pub use runs::LocalRelease;
pub use tags::StoredTag;
pub use types::{Alert, Run, RunFilter, RunState, StepOutcome, StepRecord, output};

use crate::Told;

/// Why the store gave no answer, or refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be opened or prepared.
    #[error("store {path}: {reason}; check the folder's owner, mode and free space")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process writes it.
    #[error("store {0} is in use by another process: stop it, or give this one its own folder")]
    InUse(PathBuf),
    /// A newer program made it.
    #[error("store {path} has schema {found}, this program knows {known}: use the newer program")]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest we know.
        known: i64,
    },
    /// The server could not be had.
    #[error("store: no connection to {server}: {reason}")]
    Unreachable {
        /// Its hosts and database.
        server: String,
        /// Why.
        reason: String,
    },
    /// The database failed.
    #[error("store: {0}")]
    Sql(String),
    /// The transaction that held this write was not committed.
    #[error("store: commit failed: {0}")]
    Commit(String),
    /// The writer did not take the write in time.
    #[error("store: too many writes are waiting")]
    Busy,
    /// The writer has ended.
    #[error("store: the writer has stopped")]
    Stopped,
    /// The journal write came from an executor that no longer holds the run.
    #[error("run {run}: lease {fence} is not the current one: another executor took it over")]
    StaleLease {
        /// Which run.
        run: String,
        /// The fencing number that the write carried.
        fence: i64,
    },
    /// No such thing.
    #[error("{what} is not known")]
    Unknown {
        /// What was asked for.
        what: String,
    },
    /// The state does not allow it.
    #[error("{0}")]
    Refused(Told),
    /// A row holds what this program would never write.
    #[error("store: {0}")]
    Corrupt(String),
}

/// The store; clones share one writer.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: writer::Writer,
    reader: Mutex<Reader>,
    /// Whether others write it, too: then their news must be looked for.
    shared: bool,
    /// Wakes the executor when a run was queued.
    queued: Notify,
    /// Wakes who waits for the end of a run.
    ends: watch::Sender<()>,
    /// Wakes who follows what changes.
    written: watch::Sender<()>,
}

/// The connection for reads.
enum Reader {
    Sqlite(Connection),
    Postgres(Box<postgres::Pg>),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens or makes the store at `path` (its folder must exist) and starts the writer. Holds an
    /// exclusive lock on `path` + `.lock` until the last clone is gone.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = writer::lock(path)?;
        let connection = sqlite::open(path)?;
        let reader = Reader::Sqlite(sqlite::open_reader(path)?);
        Self::of(writer::Backend::Sqlite(connection, lock), reader)
    }

    /// Connects to a server, makes or migrates the tables, and starts the writer. Blocks.
    pub fn connect(url: &PostgresUrl) -> Result<Self, StoreError> {
        let backend = writer::Backend::Postgres(Box::new(postgres::Pg::open(url)?));
        Self::of(backend, Reader::Postgres(Box::new(postgres::Pg::reader(url)?)))
    }

    fn of(backend: writer::Backend, reader: Reader) -> Result<Self, StoreError> {
        let shared = matches!(reader, Reader::Postgres(_));
        let inner = Inner {
            writer: writer::Writer::start(backend)?,
            reader: Mutex::new(reader),
            shared,
            queued: Notify::new(),
            ends: watch::Sender::new(()),
            written: watch::Sender::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether other processes write this store, too.
    pub fn is_shared(&self) -> bool {
        self.inner.shared
    }

    /// One write, durable when this returns.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Db<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let outcome = self.inner.writer.write(work).await;
        self.inner.written.send_replace(());
        outcome
    }

    /// Changes whenever this process wrote something.
    pub fn written(&self) -> watch::Receiver<()> {
        self.inner.written.subscribe()
    }

    /// One read of committed rows.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Db<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let reading = tokio::task::spawn_blocking(move || {
            let reader = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
            match &*reader {
                Reader::Sqlite(connection) => work(&Db::Sqlite(sqlite::Sqlite::new(connection))),
                Reader::Postgres(pg) => {
                    pg.revive()?;
                    work(&Db::Postgres(pg))
                }
            }
        });
        reading.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Whether a write would be taken: the writer lives, and the last commit succeeded or a new
    /// one does (so that a disk that has room again is noticed without a delivery).
    pub async fn healthy(&self) -> Result<(), StoreError> {
        if self.inner.writer.failing() {
            self.write(|db| {
                let last = "UPDATE deliveries SET outcome = outcome
                            WHERE seq = (SELECT max(seq) FROM deliveries)";
                db.execute(last, &[])
            })
            .await?;
        }
        self.read(|db| db.first("SELECT count(*) FROM counters", &[], |_| Ok(()))).await.map(drop)
    }

    /// Resolves when a run was queued since the last call.
    pub async fn wait_queued(&self) {
        self.inner.queued.notified().await;
    }

    fn tell_end(&self) {
        self.inner.ends.send_replace(());
    }

    fn wake(&self) {
        self.inner.queued.notify_one();
    }
}

/// Milliseconds since 1970, UTC: the service's one reading of the clock.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
