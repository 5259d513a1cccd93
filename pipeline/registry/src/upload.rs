//! Upload sessions: bytes are hashed and written as they arrive, in order, once.
//!
//! A session lives in memory with its running hash and in one file under `uploads/`. A dropped
//! connection leaves the session at the last byte that arrived, so the client can go on; a
//! restart drops it, and the client starts that blob again.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::body::{BodyDataStream, Bytes};
use futures_util::StreamExt as _;
use pitlane_release::digest::Digest;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    Limits, Registry,
    error::ApiError,
    names::{Repo, UploadId},
    quota::{Quota, Reservation, Shares},
    store::lock,
};

/// Pieces of a body (each at most what the HTTP library reads at once, some hundred KiB) between
/// the network and the writer: enough to overlap them, and bounded.
const PIECES: usize = 4;
/// How long a request waits for an earlier one on the same session to let go.
const BUSY_WAIT: Duration = Duration::from_secs(2);
/// A body slower than this, counted from `SLOW_GRACE` on, holds a writer for nothing.
const MIN_BYTES_PER_SECOND: u64 = 1024;
const SLOW_GRACE: Duration = Duration::from_secs(30);

/// One upload.
#[derive(Debug)]
pub(super) struct Session {
    repo: Repo,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    offset: u64,
    max: u64,
    /// Of the whole registry.
    reservation: Reservation,
    /// Of the repository.
    share: Reservation,
    touched: Instant,
    /// A write failed in the middle: file and hash no longer agree.
    broken: bool,
    _slot: OwnedSemaphorePermit,
}

pub(super) type Held = OwnedMutexGuard<Session>;

impl Session {
    /// Bytes received so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        if self.broken {
            return Err(ApiError::upload_invalid("this upload failed before: start it again"));
        }
        let length = bytes.len() as u64;
        if self.offset.saturating_add(length) > self.max {
            return Err(ApiError::too_large(format!(
                "the blob is larger than the {} bytes that this registry takes: push smaller \
                 layers, or raise its limit",
                self.max
            )));
        }
        self.reservation.add(length)?;
        self.share.add(length)?;
        self.file.write_all(bytes).map_err(|error| {
            self.broken = true;
            ApiError::storage("write an upload", &error)
        })?;
        self.hasher.update(bytes);
        self.offset += length;
        self.touched = Instant::now();
        Ok(())
    }

    /// Ends the upload: the bytes are the blob, or are gone.
    fn finish(&mut self, want: Digest, registry: &Registry) -> Result<Finished, ApiError> {
        let store = &registry.store;
        let got = Digest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        if self.broken || got != want {
            return Err(ApiError::digest_invalid(format!(
                "the {} bytes that arrived have the digest {got}, not {want}: send them again",
                self.offset
            )));
        }
        let reservation = std::mem::replace(&mut self.reservation, Reservation::none(&store.quota));
        let failed = |error: io::Error| ApiError::storage("keep an upload", &error);
        let finished = store.adopt(&self.path, want, reservation).map_err(failed)?;
        // In this order: a link without its blob would be a promise.
        if registry.links.link_blob(&self.repo, &want).map_err(failed)? {
            let share = registry.shares.of(&self.repo);
            std::mem::replace(&mut self.share, Reservation::none(&share)).keep();
        }
        Ok(finished)
    }
}

/// Something to wait for when the disk lags behind.
type Finished = Option<tokio::sync::watch::Receiver<()>>;

impl Drop for Session {
    fn drop(&mut self) {
        // Adopted files have another name by now.
        let _ = fs::remove_file(&self.path);
    }
}

/// All uploads in progress.
#[derive(Debug)]
pub(super) struct Uploads {
    folder: PathBuf,
    sessions: Mutex<HashMap<UploadId, Arc<AsyncMutex<Session>>>>,
    slots: Arc<Semaphore>,
    quota: Arc<Quota>,
    shares: Arc<Shares>,
    limits: Limits,
}

