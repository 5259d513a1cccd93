//! The store in `SQLite`: its tables, and how an older store becomes a current one.

use std::{cell::RefCell, collections::HashMap, path::Path};

use rusqlite::{
    Connection, OpenFlags, Statement, ToSql, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    StoreError,
    db::{Param, Row},
    down,
    migrate::{self, Migration},
};

/// The versions, the oldest first; entries are never edited.
pub(super) const MIGRATIONS: [Migration; 4] = [
    Migration { up: FIRST, down: "" },
    Migration { up: SECOND, down: down::SECOND },
    Migration { up: THIRD, down: down::THIRD },
    Migration { up: FOURTH, down: down::FOURTH },
];

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

/// `runs.lease`: until when its holder counts as alive; `holder`: which process, for people;
/// `cancel`: somebody asked for its end. Two more states, which takes a new table.
/// `documents`: what a run seals once, so that whoever goes on with it finds it.
const THIRD: &str = "
CREATE TABLE runs_new (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL CHECK (state IN
    ('queued','running','failed','done','cancelled','superseded')),
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  pipeline TEXT NOT NULL,
  kind TEXT NOT NULL,
  counter INTEGER NOT NULL,
  rollback INTEGER NOT NULL DEFAULT 0,
  fence INTEGER NOT NULL DEFAULT 0,
  lease INTEGER NOT NULL DEFAULT 0,
  holder TEXT,
  cancel INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  failed_step TEXT,
  error TEXT,
  local TEXT,
  UNIQUE (repository, kind, counter)
);
INSERT INTO runs_new (seq, id, state, repository, tag, commit_id, object, pipeline, kind, counter,
    rollback, fence, created, updated, failed_step, error, local)
  SELECT seq, id, state, repository, tag, commit_id, object, pipeline, kind, counter,
    rollback, fence, created, updated, failed_step, error, local FROM runs;
DROP TABLE runs;
ALTER TABLE runs_new RENAME TO runs;
CREATE INDEX runs_by_tag ON runs (repository, tag);
CREATE INDEX runs_open ON runs (state, seq) WHERE state IN ('queued','running');
CREATE INDEX runs_queue ON runs (pipeline, seq) WHERE state = 'queued';
CREATE INDEX runs_busy ON runs (pipeline) WHERE state = 'running';
CREATE TABLE documents (
  run TEXT NOT NULL REFERENCES runs (id),
  name TEXT NOT NULL,
  bytes BLOB NOT NULL,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;
";

/// `looks`: when a repository's list of tags was first looked at. `changes`: runs and alerts in
/// the order of their last change, for those that follow them ([`super::follow`]); triggers write
/// it, so that no write can forget to. `followers`: how far each has come. `told`: facts that were
/// put into the `outbox`, which has one row for each channel that still waits for one. `duties`:
/// which process does what one alone should do. `approvals`, `cars`, `confirmed`: what people and
/// cars said of releases, for environments. `places`: how each release stands in each of them.
const FOURTH: &str = "
CREATE TABLE looks (
  repository TEXT NOT NULL PRIMARY KEY,
  first INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE changes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  UNIQUE (kind, id)
);
CREATE TRIGGER runs_made AFTER INSERT ON runs BEGIN
  INSERT INTO changes (kind, id) VALUES ('run', NEW.id);
END;
CREATE TRIGGER runs_changed AFTER UPDATE OF updated, state ON runs BEGIN
  DELETE FROM changes WHERE kind = 'run' AND id = NEW.id;
  INSERT INTO changes (kind, id) VALUES ('run', NEW.id);
END;
CREATE TRIGGER alerts_made AFTER INSERT ON alerts BEGIN
  INSERT INTO changes (kind, id) VALUES ('alert', CAST(NEW.seq AS TEXT));
END;
CREATE TABLE followers (
  name TEXT NOT NULL PRIMARY KEY,
  seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE told (
  id TEXT NOT NULL PRIMARY KEY,
  time INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  channel TEXT NOT NULL,
  id TEXT NOT NULL,
  event TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  first_try INTEGER,
  due INTEGER,
  UNIQUE (channel, id)
);
CREATE INDEX outbox_queue ON outbox (channel, seq);
CREATE TABLE duties (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE approvals (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  counter INTEGER NOT NULL,
  digest TEXT NOT NULL,
  approver TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (pipeline, environment, counter)
) WITHOUT ROWID;
CREATE TABLE cars (
  pipeline TEXT NOT NULL,
  car TEXT NOT NULL,
  environment TEXT NOT NULL,
  status TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (pipeline, car)
) WITHOUT ROWID;
CREATE TABLE confirmed (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  digest TEXT NOT NULL,
  car TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (pipeline, environment, digest, car)
) WITHOUT ROWID;
CREATE TABLE places (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  counter INTEGER NOT NULL,
  run TEXT NOT NULL,
  progress TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (pipeline, environment, counter)
) WITHOUT ROWID;
CREATE INDEX places_of ON places (run);
";

/// A connection with its prepared statements.
pub(crate) struct Sqlite<'c> {
    connection: &'c Connection,
    statements: RefCell<HashMap<&'static str, Statement<'c>>>,
}

impl<'c> Sqlite<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, statements: RefCell::default() }
    }

    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    fn with<T>(
        &self,
        sql: &'static str,
        run: impl FnOnce(&mut Statement<'c>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut statements = self.statements.borrow_mut();
        if !statements.contains_key(sql) {
            statements.insert(sql, self.connection.prepare(sql)?);
        }
        run(statements.get_mut(sql).expect("inserted above"))
    }

    pub(super) fn execute(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<usize, StoreError> {
        self.with(sql, |statement| Ok(statement.execute(params_from_iter(params))?))
    }

    pub(super) fn first<T>(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        map: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.with(sql, |statement| {
            let mut rows = statement.query(params_from_iter(params))?;
            rows.next()?.map(|row| map(&Row::Sqlite(row))).transpose()
        })
    }

    pub(super) fn all<T>(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        map: &mut dyn FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.with(sql, |statement| {
            let mut rows = statement.query(params_from_iter(params))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(map(&Row::Sqlite(row))?);
            }
            Ok(found)
        })
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error.to_string())
    }
}

