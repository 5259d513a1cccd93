//! The store in `SQLite`: one file, one writer.

use std::{cell::RefCell, collections::HashMap, path::Path};

use rusqlite::{
    Connection, OpenFlags, Statement, ToSql, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    StoreError,
    db::{Param, Row},
    migrate,
    schema::sqlite::MIGRATIONS,
};

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
