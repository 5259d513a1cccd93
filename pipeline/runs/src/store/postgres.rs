//! The store in `PostgreSQL`, for several replicas of the service.
//!
//! Each batch of writes holds one advisory lock, so that there is one writer at a time among all
//! replicas, as there is with `SQLite`: what a claim or a delivery decides cannot be overtaken. A
//! replica that dies takes its connection with it, and the server gives the lock free.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    error::Error,
    fmt::Write as _,
    path::PathBuf,
};

use pitlane_release::causes;
use tokio_postgres::{
    Statement,
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

use super::{
    StoreError,
    address::PostgresUrl,
    db::{Param, Row},
    migrate,
    schema::postgres::MIGRATIONS,
    wire::{Owned, Wire},
};

/// The lock of all writers: "pitlane" in ASCII.
const LOCK: i64 = 0x0070_6974_6c61_6e65;

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(causes(&error))
    }
}

/// A connection with its prepared statements; made anew when it was lost.
pub(crate) struct Pg {
    url: PostgresUrl,
    wire: RefCell<Option<Wire>>,
    /// By their texts: several where they go as one.
    statements: RefCell<HashMap<Vec<&'static str>, Statement>>,
    /// Statements that wait for the next.
    later: RefCell<Vec<(&'static str, Vec<Owned>)>>,
    /// Whether the transaction has a savepoint that the next part replaces.
    saved: Cell<bool>,
}

impl Pg {
    /// Connects, and makes or migrates the tables.
    pub(super) fn open(url: &PostgresUrl) -> Result<Self, StoreError> {
        let this = Self::reader(url)?;
        this.migrate()?;
        Ok(this)
    }

    /// Connects.
    pub(super) fn reader(url: &PostgresUrl) -> Result<Self, StoreError> {
        let problem = |reason| StoreError::Unreachable { server: format!("{url:?}"), reason };
        let wire = RefCell::new(Some(url.connect().map_err(problem)?));
        Ok(Self {
            url: url.clone(),
            wire,
            statements: RefCell::default(),
            later: RefCell::default(),
            saved: Cell::new(false),
        })
    }

    fn migrate(&self) -> Result<(), StoreError> {
        self.move_to(migrate::newest(&MIGRATIONS)).map(drop)
    }

    /// Takes the tables to a version in one transaction. Gives the version that was found.
    pub(super) fn move_to(&self, to: i64) -> Result<i64, StoreError> {
        self.begin()?;
        self.moved(to).inspect_err(|_| self.roll_back())
    }

    fn moved(&self, to: i64) -> Result<i64, StoreError> {
        self.batch("CREATE TABLE IF NOT EXISTS pitlane_schema (version BIGINT NOT NULL)")?;
        let sql = "SELECT coalesce(max(version), 0) FROM pitlane_schema";
        let found: i64 = self.first(sql, &[], |row| row.get(0))?.unwrap_or(0);
        let place = PathBuf::from(format!("{:?}", self.url));
        if to < found && self.open_runs()? > 0 {
            return Err(migrate::open_runs());
        }
        for (version, sql) in migrate::way(&MIGRATIONS, found, to, &place)? {
            self.batch(sql)?;
            let sql = "DELETE FROM pitlane_schema WHERE version > ?1";
            self.execute(sql, &[Param::Int(version)])?;
            let sql = "INSERT INTO pitlane_schema (version)
                       SELECT CAST(?1 AS BIGINT) WHERE NOT EXISTS
                         (SELECT 1 FROM pitlane_schema WHERE version = ?1)";
            self.execute(sql, &[Param::Int(version)])?;
        }
        self.batch("COMMIT")?;
        Ok(found)
    }

    fn open_runs(&self) -> Result<i64, StoreError> {
        self.first(migrate::OPEN_RUNS, &[], |row| row.get(0)).map(|count| count.unwrap_or(0))
    }

    /// A new connection, when the old one is gone and nothing of a transaction can be lost.
    pub(super) fn revive(&self) -> Result<(), StoreError> {
        if self.alive() {
            return Ok(());
        }
        let server = format!("{:?}", self.url);
        let problem = |reason| StoreError::Unreachable { server, reason };
        let wire = self.url.connect().map_err(problem)?;
        self.statements.borrow_mut().clear();
        self.later.borrow_mut().clear();
        *self.wire.borrow_mut() = Some(wire);
        Ok(())
    }

    pub(super) fn alive(&self) -> bool {
        self.wire.borrow().as_ref().is_some_and(|wire| !wire.is_closed())
    }

    pub(super) fn begin(&self) -> Result<(), StoreError> {
        self.revive()?;
        self.saved.set(false);
        self.batch(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})"))
    }

    /// Begins a part of the transaction that [`Self::undo`] takes back; the part before it stands.
    pub(super) fn save(&self) -> Result<(), StoreError> {
        let text = match self.saved.replace(true) {
            true => "RELEASE one; SAVEPOINT one",
            false => "SAVEPOINT one",
        };
        self.with(|wire| {
            wire.batch_later(text);
            Ok(())
        })
    }

