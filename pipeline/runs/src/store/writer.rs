//! The one thread that writes, in group commits.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{StoreError, db::Db, postgres::Pg, sqlite::Sqlite};

/// Writes waiting beyond this make senders wait: about 100 MB at the largest usual payloads.
const QUEUE: usize = 4096;
/// How long a sender waits for room before it is told that the store is busy.
const ROOM: Duration = Duration::from_secs(5);
/// Writes per transaction: bounds the time the first one of a batch waits for its commit.
const BATCH: usize = 256;
/// A transaction waits no longer for writes to come.
const GATHER: Duration = Duration::from_millis(2);
/// Looks for more writes this often while waiting for them.
const LOOK: Duration = Duration::from_micros(50);
/// How long a process waits for its predecessor to let go of the store.
const LOCK_TIME: Duration = Duration::from_secs(5);

/// Executes within the transaction; what it returns is called once the outcome of the commit is
/// known, with the reason where there was none.
type Work = Box<dyn FnOnce(&Db<'_>) -> Done + Send>;
type Done = Box<dyn FnOnce(Option<&str>) + Send>;

/// What is written to.
pub(super) enum Backend {
    /// A file, with the lock beside it.
    Sqlite(Connection, File),
    /// A server.
    Postgres(Box<Pg>),
}

/// Takes the process lock beside the store; a predecessor that is ending gets a moment.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let open = |source: std::io::Error| StoreError::Open {
        path: path.to_owned(),
        reason: source.to_string(),
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PathBuf::from(name))
        .map_err(open)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_TIME => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(open(error)),
        }
    }
}

/// Hands writes to the thread.
pub(super) struct Writer {
    queue: mpsc::Sender<Work>,
    failing: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread; it ends when the writer is dropped, and lets go of the lock then.
    pub(super) fn start(backend: Backend) -> Result<Self, StoreError> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let failing = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&failing);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || match backend {
                Backend::Sqlite(connection, _lock) => {
                    write_all(&Db::Sqlite(Sqlite::new(&connection)), waiting, &flag);
                }
                Backend::Postgres(pg) => write_all(&Db::Postgres(&pg), waiting, &flag),
            })
            .map_err(|e| StoreError::Commit(format!("the writer did not start: {e}")))?;
        Ok(Self { queue, failing })
    }

    /// Queues a write and waits until it is durable.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Db<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let work: Work = Box::new(move |db| {
            let mut outcome = db.isolated(work);
            Box::new(move |failed| {
                if let Some(reason) = failed {
                    outcome = Err(StoreError::Commit(reason.to_owned()));
                }
                // The caller may have gone (its connection closed); the write stands.
                drop(tell.send(outcome));
            })
        });
        match tokio::time::timeout(ROOM, self.queue.send(work)).await {
            Ok(Ok(())) => told.await.unwrap_or(Err(StoreError::Stopped)),
            Ok(Err(_)) => Err(StoreError::Stopped),
            Err(_) => Err(StoreError::Busy),
        }
    }

    /// Whether the last transaction failed, or the thread has ended.
    pub(super) fn failing(&self) -> bool {
        self.queue.is_closed() || self.failing.load(Ordering::Relaxed)
    }
}

fn write_all(db: &Db<'_>, mut waiting: mpsc::Receiver<Work>, failing: &AtomicBool) {
    let mut last = Last { writes: 1, took: Duration::ZERO };
    while let Some(first) = waiting.blocking_recv() {
        last.gather(&waiting);
        let mut done = Vec::with_capacity(16);
        let start = Instant::now();
        let outcome = transaction(db, first, &mut waiting, &mut done);
        last = Last { writes: done.len(), took: start.elapsed() };
        let failed = outcome.err().map(|error| {
            // A failed COMMIT may leave the transaction open.
            db.roll_back();
            tracing::error!(%error, writes = done.len(), "store transaction failed");
            error.to_string()
        });
        failing.store(failed.is_some(), Ordering::Relaxed);
        for tell in done {
            tell(failed.as_deref());
        }
    }
}

/// The transaction before this one.
struct Last {
    writes: usize,
    took: Duration,
}

impl Last {
    /// The senders of the last batch were answered just now and may be about to send again:
    /// without a short wait the first of them would have a transaction (and a sync) to itself,
    /// and the others would wait for that. A lone sender never waits.
    fn gather(&self, waiting: &mpsc::Receiver<Work>) {
        let (start, limit) = (Instant::now(), (self.took / 2).min(GATHER));
        while waiting.len() + 1 < self.writes && start.elapsed() < limit {
            std::thread::sleep(LOOK);
        }
    }
}

fn transaction(
    db: &Db<'_>,
    first: Work,
    waiting: &mut mpsc::Receiver<Work>,
    done: &mut Vec<Done>,
) -> Result<(), StoreError> {
    // Without a transaction nothing runs: `first` is dropped, and its sender hears of that.
    db.begin()?;
    let start = Instant::now();
    done.push(first(db));
    // A full disk makes SQLite end the transaction itself; then COMMIT fails and all are told.
    while done.len() < BATCH && start.elapsed() < db.patience() && db.in_transaction() {
        let Ok(next) = waiting.try_recv() else { break };
        done.push(next(db));
    }
    db.commit()
}
