//! Where a store is: a file, or a server of the test's own.

use pitlane_runs::{Store, store::PostgresUrl};
use tempfile::TempDir;

use crate::server::Server;

/// Where a store is.
pub(crate) enum Place {
    Sqlite(TempDir),
    Postgres(Server),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// None, with a word about it, where there is no server to start.
    pub(crate) fn postgres() -> Option<Self> {
        match Server::new() {
            Ok(server) => Some(Self::Postgres(server)),
            Err(why) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true, but {why}");
                eprintln!("SKIP: {why}");
                None
            }
        }
    }

    pub(crate) fn open(&self) -> Store {
        match self {
            Self::Sqlite(dir) => Store::open(&dir.path().join("s.db")).unwrap(),
            Self::Postgres(server) => {
                let url = PostgresUrl::parse(&server.url(), None).unwrap();
                // The client has a runtime of its own.
                std::thread::spawn(move || Store::connect(&url)).join().unwrap().unwrap()
            }
        }
    }

    /// As if whoever holds runs were gone.
    pub(crate) async fn expire(&self, store: &Store) {
        match self {
            Self::Sqlite(_) => drop(store.adopt().await.unwrap()),
            Self::Postgres(_) => self.sql("UPDATE runs SET lease = 0"),
        }
    }

    /// A number, by another program than ours.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        match self {
            Self::Sqlite(dir) => {
                let file = rusqlite::Connection::open(dir.path().join("s.db")).unwrap();
                file.query_row(sql, [], |row| row.get(0)).unwrap()
            }
            Self::Postgres(server) => {
                let mut psql = std::process::Command::new("psql");
                psql.args(["-qXtA", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(server.url());
                let ran = psql.output().unwrap();
                assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
                String::from_utf8(ran.stdout).unwrap().trim().parse().unwrap()
            }
        }
    }

    pub(crate) fn sql(&self, text: &str) {
        let Self::Postgres(server) = self else { panic!("a file") };
        let mut psql = std::process::Command::new("psql");
        psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-c", text]).arg(server.url());
        let ran = psql.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    pub(crate) fn stop(&mut self) {
        let Self::Postgres(server) = self else { panic!("a file") };
        server.stop();
    }

    pub(crate) fn start(&mut self) {
        let Self::Postgres(server) = self else { panic!("a file") };
        server.start();
    }
}
