//! The store in `PostgreSQL`, for several replicas of the service.
//!
//! Each batch of writes holds one advisory lock, so that there is one writer at a time among all
//! replicas, as there is with `SQLite`: what a claim or a delivery decides cannot be overtaken. A
//! replica that dies takes its connection with it, and the server gives the lock free.

use std::{cell::RefCell, collections::HashMap, error::Error, path::PathBuf};

use ::postgres::{
    Client, Statement,
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

use super::{
    StoreError,
    address::{PostgresUrl, told},
    db::{Param, Row},
    migrate,
    schema::postgres::MIGRATIONS,
};

/// The lock of all writers: "pitlane" in ASCII.
const LOCK: i64 = 0x0070_6974_6c61_6e65;
impl From<::postgres::Error> for StoreError {
    fn from(error: ::postgres::Error) -> Self {
        Self::Sql(told(&error))
    }
}

/// A connection with its prepared statements; made anew when it was lost.
pub(crate) struct Pg {
    url: PostgresUrl,
    client: RefCell<Option<Client>>,
    statements: RefCell<HashMap<&'static str, Statement>>,
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
        let client = RefCell::new(Some(url.connect().map_err(problem)?));
        Ok(Self { url: url.clone(), client, statements: RefCell::default() })
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
        let client = self.url.connect().map_err(problem)?;
        self.statements.borrow_mut().clear();
        *self.client.borrow_mut() = Some(client);
        Ok(())
    }

    pub(super) fn alive(&self) -> bool {
        self.client.borrow().as_ref().is_some_and(|client| !client.is_closed())
    }

    pub(super) fn begin(&self) -> Result<(), StoreError> {
        self.revive()?;
        self.batch("BEGIN")?;
        self.execute("SELECT pg_advisory_xact_lock(?1)", &[Param::Int(LOCK)]).map(drop)
    }

    pub(super) fn roll_back(&self) {
        if self.alive() {
            // Without a transaction the server only warns.
            drop(self.batch("ROLLBACK"));
        }
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.with(|client| client.batch_execute(sql))
    }

    pub(super) fn clock(&self) -> Result<i64, StoreError> {
        let sql = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
        let now = self.first(sql, &[], |row| row.get(0))?;
        now.ok_or_else(|| StoreError::Corrupt("the server has no clock".into()))
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, ::postgres::Error>,
    ) -> Result<T, StoreError> {
        match self.client.borrow_mut().as_mut() {
            Some(client) => Ok(work(client)?),
            None => Err(StoreError::Stopped),
        }
    }

    fn statement(&self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.borrow().get(sql) {
            return Ok(known.clone());
        }
        let made = self.with(|client| client.prepare(&numbered(sql)))?;
        self.statements.borrow_mut().insert(sql, made.clone());
        Ok(made)
    }

    fn rows(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<::postgres::Row>, StoreError> {
        let statement = self.statement(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|one| one as _).collect();
        self.with(|client| client.query(&statement, &params))
    }

    pub(super) fn execute(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<usize, StoreError> {
        let statement = self.statement(sql)?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|one| one as _).collect();
        let changed = self.with(|client| client.execute(&statement, &params))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
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
        // The client says goodbye in a runtime of its own, which cannot be within another one.
        let client = self.client.take();
        drop(std::thread::spawn(move || drop(client)));
    }
}

/// `?1` as the server writes it: `$1`. There is no question mark in our texts but these.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
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
