//! Blobs on disk, by digest: adopted from finished uploads, durable before a manifest names them.
//!
//! A finished upload is renamed into `staged/` and answered at once; the commit thread flushes it
//! and moves it into `blobs/sha256/`. Readers look in both. A manifest waits for the blobs it
//! names, so whatever a manifest promises has reached the disk, while the client's next request
//! overlaps with the flush. After a crash the staged files are hashed again: whole ones are kept.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    ops::Not as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use pitlane_release::digest::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::{
    disk::{Committer, Move, if_exists, names},
    error::{ApiError, RegistryError},
    quota::{Quota, Reservation},
};

/// How many finished blobs may wait for the disk before an upload waits for its own: bounds what a
/// crash would make the next start hash again.
const MAX_STAGED: usize = 64;
/// A blob that clients ask for before a push gets a new date at most this often.
const TOUCHED: Duration = Duration::from_mins(1);
/// Buffer for hashing staged files at start.
const HASH_BUFFER: usize = 1 << 20;

type Staged = Mutex<HashMap<Digest, watch::Receiver<()>>>;

/// The blob store of one root folder.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    sync: bool,
    pub(super) quota: Arc<Quota>,
    /// What the commit thread has not moved yet; a receiver's end is the news.
    staged: Arc<Staged>,
    pub(super) committer: Committer,
    temporary: AtomicU64,
}

/// The path of a blob under the root.
pub(super) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs/sha256").join(digest.hex())
}

fn staged_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join("staged").join(digest.hex())
}

impl Store {
    /// `root` was prepared by [`recover`].
    pub(super) fn new(root: PathBuf, sync: bool, quota: Arc<Quota>, committer: Committer) -> Self {
        let staged = Arc::default();
        Self { root, sync, quota, staged, committer, temporary: AtomicU64::new(0) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Opens a blob for reading and gives its size.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<Option<(File, u64)>> {
        let kept = blob_path(&self.root, digest);
        // The second look at the final name is for a move between the first two.
        for path in [&kept, &staged_path(&self.root, digest), &kept] {
            if let Some(file) = if_exists(File::open(path))? {
                let size = file.metadata()?.len();
                return Ok(Some((file, size)));
            }
        }
        Ok(None)
    }

    /// A blob's size, when it is here.
    pub(super) fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        let kept = blob_path(&self.root, digest);
        for path in [&kept, &staged_path(&self.root, digest), &kept] {
            if let Some(meta) = if_exists(fs::metadata(path))? {
                return Ok(Some(meta.len()));
            }
        }
        Ok(None)
    }

    /// Takes a complete, hashed temporary file in; it replaces a blob of this name, which heals one
    /// that was altered on the disk. Gives a receiver to wait for when too much waits for the disk
    /// already.
    pub(super) fn adopt(
        &self,
        from: &Path,
        digest: Digest,
        reservation: Reservation,
    ) -> io::Result<Option<watch::Receiver<()>>> {
        let mut staged = lock(&self.staged);
        let kept = blob_path(&self.root, &digest);
        if staged.contains_key(&digest) {
            // Another copy is on its way; the caller's goes with its session.
            return Ok(None);
        }
        let replaced = if_exists(fs::metadata(&kept))?.map_or(0, |meta| meta.len());
        if !self.sync {
            fs::rename(from, kept)?;
            reservation.keep();
            self.quota.release(replaced);
            return Ok(None);
        }
        let waiting = staged_path(&self.root, &digest);
        fs::rename(from, &waiting)?;
        let (news, receiver) = watch::channel(());
        staged.insert(digest, receiver.clone());
        let crowded = staged.len() > MAX_STAGED;
        drop(staged);
        let (list, quota) = (Arc::clone(&self.staged), Arc::clone(&self.quota));
        let done = Box::new(move |result: io::Result<()>| {
            match result {
                Ok(()) => {
                    reservation.keep();
                    quota.release(replaced);
                }
                Err(error) => tracing::error!(%digest, %error, "registry could not keep a blob"),
            }
            lock(&list).remove(&digest);
            drop(news);
        });
        self.committer.submit(vec![Move { from: waiting, to: kept }], done);
        Ok(crowded.then_some(receiver))
    }

    /// Returns when these blobs, where they are here at all, are on the disk.
    pub(super) async fn durable(&self, digests: &[Digest]) {
        for digest in digests {
            let receiver = lock(&self.staged).get(digest).cloned();
            if let Some(mut receiver) = receiver {
                let _ = receiver.changed().await;
            }
        }
    }

    /// Writes a small temporary file, to be moved by the commit thread.
    pub(super) fn write_temporary(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("tmp").join(number.to_string());
        fs::write(&path, bytes)?;
        Ok(path)
    }

    /// Removes a blob and gives its bytes back; not one of which another copy is on its way. For
    /// who holds the gate alone.
    pub(super) fn remove(&self, digest: &Digest) -> io::Result<bool> {
        let staged = lock(&self.staged);
        if staged.contains_key(digest) {
            return Ok(false);
        }
        let path = blob_path(&self.root, digest);
        let Some(meta) = if_exists(fs::metadata(&path))? else { return Ok(false) };
        fs::remove_file(&path)?;
        self.quota.release(meta.len());
        Ok(true)
    }

    /// Says that somebody counts on a blob: the collector spares it as if it were new.
    pub(super) fn touch(&self, digest: &Digest) {
        touch(&blob_path(&self.root, digest));
    }

    /// The digests of all blobs that have their final name, sorted.
    pub(super) fn digests(&self) -> io::Result<Vec<Digest>> {
        let names = names(&self.root.join("blobs/sha256"))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    /// Whether a blob was put or asked for less than `grace` ago.
    pub(super) fn lately(&self, digest: &Digest, grace: Duration) -> io::Result<bool> {
        lately(&blob_path(&self.root, digest), grace)
    }
}

/// Renews a file's date unless it was renewed just now. A file that cannot be dated is only
/// collected earlier.
pub(super) fn touch(path: &Path) {
    if matches!(lately(path, TOUCHED), Ok(false)) {
        let _ =
            File::options().append(true).open(path).and_then(|f| f.set_modified(SystemTime::now()));
    }
}

/// Whether a file's date is less than `grace` ago, or ahead of the clock. One that is not there is
/// not.
pub(super) fn lately(path: &Path, grace: Duration) -> io::Result<bool> {
    let Some(meta) = if_exists(fs::metadata(path))? else { return Ok(false) };
    Ok(meta.modified()?.elapsed().is_ok_and(|age| age >= grace).not())
}

/// Runs file work away from the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::storage("run file work", &io::Error::other(error))),
    }
}

