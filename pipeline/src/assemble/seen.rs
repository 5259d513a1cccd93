//! Remembers the digests of files that do not change, so that they are not hashed every time.
//!
//! A file is the same when its path, device, inode, size and both times are: a change of content
//! changes the last of them (`st_ctime`), which no program can set. A file that changed less than
//! `SETTLED` ago is hashed anyway, for a second change within one tick of the clock would not
//! show (git calls such files racy).

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pitlane_release::Digest;
use serde::{Deserialize, Serialize};

use super::layer::write_atomically;

/// How old the last change must be. File systems count in 2 s at worst.
const SETTLED: Duration = Duration::from_secs(3);

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Note {
    seen: Seen,
    digest: Digest,
}

impl Seen {
    /// The state of a file as it is now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    fn note(&self, cache: &Path) -> PathBuf {
        let name = Digest::of(self.path.as_os_str().as_encoded_bytes());
        cache.join(format!("seen-{}.json", name.hex()))
    }

    /// Its digest, if it was hashed in this state.
    pub(super) fn digest(&self, cache: &Path) -> Option<Digest> {
        let note: Note = serde_json::from_slice(&fs::read(self.note(cache)).ok()?).ok()?;
        (note.seen == *self).then_some(note.digest)
    }

    /// Remembers the digest of the bytes that were read after this state was taken.
    pub(super) fn keep(&self, cache: &Path, digest: Digest) -> io::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = i64::try_from(now.saturating_sub(SETTLED).as_secs()).unwrap_or(0);
        // Also when it changed while it was read.
        if self.changed.0 >= settled || Self::of(&self.path)? != *self {
            return Ok(());
        }
        let note = Note { seen: self.clone(), digest };
        write_atomically(&self.note(cache), &serde_json::to_vec(&note)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, b"one").unwrap();
        let digest = Digest::of(b"one");
        let fresh = Seen::of(&file).unwrap();
        fresh.keep(dir.path(), digest).unwrap();
        assert_eq!(fresh.digest(dir.path()), None, "it changed just now");
        std::thread::sleep(SETTLED + Duration::from_secs(1));
        fresh.keep(dir.path(), digest).unwrap();
        assert_eq!(Seen::of(&file).unwrap().digest(dir.path()), Some(digest));
        let times =
            fs::FileTimes::new().set_modified(fs::metadata(&file).unwrap().modified().unwrap());
        fs::write(&file, b"two").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
        let changed = Seen::of(&file).unwrap();
        assert_eq!((changed.size, changed.modified), (fresh.size, fresh.modified));
        assert_eq!(changed.digest(dir.path()), None, "though size and mtime are the same");
    }
}
