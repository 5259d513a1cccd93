//! The store in `PostgreSQL`, for several replicas of the service.
//!
//! Each batch of writes holds one advisory lock, so that there is one writer at a time among all
//! replicas, as there is with `SQLite`: what a claim or a delivery decides cannot be overtaken. A
//! replica that dies takes its connection with it, and the server gives the lock free.

use std::{
    cell::RefCell, collections::HashMap, error::Error, fmt::Write as _, net::IpAddr, path::PathBuf,
    sync::Arc, time::Duration,
};

use ::postgres::{
    Client, Config, NoTls, Statement,
    config::{Host, SslMode},
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    StoreError,
    db::{Param, Row},
    migrate::{self, Migration},
};

/// Longest that a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// The lock of all writers: "pitlane" in ASCII.
const LOCK: i64 = 0x0070_6974_6c61_6e65;
/// A writer waits this long for the others', and a connection that stands still within a
/// transaction (its process is stopped, its network gone) is cut off by the server.
const SESSION: &str = "SET lock_timeout = '10s'; SET statement_timeout = '20s';
    SET idle_in_transaction_session_timeout = '10s'; SET client_min_messages = warning";
/// The versions, the oldest first; entries are never edited.
pub(super) const MIGRATIONS: [Migration; 2] =
    [Migration { up: FIRST, down: "" }, Migration { up: SECOND, down: SECOND_DOWN }];

/// The tables, as `SQLite` has them after its own migrations (`sqlite.rs`).
const FIRST: &str = "
CREATE TABLE deliveries (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  received BIGINT NOT NULL,
  event TEXT NOT NULL,
  repository TEXT,
  tag TEXT,
  outcome TEXT NOT NULL,
  run TEXT,
  digest BYTEA NOT NULL,
  headers TEXT,
  body BYTEA
);
CREATE TABLE tags (
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  first_seen BIGINT NOT NULL,
  deleted BIGINT,
  PRIMARY KEY (repository, tag)
);
CREATE TABLE counters (
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  value BIGINT NOT NULL,
  PRIMARY KEY (source, kind)
);
CREATE TABLE runs (
  seq BIGINT PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL CHECK (state IN
    ('queued','running','failed','done','cancelled','superseded')),
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  pipeline TEXT NOT NULL,
  kind TEXT NOT NULL,
  counter BIGINT NOT NULL,
  rollback BIGINT NOT NULL DEFAULT 0,
  fence BIGINT NOT NULL DEFAULT 0,
  lease BIGINT NOT NULL DEFAULT 0,
  holder TEXT,
  cancel BIGINT NOT NULL DEFAULT 0,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  failed_step TEXT,
  error TEXT,
  local TEXT,
  UNIQUE (repository, kind, counter)
);
CREATE INDEX runs_by_tag ON runs (repository, tag);
CREATE INDEX runs_open ON runs (state, seq) WHERE state IN ('queued','running');
CREATE INDEX runs_queue ON runs (pipeline, seq) WHERE state = 'queued';
CREATE INDEX runs_busy ON runs (pipeline) WHERE state = 'running';
CREATE TABLE steps (
  run TEXT NOT NULL REFERENCES runs (id),
  step TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('running','done','failed','interrupted')),
  started BIGINT NOT NULL,
  finished BIGINT,
  output TEXT,
  error TEXT,
  PRIMARY KEY (run, step, attempt)
);
CREATE TABLE documents (
  run TEXT NOT NULL REFERENCES runs (id),
  name TEXT NOT NULL,
  bytes BYTEA NOT NULL,
  PRIMARY KEY (run, name)
);
CREATE TABLE alerts (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  code TEXT NOT NULL,
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  detail TEXT NOT NULL,
  message TEXT NOT NULL,
  first_seen BIGINT NOT NULL,
  last_seen BIGINT NOT NULL,
  times BIGINT NOT NULL DEFAULT 1,
  UNIQUE (code, repository, tag, detail)
);
";

/// As `FOURTH` of `down.rs`.
const SECOND_DOWN: &str = "
DROP TRIGGER runs_made ON runs;
DROP TRIGGER runs_changed ON runs;
DROP TRIGGER alerts_made ON alerts;
DROP FUNCTION run_changed();
DROP FUNCTION alert_made();
DROP TABLE looks, changes, followers, told, outbox, duties, approvals, cars, confirmed, places;
DELETE FROM steps WHERE step = 'gates';
UPDATE runs SET failed_step = 'assemble' WHERE failed_step = 'gates';
";

