//! Makes files appear all at once, and survive a power cut once that was promised.
//!
//! One thread takes the finished files of all requests, flushes their data, renames them to their
//! final names and then flushes the folders, once for everything that was waiting: a group commit.
//! Renaming after flushing means that a final name never points at half a file.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// How many jobs one group takes: bounds how long the first of them waits for the others.
const GROUP: usize = 64;
/// Flushes under way at one time.
const FLUSHERS: usize = 8;
/// How often the housekeeping runs.
const TICK: Duration = Duration::from_secs(1);

/// A finished temporary file and its final name, both on the registry's file system. Dropped, it
/// leaves nothing under the temporary name.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
}

impl Drop for Move {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.from);
    }
}

type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

struct Job {
    moves: Vec<Move>,
    done: Done,
}

/// The commit thread. Dropping it commits what is still queued.
pub(super) struct Committer {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Committer")
    }
}

impl Committer {
    /// Starts the thread. `sync`: flush data and folders (else a power cut may lose or tear what
    /// was written last; a killed process loses nothing). `tick` runs about once a second and once
    /// at the end.
    pub(super) fn start(sync: bool, tick: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel();
        let body = move || run(&jobs, sync, tick);
        let thread = thread::Builder::new().name("registry-disk".to_owned()).spawn(body)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues moves that belong together, in order; `done` hears when all of them are in place, or
    /// that not all are.
    pub(super) fn submit(&self, moves: Vec<Move>, done: Done) {
        let Some(queue) = &self.queue else { return };
        if let Err(mpsc::SendError(job)) = queue.send(Job { moves, done }) {
            (job.done)(Err(io::Error::other("the registry is closing")));
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(jobs: &mpsc::Receiver<Job>, sync: bool, mut tick: impl FnMut()) {
    let mut ticked = Instant::now();
    loop {
        match jobs.recv_timeout(TICK) {
            Ok(first) => {
                let group = std::iter::once(first).chain(jobs.try_iter().take(GROUP - 1)).collect();
                commit(group, sync);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ticked.elapsed() >= TICK {
            tick();
            ticked = Instant::now();
        }
    }
    tick();
}

fn commit(group: Vec<Job>, sync: bool) {
    let mut folders = BTreeSet::new();
    let files: Vec<_> = group.iter().flat_map(|job| &job.moves).map(|m| m.from.as_path()).collect();
    let mut flushed = if sync { flush_all(&files) } else { Vec::new() }.into_iter();
    let mut placed = Vec::with_capacity(group.len());
    for job in group {
        // All of them are taken, also behind a failed one: the next job's results follow.
        let own: Vec<_> = flushed.by_ref().take(job.moves.len()).collect();
        let flushed: io::Result<()> = own.into_iter().collect();
        let result = flushed.and_then(|()| place(&job.moves, &mut folders));
        placed.push((job.done, result));
    }
    let folders: Vec<_> = folders.iter().map(PathBuf::as_path).collect();
    let flushed: io::Result<()> =
        if sync { flush_all(&folders).into_iter().collect() } else { Ok(()) };
    for (done, result) in placed {
        // An io::Error cannot be cloned; its kind and text say enough to every waiting job.
        let folders = match &flushed {
            Ok(()) => Ok(()),
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        };
        done(result.and(folders));
    }
}

fn place(moves: &[Move], folders: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for step in moves {
        if let Some(folder) = step.to.parent() {
            make_folder(folder, folders)?;
            folders.insert(folder.to_owned());
        }
        fs::rename(&step.from, &step.to)?;
    }
    Ok(())
}

/// Flushes files or folders, several at a time: a journaling file system commits them together,
/// where one after the other would wait for a commit each. Gives the results in order.
fn flush_all(paths: &[&Path]) -> Vec<io::Result<()>> {
    if let [only] = paths {
        return vec![flush(only)];
    }
    let each = paths.len().div_ceil(FLUSHERS).max(1);
    thread::scope(|scope| {
        let flushers: Vec<_> = paths
            .chunks(each)
            .map(|part| scope.spawn(|| part.iter().map(|path| flush(path)).collect::<Vec<_>>()))
            .collect();
        let failed = |_| vec![Err(io::Error::other("a flush failed"))];
        flushers.into_iter().flat_map(|flusher| flusher.join().unwrap_or_else(failed)).collect()
    })
}

/// Creates a folder and its parents; what got a new entry joins `changed`.
fn make_folder(folder: &Path, changed: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = folder.parent().ok_or(e)?;
            make_folder(parent, changed)?;
            return make_folder(folder, changed);
        }
        Err(e) => return Err(e),
    }
    changed.extend(folder.parent().map(Path::to_owned));
    Ok(())
}

/// Flushes a file's data, or a folder's entries.
pub(super) fn flush(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// `None` when the file is not there.
pub(super) fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// The names in a folder, sorted; none when it is not there.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in if_exists(fs::read_dir(folder))?.into_iter().flatten() {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One job's missing file fails that job alone, whatever stands behind it in the group.
    #[test]
    fn a_failed_job_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, receiver) = mpsc::channel();
        let group = (0..3).map(|n| {
            let moves = (0..3).map(|m| {
                let from = dir.path().join(format!("from-{n}-{m}"));
                if (n, m) != (1, 0) {
                    fs::write(&from, format!("{n}{m}")).unwrap();
                }
                Move { from, to: dir.path().join(format!("deep/{n}/to-{m}")) }
            });
            let sender = sender.clone();
            let done: Done = Box::new(move |result| sender.send((n, result.is_ok())).unwrap());
            Job { moves: moves.collect(), done }
        });
        commit(group.collect(), true);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [(0, true), (1, false), (2, true)]);
        assert_eq!(fs::read(dir.path().join("deep/2/to-2")).unwrap(), b"22");
        assert!(!dir.path().join("deep/1").exists());
        // Temporary names are gone, also the failed job's.
        assert_eq!(names(dir.path()).unwrap(), ["deep"]);
    }
}