    /// Sends what waits, so that a part's last error is its own.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.hand_over()?;
        self.with(Wire::flush)
    }

    /// What waits goes along with the next statement, each for itself.
    fn hand_over(&self) -> Result<(), StoreError> {
        for (sql, params) in self.later.take() {
            let statement = self.statement(&[sql])?;
            self.with(|wire| {
                wire.execute_later(statement, params);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Takes the part back that was begun last.
    pub(super) fn undo(&self) -> Result<(), StoreError> {
        // Its beginning may still wait, without which an earlier part would be taken back.
        self.later.borrow_mut().clear();
        drop(self.with(Wire::flush));
        self.batch("ROLLBACK TO one")
    }

    pub(super) fn roll_back(&self) {
        if self.alive() {
            // Without a transaction the server only warns.
            drop(self.batch("ROLLBACK"));
        }
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.hand_over()?;
        self.with(|wire| wire.batch(sql))
    }

    pub(super) fn clock(&self) -> Result<i64, StoreError> {
        let sql = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
        let now = self.first(sql, &[], |row| row.get(0))?;
        now.ok_or_else(|| StoreError::Corrupt("the server has no clock".into()))
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&Wire) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        match self.wire.borrow().as_ref() {
            Some(wire) => Ok(work(wire)?),
            None => Err(StoreError::Stopped),
        }
    }

    fn statement(&self, texts: &[&'static str]) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.borrow().get(texts) {
            return Ok(known.clone());
        }
        let made = self.with(|wire| wire.prepare(&as_one(texts)))?;
        self.statements.borrow_mut().insert(texts.to_vec(), made.clone());
        Ok(made)
    }

    fn rows(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        self.hand_over()?;
        let statement = self.statement(&[sql])?;
        self.with(|wire| wire.query(&statement, params))
    }

    pub(super) fn execute(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<usize, StoreError> {
        self.hand_over()?;
        let statement = self.statement(&[sql])?;
        let changed = self.with(|wire| wire.execute(&statement, params))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// Executes with the next statement.
    pub(super) fn later(&self, sql: &'static str, params: &[Param<'_>]) {
        self.later.borrow_mut().push((sql, Owned::all(params)));
    }

    /// As one statement with what waits.
    pub(super) fn first_of_all<T>(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        map: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let before = self.later.take();
        let texts: Vec<_> = before.iter().map(|(text, _)| *text).chain([sql]).collect();
        let statement = self.statement(&texts)?;
        let waited = before.iter().flat_map(|(_, params)| params.iter().map(Owned::param));
        let params: Vec<_> = waited.chain(params.iter().copied()).collect();
        let rows = self.with(|wire| wire.query(&statement, &params))?;
        rows.first().map(|row| map(&Row::Postgres(row))).transpose()
    }

    pub(super) fn first<T>(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        map: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.rows(sql, params)?.first().map(|row| map(&Row::Postgres(row))).transpose()
    }

    pub(super) fn all<T>(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        map: &mut dyn FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.rows(sql, params)?.iter().map(|row| map(&Row::Postgres(row))).collect()
    }
}

impl Drop for Pg {
    fn drop(&mut self) {
        // It says goodbye in a runtime of its own, which cannot be within another one.
        if let Some(wire) = self.wire.take() {
            drop(std::thread::spawn(move || wire.close()));
        }
    }
}

/// Statements as one: those before the last are parts of it, and parameters are counted through.
/// `?1` is `$1` to the server; there is no question mark in our texts but these.
fn as_one(texts: &[&str]) -> String {
    let mut counted = 0;
    let mut numbered = Vec::with_capacity(texts.len());
    for text in texts {
        let (mut made, mut most) = (String::with_capacity(text.len() + 8), 0);
        let mut pieces = text.split('?');
        made.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
            let number: usize = piece[..end].parse().unwrap_or(0);
            most = most.max(number);
            let _ = write!(made, "${}{}", counted + number, &piece[end..]);
        }
        counted += most;
        numbered.push(made);
    }
    let last = numbered.pop().unwrap_or_default();
    let parts = numbered.iter().enumerate().map(|(n, text)| format!("part{n} AS ({text})"));
    match parts.collect::<Vec<_>>() {
        parts if parts.is_empty() => last,
        parts => format!("WITH {} {last}", parts.join(", ")),
    }
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) if *kind == Type::INT4 => i32::try_from(*value)?.to_sql(kind, out),
            Self::Int(value) => value.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Blob(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::as_one;

    #[test]
    fn statements_go_as_one() {
        let one = "SELECT a FROM b WHERE c = ?1 AND d > ?2 OR c = ?1";
        assert_eq!(as_one(&[one]), "SELECT a FROM b WHERE c = $1 AND d > $2 OR c = $1");
        assert_eq!(
            as_one(&["INSERT INTO a VALUES (?2, ?1)", "DELETE FROM b", "UPDATE c SET d = ?1"]),
            "WITH part0 AS (INSERT INTO a VALUES ($2, $1)), part1 AS (DELETE FROM b) \
             UPDATE c SET d = $3"
        );
        let many = (1..=12).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
        assert!(as_one(&[&many, &many]).ends_with("$23, $24"));
    }
}