/// Makes the folders, throws away what no client can finish any more, keeps staged blobs that are
/// whole, and gives the sizes of all blobs.
pub(super) fn recover(root: &Path) -> Result<HashMap<Digest, u64>, RegistryError> {
    for folder in ["uploads", "tmp"] {
        let folder = root.join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(RegistryError::io("empty", &folder))?;
        }
    }
    for folder in ["blobs/sha256", "staged", "uploads", "tmp", "repositories"] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).map_err(RegistryError::io("create", &folder))?;
    }
    let staged = root.join("staged");
    for name in names(&staged).map_err(RegistryError::io("list", &staged))? {
        let path = staged.join(&name);
        let digest = Digest::from_hex(&name).ok();
        let whole = digest.filter(|want| hash_file(&path).is_ok_and(|got| got == *want));
        let settled = match whole {
            Some(digest) => File::open(&path)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(&path, blob_path(root, &digest))),
            None => fs::remove_file(&path),
        };
        settled.map_err(RegistryError::io("recover", &path))?;
    }
    let blobs = root.join("blobs/sha256");
    let mut sizes = HashMap::new();
    for name in names(&blobs).map_err(RegistryError::io("list", &blobs))? {
        let Ok(digest) = Digest::from_hex(&name) else { continue };
        let meta = fs::metadata(blobs.join(&name)).map_err(RegistryError::io("read", &blobs))?;
        sizes.insert(digest, meta.len());
    }
    Ok(sizes)
}

pub(super) fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// A lock that a panicked holder does not close: what it guards is valid after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
