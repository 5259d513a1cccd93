//! A connection to `PostgreSQL` whose statements share their ways: one whose answer nobody waits
//! for goes along with the next whose answer somebody does. A write that asks ten things of a server
//! takes a few ways there and back, and those are most of its time.

use std::{cell::RefCell, future::Future, io, pin::Pin, sync::Arc, time::Duration};

use futures_util::future::{join, join_all};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{Client, Connection, Error, Row, Statement, types::ToSql};

use super::db::Param;

/// How long the server may take to hear that we go.
const GOODBYE: Duration = Duration::from_secs(1);

type Later = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A connection, driven by whoever waits for it.
pub(super) struct Wire {
    runtime: Runtime,
    client: Arc<Client>,
    driver: JoinHandle<Result<(), Error>>,
    later: RefCell<Vec<Later>>,
}

impl Wire {
    /// A runtime for [`Wire::new`].
    pub(super) fn runtime() -> io::Result<Runtime> {
        Builder::new_current_thread().enable_all().build()
    }

    /// A connection that was made on this runtime.
    pub(super) fn new<S, T>(runtime: Runtime, client: Client, connection: Connection<S, T>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let driver = runtime.spawn(connection);
        Self { runtime, client: Arc::new(client), driver, later: RefCell::default() }
    }

    /// Whether the server is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Makes a statement ready. What waits goes on waiting.
    pub(super) fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        self.runtime.block_on(self.client.prepare(sql))
    }

    /// Sends what waits and this, in order; the first error is told.
    fn now<T>(&self, last: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let later = self.later.take();
        // Both are polled in order, and a request is on its way when it was polled once.
        let (before, answer) = self.runtime.block_on(join(join_all(later), last));
        before.into_iter().collect::<Result<(), _>>()?;
        answer
    }

    /// Rows of a statement.
    pub(super) fn query(&self, what: &Statement, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        self.now(self.client.query(what, &values(params)))
    }

    /// How many rows a statement changed.
    pub(super) fn execute(&self, what: &Statement, params: &[Param<'_>]) -> Result<u64, Error> {
        self.now(self.client.execute(what, &values(params)))
    }

    /// A text of statements without parameters.
    pub(super) fn batch(&self, sql: &str) -> Result<(), Error> {
        self.now(self.client.batch_execute(sql))
    }

    /// Sends what waits.
    pub(super) fn flush(&self) -> Result<(), Error> {
        let waits = !self.later.borrow().is_empty();
        if waits { self.now(async { Ok(()) }) } else { Ok(()) }
    }

    /// A statement that goes with the next; its error is that one's.
    pub(super) fn execute_later(&self, what: Statement, owned: Vec<Owned>) {
        let client = Arc::clone(&self.client);
        self.later.borrow_mut().push(Box::pin(async move {
            let params: Vec<_> = owned.iter().map(Owned::param).collect();
            client.execute(&what, &values(&params)).await.map(drop)
        }));
    }

    /// The same for a text of statements.
    pub(super) fn batch_later(&self, sql: &'static str) {
        let client = Arc::clone(&self.client);
        self.later.borrow_mut().push(Box::pin(async move { client.batch_execute(sql).await }));
    }

    /// Says goodbye. Not within an asynchronous task.
    pub(super) fn close(self) {
        let Self { runtime, client, driver, later } = self;
        drop((later, client));
        drop(runtime.block_on(async { timeout(GOODBYE, driver).await }));
    }
}

fn values<'v>(params: &'v [Param<'v>]) -> Vec<&'v (dyn ToSql + Sync)> {
    params.iter().map(|one| one as _).collect()
}

/// A parameter that waits.
pub(super) enum Owned {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Owned {
    /// All of a statement's.
    pub(super) fn all(params: &[Param<'_>]) -> Vec<Self> {
        params.iter().map(Self::of).collect()
    }

    fn of(param: &Param<'_>) -> Self {
        match *param {
            Param::Null => Self::Null,
            Param::Int(value) => Self::Int(value),
            Param::Text(text) => Self::Text(text.to_owned()),
            Param::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }

    pub(super) fn param(&self) -> Param<'_> {
        match self {
            Self::Null => Param::Null,
            Self::Int(value) => Param::Int(*value),
            Self::Text(text) => Param::Text(text),
            Self::Blob(bytes) => Param::Blob(bytes),
        }
    }
}
