//! `Db`: a connection within a transaction, `SQLite`'s or `PostgreSQL`'s.
//!
//! Statements are written once, in words that both understand: `?1` for parameters (`$1` is made
//! of it), 64-bit integers for numbers, times and flags, `excluded`, `RETURNING`. So there is one
//! place that says what a delivery or a claim does, and both stores are tested by the same cases.

use std::time::Duration;

use super::{StoreError, postgres::Pg, sqlite::Sqlite};

/// A value for a statement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Param<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// What can be given to a statement.
pub(super) trait AsParam {
    fn param(&self) -> Param<'_>;
}

impl AsParam for str {
    fn param(&self) -> Param<'_> {
        Param::Text(self)
    }
}

impl AsParam for String {
    fn param(&self) -> Param<'_> {
        Param::Text(self)
    }
}

impl AsParam for [u8] {
    fn param(&self) -> Param<'_> {
        Param::Blob(self)
    }
}

impl AsParam for i64 {
    fn param(&self) -> Param<'_> {
        Param::Int(*self)
    }
}

impl AsParam for u32 {
    fn param(&self) -> Param<'_> {
        Param::Int((*self).into())
    }
}

impl AsParam for bool {
    fn param(&self) -> Param<'_> {
        Param::Int((*self).into())
    }
}

impl<T: AsParam + ?Sized> AsParam for &T {
    fn param(&self) -> Param<'_> {
        (**self).param()
    }
}

impl<T: AsParam> AsParam for Option<T> {
    fn param(&self) -> Param<'_> {
        self.as_ref().map_or(Param::Null, AsParam::param)
    }
}

/// The values of a statement, in order.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::db::AsParam::param(&$value)),*]
    };
}
pub(super) use params;

/// A row of an answer.
#[derive(Clone, Copy)]
pub(super) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

/// What can be read from a row.
pub(super) trait Column: Sized {
    fn read(row: Row<'_>, at: usize) -> Result<Self, StoreError>;
}

macro_rules! columns {
    ($($kind:ty),*) => {$(
        impl Column for $kind {
            fn read(row: Row<'_>, at: usize) -> Result<Self, StoreError> {
                match row {
                    Row::Sqlite(row) => Ok(row.get(at)?),
                    Row::Postgres(row) => Ok(row.try_get(at)?),
                }
            }
        }
    )*};
}
columns!(i64, String, Vec<u8>, Option<i64>, Option<String>);

impl Column for u32 {
    fn read(row: Row<'_>, at: usize) -> Result<Self, StoreError> {
        let value = i64::read(row, at)?;
        let why = |_| StoreError::Corrupt(format!("column {at} is {value}"));
        Self::try_from(value).map_err(why)
    }
}

/// A flag is 0 or 1.
impl Column for bool {
    fn read(row: Row<'_>, at: usize) -> Result<Self, StoreError> {
        Ok(i64::read(row, at)? != 0)
    }
}

impl Row<'_> {
    /// The value of a column, counted from 0.
    pub(super) fn get<T: Column>(&self, at: usize) -> Result<T, StoreError> {
        T::read(*self, at)
    }
}

/// A connection.
pub(crate) enum Db<'c> {
    Sqlite(Sqlite<'c>),
    Postgres(&'c Pg),
}

impl Db<'_> {
    /// Executes; the number of rows changed.
    pub(super) fn execute(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<usize, StoreError> {
        match self {
            Self::Sqlite(db) => db.execute(sql, params),
            Self::Postgres(db) => db.execute(sql, params),
        }
    }

    /// Executes, at the latest with the next statement; its error is that one's, or the write's.
    pub(super) fn later(&self, sql: &'static str, params: &[Param<'_>]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(db) => db.execute(sql, params).map(drop),
            Self::Postgres(db) => {
                db.later(sql, params);
                Ok(())
            }
        }
    }

    /// The first row, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        map: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self {
            Self::Sqlite(db) => db.first(sql, params, map),
            Self::Postgres(db) => db.first(sql, params, map),
        }
    }

    /// The first row of a statement that goes as one with those of [`Self::later`] before it: they
    /// change rows of different tables, and none sees what another does.
    pub(super) fn first_of_all<T>(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        map: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self {
            Self::Sqlite(db) => db.first(sql, params, map),
            Self::Postgres(db) => db.first_of_all(sql, params, map),
        }
    }

    /// All rows.
    pub(super) fn all<T>(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        mut map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        match self {
            Self::Sqlite(db) => db.all(sql, params, &mut map),
            Self::Postgres(db) => db.all(sql, params, &mut map),
        }
    }

    /// Begins a transaction that no other writer, here or in another process, runs beside.
    pub(super) fn begin(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(db) => db.execute("BEGIN IMMEDIATE", &[]).map(drop),
            Self::Postgres(db) => db.begin(),
        }
    }

    /// Makes it durable.
    pub(super) fn commit(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(db) => db.execute("COMMIT", &[]).map(drop),
            Self::Postgres(db) => db.batch("COMMIT"),
        }
    }

    /// Ends what a failed transaction may have left open.
    pub(super) fn roll_back(&self) {
        match self {
            Self::Sqlite(db) if db.in_transaction() => drop(db.execute("ROLLBACK", &[])),
            Self::Sqlite(_) => {}
            Self::Postgres(db) => db.roll_back(),
        }
    }

    /// Whether the transaction still takes statements.
    pub(super) fn in_transaction(&self) -> bool {
        match self {
            Self::Sqlite(db) => db.in_transaction(),
            Self::Postgres(db) => db.alive(),
        }
    }

    /// A part of the transaction that can be taken back by itself.
    pub(super) fn isolated<T>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self {
            Self::Sqlite(db) => {
                db.execute("SAVEPOINT one", &[])?;
                let outcome = work(self);
                if outcome.is_err() {
                    db.execute("ROLLBACK TO one", &[])?;
                }
                db.execute("RELEASE one", &[])?;
                outcome
            }
            Self::Postgres(db) => {
                db.save()?;
                let outcome = work(self).and_then(|done| db.flush().map(|()| done));
                outcome.or_else(|error| db.undo().and(Err(error)))
            }
        }
    }

    /// A transaction takes no more writes after this long: the first of them waits for the last.
    pub(super) const fn patience(&self) -> Duration {
        match self {
            Self::Sqlite(_) => Duration::from_millis(2),
            // Its statements go to a server and back: fewer in one would mean more commits than
            // writes; more, that senders wait for each other instead of sending.
            Self::Postgres(_) => Duration::from_millis(4),
        }
    }

    /// Milliseconds since 1970 by the clock that all who write this store share.
    pub(super) fn clock(&self) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(super::now_ms()),
            Self::Postgres(db) => db.clock(),
        }
    }
}
