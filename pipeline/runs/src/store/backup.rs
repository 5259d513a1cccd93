//! A copy of the store in `SQLite`, taken while the service runs, and put back.
//!
//! The copy is one read of one moment: writers go on, and what they commit meanwhile is not in it. A
//! server's store is copied by the server's own `pg_dump`.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, backup::Backup};

use super::{StoreError, migrate, schema, sqlite, writer};

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// Where it is.
    pub file: PathBuf,
    /// Its size (bytes).
    pub bytes: u64,
    /// The version of its tables.
    pub schema: i64,
    /// Runs in it.
    pub runs: i64,
    /// Deliveries in it.
    pub deliveries: i64,
}

/// Copies the store at `path` to the file `to`, which must not be there. A service may use the
/// store meanwhile.
///
/// # Errors
/// When it cannot be read or written, or the copy is not sound; nothing is left then.
pub fn backup(path: &Path, to: &Path) -> Result<Copied, StoreError> {
    let source = sqlite::open_reader(path)?;
    free(to)?;
    let part = beside(to, "part");
    let _gone = Gone(&part);
    drop(
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(file(&part))?,
    );
    let mut target = Connection::open(&part).map_err(|e| sqlite::problem(&part, &e))?;
    // All pages in one step: in between, a write would make it begin anew.
    Backup::new(&source, &mut target)?.step(-1)?;
    // One file, without a journal beside it.
    target.execute_batch("PRAGMA journal_mode = DELETE")?;
    drop(target);
    let copied = look(&part, to)?;
    settle(&part, to)?;
    Ok(copied)
}

/// Puts a copy in the place of the store at `path`. The service must not run. A store that is there
/// is kept beside it under another name, when `replace` allows it at all.
///
/// # Errors
/// When the copy is not sound or of a newer program; the store stays as it was then.
pub fn restore(from: &Path, path: &Path, replace: bool) -> Result<Copied, StoreError> {
    let _lock = writer::lock(path)?;
    let copied = look(from, path)?;
    let newest = migrate::newest(&schema::sqlite::MIGRATIONS);
    if copied.schema > newest {
        let (path, found) = (from.to_owned(), copied.schema);
        return Err(StoreError::TooNew { path, found, known: newest });
    }
    let there = ["", "-wal", "-shm"].map(|end| suffixed(path, end));
    if !replace {
        free(&there[0])?;
    }
    let part = beside(path, "part");
    let _gone = Gone(&part);
    drop(fs::remove_file(&part));
    fs::copy(from, &part).map_err(file(&part))?;
    fs::set_permissions(&part, Permissions::from_mode(0o600)).map_err(file(&part))?;
    for old in there.iter().filter(|old| old.exists()) {
        // The journal belongs to the old file, and must not be read into the new one.
        fs::rename(old, suffixed(old, ".replaced")).map_err(file(old))?;
    }
    settle(&part, path)?;
    Ok(copied)
}

/// Reads a copy whole: the database's own check, and what is in it.
fn look(copy: &Path, shown: &Path) -> Result<Copied, StoreError> {
    let problem = |e: rusqlite::Error| sqlite::problem(copy, &e);
    let bytes = fs::metadata(copy).map_err(file(copy))?.len();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(copy, flags).map_err(problem)?;
    let said: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(problem)?;
    let schema = sqlite::version(&connection, copy)?;
    if said != "ok" || schema < 1 {
        let reason = format!("not a sound copy of a store: {said}, schema {schema}");
        return Err(StoreError::Open { path: copy.to_owned(), reason });
    }
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        connection.query_row(&sql, [], |row| row.get(0)).map_err(problem)
    };
    let (runs, deliveries) = (count("runs")?, count("deliveries")?);
    Ok(Copied { file: shown.to_owned(), bytes, schema, runs, deliveries })
}

/// On the disk first, then under its name.
fn settle(part: &Path, name: &Path) -> Result<(), StoreError> {
    File::open(part).and_then(|done| done.sync_all()).map_err(file(part))?;
    fs::rename(part, name).map_err(file(name))?;
    let folder = name.parent().filter(|dir| !dir.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(file(folder))
}

fn free(path: &Path) -> Result<(), StoreError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        _ => {
            let reason = "there is something already, and it is not written over".into();
            Err(StoreError::Open { path: path.to_owned(), reason })
        }
    }
}

fn file(path: &Path) -> impl Fn(std::io::Error) -> StoreError + '_ {
    |error| StoreError::Open { path: path.to_owned(), reason: error.to_string() }
}

fn suffixed(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn beside(path: &Path, end: &str) -> PathBuf {
    suffixed(path, &format!(".{end}"))
}

/// A file that goes when this does, unless it got its name.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        drop(fs::remove_file(self.0));
        drop(fs::remove_file(suffixed(self.0, "-journal")));
    }
}
