//! The tables, and how an older store becomes a current one.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;

/// Each entry takes the schema from its index to the next version; entries are never edited.
const MIGRATIONS: [&str; 2] = [FIRST, SECOND];

/// `runs.fence` grows with every claim; a journal write must carry the current one.
/// `deliveries.body` and `headers` are kept for the newest rows alone (see inbox).
/// Times are milliseconds since 1970 UTC.
const FIRST: &str = "
CREATE TABLE deliveries (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  received INTEGER NOT NULL,
  event TEXT NOT NULL,
  repository TEXT,
  tag TEXT,
  outcome TEXT NOT NULL,
  run TEXT,
  digest BLOB NOT NULL,
  headers TEXT,
  body BLOB
);
CREATE TABLE tags (
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  first_seen INTEGER NOT NULL,
  deleted INTEGER,
  PRIMARY KEY (repository, tag)
) WITHOUT ROWID;
CREATE TABLE counters (
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  value INTEGER NOT NULL,
  PRIMARY KEY (source, kind)
) WITHOUT ROWID;
CREATE TABLE runs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL CHECK (state IN ('queued','running','failed','done')),
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  pipeline TEXT NOT NULL,
  kind TEXT NOT NULL,
  counter INTEGER NOT NULL,
  rollback INTEGER NOT NULL DEFAULT 0,
  fence INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  failed_step TEXT,
  error TEXT,
  UNIQUE (repository, kind, counter)
);
CREATE INDEX runs_by_tag ON runs (repository, tag);
CREATE INDEX runs_open ON runs (state, seq) WHERE state IN ('queued','running');
CREATE TABLE steps (
  run TEXT NOT NULL REFERENCES runs (id),
  step TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('running','done','failed','interrupted')),
  started INTEGER NOT NULL,
  finished INTEGER,
  output TEXT,
  error TEXT,
  PRIMARY KEY (run, step, attempt)
) WITHOUT ROWID;
CREATE TABLE alerts (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  code TEXT NOT NULL,
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  detail TEXT NOT NULL,
  message TEXT NOT NULL,
  first_seen INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  times INTEGER NOT NULL DEFAULT 1,
  UNIQUE (code, repository, tag, detail)
);
";

/// `runs.local`: the model and card files of a run that is not made from a checkout, JSON.
/// `runs_queue`, `runs_busy`: a pipeline's oldest queued run, and whether one is running, are
/// found without a walk over the others.
const SECOND: &str = "
ALTER TABLE runs ADD COLUMN local TEXT;
CREATE INDEX runs_queue ON runs (pipeline, seq) WHERE state = 'queued';
CREATE INDEX runs_busy ON runs (pipeline) WHERE state = 'running';
";

fn problem(path: &Path, reason: &rusqlite::Error) -> StoreError {
    StoreError::Open { path: path.to_owned(), reason: reason.to_string() }
}

/// The writing connection: made where it is missing, migrated where it is older.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path).map_err(|e| problem(path, &e))?;
    prepare(&mut connection, path)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |e: rusqlite::Error| problem(path, &e);
    // FULL: a commit is on disk before it is answered, power loss included. Fewer and
    // larger checkpoints than by default (1000 pages): each stops the writer for some 20 ms.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA busy_timeout = 5000; PRAGMA wal_autocheckpoint = 4000;
             PRAGMA journal_size_limit = 67108864; PRAGMA trusted_schema = OFF;",
        )
        .map_err(fail)?;
    let known = i64::try_from(MIGRATIONS.len()).expect("a handful");
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fail)?;
    if found > known || found < 0 {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known });
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS) {
        if version > found {
            let step = connection.transaction().map_err(fail)?;
            step.execute_batch(migration).map_err(fail)?;
            step.pragma_update(None, "user_version", version).map_err(fail)?;
            step.commit().map_err(fail)?;
        }
    }
    Ok(())
}

/// A connection that can only read.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| problem(path, &e))?;
    connection
        .execute_batch("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;")
        .map_err(|e| problem(path, &e))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_of_other_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        drop(open(&path).unwrap());
        let again = open(&path).unwrap();
        let found: i64 = again.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
        assert_eq!(usize::try_from(found).unwrap(), MIGRATIONS.len());
        let mode: String = again.query_row("PRAGMA journal_mode", [], |r| r.get(0)).unwrap();
        let sync: i64 = again.query_row("PRAGMA synchronous", [], |r| r.get(0)).unwrap();
        assert_eq!((mode.as_str(), sync), ("wal", 2));
        again.pragma_update(None, "user_version", 99).unwrap();
        drop(again);
        assert!(matches!(open(&path), Err(StoreError::TooNew { found: 99, .. })));
        std::fs::write(&path, b"not a database, but long enough to be read as one").unwrap();
        assert!(matches!(open(&path), Err(StoreError::Open { .. })));
        assert!(matches!(open(&dir.path().join("no/s.db")), Err(StoreError::Open { .. })));
    }
}