/// As `FOURTH` of `sqlite.rs`.
const SECOND: &str = "
CREATE TABLE looks (
  repository TEXT NOT NULL PRIMARY KEY,
  first BIGINT NOT NULL
);
CREATE TABLE changes (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  UNIQUE (kind, id)
);
CREATE FUNCTION run_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM changes WHERE kind = 'run' AND id = NEW.id;
  INSERT INTO changes (kind, id) VALUES ('run', NEW.id);
  RETURN NULL;
END $$;
CREATE TRIGGER runs_made AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION run_changed();
CREATE TRIGGER runs_changed AFTER UPDATE OF updated, state ON runs
  FOR EACH ROW EXECUTE FUNCTION run_changed();
CREATE FUNCTION alert_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO changes (kind, id) VALUES ('alert', CAST(NEW.seq AS TEXT));
  RETURN NULL;
END $$;
CREATE TRIGGER alerts_made AFTER INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION alert_made();
CREATE TABLE followers (
  name TEXT NOT NULL PRIMARY KEY,
  seq BIGINT NOT NULL
);
CREATE TABLE told (
  id TEXT NOT NULL PRIMARY KEY,
  time BIGINT NOT NULL
);
CREATE TABLE outbox (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  channel TEXT NOT NULL,
  id TEXT NOT NULL,
  event TEXT NOT NULL,
  attempts BIGINT NOT NULL DEFAULT 0,
  first_try BIGINT,
  due BIGINT,
  UNIQUE (channel, id)
);
CREATE INDEX outbox_queue ON outbox (channel, seq);
CREATE TABLE duties (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  until BIGINT NOT NULL
);
CREATE TABLE approvals (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  counter BIGINT NOT NULL,
  digest TEXT NOT NULL,
  approver TEXT NOT NULL,
  time BIGINT NOT NULL,
  PRIMARY KEY (pipeline, environment, counter)
);
CREATE TABLE cars (
  pipeline TEXT NOT NULL,
  car TEXT NOT NULL,
  environment TEXT NOT NULL,
  status TEXT NOT NULL,
  time BIGINT NOT NULL,
  PRIMARY KEY (pipeline, car)
);
CREATE TABLE confirmed (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  digest TEXT NOT NULL,
  car TEXT NOT NULL,
  time BIGINT NOT NULL,
  PRIMARY KEY (pipeline, environment, digest, car)
);
CREATE TABLE places (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  counter BIGINT NOT NULL,
  run TEXT NOT NULL,
  progress TEXT NOT NULL,
  time BIGINT NOT NULL,
  PRIMARY KEY (pipeline, environment, counter)
);
CREATE INDEX places_of ON places (run);
";

/// Where a server is, and how its certificate is checked. Holds a password: never printed.
#[derive(Clone)]
pub struct PostgresUrl {
    config: Config,
    /// Certificates (PEM) to trust instead of the system's.
    root: Option<PathBuf>,
}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let database = self.config.get_dbname().unwrap_or("?");
        write!(f, "PostgresUrl({:?} {database})", self.config.get_hosts())
    }
}

impl PostgresUrl {
    /// Reads `postgres://user:password@host:port/database`. A server that is not on this machine
    /// must speak TLS unless the address says `sslmode=disable`.
    ///
    /// # Errors
    /// When it is not such an address; the message does not repeat it.
    pub fn parse(text: &str, root: Option<PathBuf>) -> Result<Self, String> {
        let mut config: Config = text.parse().map_err(|error: ::postgres::Error| told(&error))?;
        if config.get_hosts().is_empty() {
            return Err("it names no host: write postgres://user@host/database".into());
        }
        let local = config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        });
        if config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
        }
        config.connect_timeout(CONNECT).application_name("pitlane");
        Ok(Self { config, root })
    }

    fn connect(&self) -> Result<Client, String> {
        let mut client = if self.config.get_ssl_mode() == SslMode::Disable {
            self.config.connect(NoTls)
        } else {
            self.config.connect(MakeRustlsConnect::new(self.tls()?))
        }
        .map_err(|error| told(&error))?;
        client.batch_execute(SESSION).map_err(|error| told(&error))?;
        Ok(client)
    }

    fn tls(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.root {
            use rustls::pki_types::pem::PemObject as _;
            let shown = file.display();
            let found = CertificateDer::pem_file_iter(file).map_err(|e| format!("{shown}: {e}"))?;
            for certificate in found {
                let certificate = certificate.map_err(|e| format!("{shown}: {e}"))?;
                roots.add(certificate).map_err(|e| format!("{shown}: {e}"))?;
            }
        } else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
        if roots.is_empty() {
            return Err("no certificate authority is trusted; name a file of them".into());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// An error with its causes, which say what happened.
fn told(error: &::postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

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