pub(super) fn problem(path: &Path, reason: &rusqlite::Error) -> StoreError {
    StoreError::Open { path: path.to_owned(), reason: reason.to_string() }
}

/// The writing connection: made where it is missing, migrated where it is older.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = open_as_it_is(path)?;
    let to = migrate::newest(&MIGRATIONS);
    move_to(&mut connection, path, to)?;
    // Only now: a migration may put a table in another's place. Who has the file alone need not
    // wait for the end of what a process that was killed had taken on.
    connection
        .execute_batch("PRAGMA foreign_keys = ON; DELETE FROM duties")
        .map_err(|e| problem(path, &e))?;
    Ok(connection)
}

/// The writing connection, whatever version the tables are of.
pub(super) fn open_as_it_is(path: &Path) -> Result<Connection, StoreError> {
    let fail = |e: rusqlite::Error| problem(path, &e);
    let connection = Connection::open(path).map_err(fail)?;
    // FULL: a commit is on disk before it is answered, power loss included. Fewer and
    // larger checkpoints than by default (1000 pages): each stops the writer for some 20 ms.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF;
             PRAGMA busy_timeout = 5000; PRAGMA wal_autocheckpoint = 4000;
             PRAGMA journal_size_limit = 67108864; PRAGMA trusted_schema = OFF;",
        )
        .map_err(fail)?;
    Ok(connection)
}

/// The version of the tables.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| problem(path, &e))
}

/// Takes the tables to a version, one at a time, each in a transaction of its own. Gives the
/// version that was found.
pub(super) fn move_to(
    connection: &mut Connection,
    path: &Path,
    to: i64,
) -> Result<i64, StoreError> {
    let fail = |e: rusqlite::Error| problem(path, &e);
    let found = version(connection, path)?;
    for (version, sql) in migrate::way(&MIGRATIONS, found, to, path)? {
        let step = connection.transaction().map_err(fail)?;
        step.execute_batch(sql).map_err(fail)?;
        step.pragma_update(None, "user_version", version).map_err(fail)?;
        step.commit().map_err(fail)?;
    }
    Ok(found)
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