impl Uploads {
    pub(super) fn new(
        folder: PathBuf,
        quota: Arc<Quota>,
        shares: Arc<Shares>,
        limits: Limits,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(limits.uploads));
        Self { folder, sessions: Mutex::default(), slots, quota, shares, limits }
    }

    /// A session that only its maker knows: an upload within one request.
    pub(super) fn private(&self, repo: &Repo) -> Result<Held, ApiError> {
        let session = Arc::new(AsyncMutex::new(self.session(repo, &UploadId::random())?));
        session.try_lock_owned().map_err(|_| ApiError::upload_busy())
    }

    /// A session that later requests find by its identifier.
    pub(super) fn start(&self, repo: &Repo) -> Result<UploadId, ApiError> {
        let id = UploadId::random();
        let session = self.session(repo, &id)?;
        lock(&self.sessions).insert(id.clone(), Arc::new(AsyncMutex::new(session)));
        Ok(id)
    }

    fn session(&self, repo: &Repo, id: &UploadId) -> Result<Session, ApiError> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            ApiError::too_many(format!(
                "{} uploads are in progress, the most that this registry takes: try again soon",
                self.limits.uploads
            ))
        })?;
        let path = self.folder.join(id.as_str());
        let file = File::create_new(&path).map_err(|e| ApiError::storage("start an upload", &e))?;
        Ok(Session {
            repo: repo.clone(),
            path,
            file,
            hasher: Sha256::new(),
            offset: 0,
            max: self.limits.blob_bytes,
            reservation: Reservation::none(&self.quota),
            share: Reservation::none(&self.shares.of(repo)),
            touched: Instant::now(),
            broken: false,
            _slot: slot,
        })
    }

    /// The session of this repository, held by this request alone.
    pub(super) async fn hold(&self, repo: &Repo, id: &UploadId) -> Result<Held, ApiError> {
        let unknown = || ApiError::upload_unknown(id.as_str());
        let session = lock(&self.sessions).get(id).cloned().ok_or_else(unknown)?;
        let held = timeout(BUSY_WAIT, session.lock_owned()).await;
        let held = held.map_err(|_| ApiError::upload_busy())?;
        if held.repo == *repo { Ok(held) } else { Err(unknown()) }
    }

    /// Forgets a session; its file goes with the last holder.
    pub(super) fn remove(&self, id: &UploadId) {
        lock(&self.sessions).remove(id);
    }

    /// Drops sessions that nobody has written to for too long.
    pub(super) fn expire(&self) {
        let idle = self.limits.upload_idle;
        lock(&self.sessions).retain(|id, session| {
            let Ok(session) = session.try_lock() else { return true };
            let keep = session.touched.elapsed() < idle;
            if !keep {
                tracing::info!(upload = %id, repository = %session.repo, "upload expired");
            }
            keep
        });
    }

    /// Streams a body into a session. `exact`: how many bytes it must have.
    pub(super) async fn receive(
        &self,
        mut session: Held,
        body: &mut BodyDataStream,
        exact: Option<u64>,
    ) -> Result<Held, ApiError> {
        let (pieces, mut incoming) = mpsc::channel::<Bytes>(PIECES);
        let writer = spawn_blocking(move || {
            while let Some(piece) = incoming.blocking_recv() {
                session.append(&piece)?;
            }
            Ok(session)
        });
        let read = self.forward(body, exact, &pieces).await;
        drop(pieces);
        let written =
            writer.await.map_err(|e| ApiError::storage("write an upload", &io::Error::other(e)))?;
        // A failed write also stops the reading; it is the cause, so it is reported first.
        let session = written?;
        read?;
        Ok(session)
    }

    async fn forward(
        &self,
        body: &mut BodyDataStream,
        exact: Option<u64>,
        pieces: &mpsc::Sender<Bytes>,
    ) -> Result<(), ApiError> {
        let mut pace = Pace::new(self.limits.body_stall);
        let wrong_size = |got: u64, want: u64| {
            ApiError::size_invalid(format!(
                "Content-Range announces {want} bytes, {got} or more came: send what is announced"
            ))
        };
        while let Some(piece) = pace.next(body).await? {
            if let Some(want) = exact.filter(|want| pace.received > *want) {
                return Err(wrong_size(pace.received, want));
            }
            if pieces.send(piece).await.is_err() {
                return Ok(());
            }
        }
        match exact {
            Some(want) if pace.received != want => Err(wrong_size(pace.received, want)),
            _ => Ok(()),
        }
    }
}

/// Checks the digest and takes the blob in; the session is spent.
pub(super) async fn finish(
    mut session: Held,
    want: Digest,
    registry: Arc<Registry>,
) -> Result<(), ApiError> {
    let pass = registry.gate.pass().await;
    let finish = move || {
        registry.gate.note([&want]);
        let finished = session.finish(want, &registry);
        drop(pass);
        finished
    };
    let finished = super::store::blocking(finish).await?;
    if let Some(mut disk) = finished {
        let _ = disk.changed().await;
    }
    Ok(())
}

/// Reads a body piece by piece, and gives up on one that stalls or drips.
pub(super) struct Pace {
    stall: Duration,
    began: Instant,
    pub(super) received: u64,
}

impl Pace {
    pub(super) fn new(stall: Duration) -> Self {
        Self { stall, began: Instant::now(), received: 0 }
    }

    pub(super) async fn next(
        &mut self,
        body: &mut BodyDataStream,
    ) -> Result<Option<Bytes>, ApiError> {
        let piece = match timeout(self.stall, body.next()).await {
            Err(_) => {
                let message = format!(
                    "no bytes came for {} s: send the rest, from the upload's offset on",
                    self.stall.as_secs()
                );
                return Err(ApiError::stalled(message));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => {
                return Err(ApiError::upload_invalid(
                    "the connection broke: go on from the upload's offset",
                ));
            }
            Ok(Some(Ok(piece))) => piece,
        };
        self.received += piece.len() as u64;
        let seconds = self.began.elapsed().saturating_sub(SLOW_GRACE).as_secs();
        if seconds.saturating_mul(MIN_BYTES_PER_SECOND) > self.received {
            return Err(ApiError::stalled("the body comes too slowly: use a faster connection"));
        }
        Ok(Some(piece))
    }
}
