//! A checkout, file by file, with an end: no link is followed, and what is not read is counted.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use nix::fcntl::OFlag;

use super::{
    SecretsGate,
    scan::{Scanner, Secret},
};

/// Deepest folder.
const MAX_DEPTH: usize = 64;
/// Most secrets in all; a checkout of secrets is known after that many.
pub const MAX_SECRETS: usize = 5000;
/// A zero byte in the first so many bytes makes a file binary, as git has it.
const BINARY_HEAD: usize = 8000;
/// How Git LFS pointers begin (its `docs/spec.md`); they are far shorter than 1024 bytes.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What was looked at, and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Path and secret, by path.
    pub secrets: Vec<(String, Secret)>,
    /// Files that were read.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Binary files, which were not.
    pub binary: u64,
    /// Git LFS pointers: what they point to is not here.
    pub lfs: u64,
    /// Files of which the beginning was read.
    pub cut: u64,
    /// Links and other things that are no files.
    pub others: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The checkout is larger than the gate may read.
    #[error("the checkout has more than {most} {what}; raise {field} of the gate")]
    TooMuch {
        /// How many are read.
        most: u64,
        /// Of what.
        what: &'static str,
        /// The field of the configuration.
        field: &'static str,
    },
    /// The time is over.
    #[error("not finished in time after {files} files; raise limits.wallSeconds of the gate")]
    Time {
        /// Files that were read.
        files: u64,
    },
    /// Folders in folders.
    #[error("{}: more than {MAX_DEPTH} folders deep", path.display())]
    Depth {
        /// Which.
        path: PathBuf,
    },
}

/// Looks for secrets in all files below a folder but `.git`, until `deadline`.
pub fn walk(root: &Path, gate: &SecretsGate, deadline: Instant) -> Result<Scan, WalkError> {
    let scanner = Scanner::new();
    let mut scan = Scan::default();
    let mut buffer = Vec::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if depth > MAX_DEPTH {
            return Err(WalkError::Depth { path: folder });
        }
        let failed = |source| WalkError::Read { path: folder.clone(), source };
        let mut entries = fs::read_dir(&folder)
            .map_err(failed)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                if entry.file_name() != ".git" {
                    folders.push((path, depth + 1));
                }
            } else if kind.is_file() {
                let relative = path.strip_prefix(root).unwrap_or(&path);
                let relative = relative.to_string_lossy().into_owned();
                file(&scanner, gate, &path, &relative, &mut buffer, &mut scan)?;
            } else {
                scan.others += 1;
            }
            if scan.files + scan.binary + scan.others > gate.max_files {
                let (most, what, field) = (gate.max_files, "files", "secrets.maxFiles");
                return Err(WalkError::TooMuch { most, what, field });
            }
            if Instant::now() >= deadline {
                return Err(WalkError::Time { files: scan.files });
            }
        }
    }
    scan.secrets.sort_by(|(one, a), (two, b)| (one, a.line).cmp(&(two, b.line)));
    scan.secrets.truncate(MAX_SECRETS);
    Ok(scan)
}

fn file(
    scanner: &Scanner,
    gate: &SecretsGate,
    path: &Path,
    relative: &str,
    buffer: &mut Vec<u8>,
    scan: &mut Scan,
) -> Result<(), WalkError> {
    let failed = |source| WalkError::Read { path: path.to_owned(), source };
    // Should it have become a link or a pipe since.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let open = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let most = gate.max_file_mib << 20;
    buffer.clear();
    let mut open = open.take(BINARY_HEAD as u64);
    open.read_to_end(buffer).map_err(failed)?;
    if buffer.contains(&0) {
        scan.binary += 1;
        return Ok(());
    }
    if buffer.starts_with(LFS) && buffer.len() < 1024 {
        scan.lfs += 1;
        return Ok(());
    }
    // One more, to know whether anything is left.
    open.set_limit(most - (buffer.len() as u64).min(most) + 1);
    open.read_to_end(buffer).map_err(failed)?;
    if buffer.len() as u64 > most {
        scan.cut += 1;
        buffer.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    }
    scan.files += 1;
    scan.bytes += buffer.len() as u64;
    if scan.bytes > gate.max_total_mib << 20 {
        let (most, what, field) = (gate.max_total_mib, "MiB", "secrets.maxTotalMib");
        return Err(WalkError::TooMuch { most, what, field });
    }
    if scan.secrets.len() < MAX_SECRETS {
        let found = scanner.scan(relative, buffer).into_iter();
        scan.secrets.extend(found.map(|secret| (relative.to_owned(), secret)));
    }
    Ok(())
}
