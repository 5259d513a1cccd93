//! Follows what changes in the store, for those who tell others of it: one process at a time for
//! each, in order, again after a crash. What passes (a network) holds a follower up; what does not
//! is logged and passed over, so that one bad run never hides the next.

use std::{future::Future, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::store::{Changed, Store, StoreError};

/// How long a duty is held without being renewed (milliseconds).
const HOLD: i64 = 30_000;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// A replica that is not on duty asks this often whether it should be.
const STAND_BY: Duration = Duration::from_secs(3);
/// Changes that come quickly are read together.
const GATHER: Duration = Duration::from_millis(50);
/// Without any news the store is looked at this often; where others write it, too, more often.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_SHARED: Duration = Duration::from_millis(500);
/// Pauses after what may pass: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);
/// Longest that one change may take.
const LIMIT: Duration = Duration::from_mins(5);

/// Why a change could not be told of.
#[derive(Debug)]
pub struct Trouble {
    /// What happened.
    pub error: anyhow::Error,
    /// Whether it may pass; how long to wait at least.
    pub again: Option<Duration>,
}

impl Trouble {
    /// It may pass by itself.
    pub fn passes(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), again: Some(PAUSE) }
    }

    /// It stays until somebody does something.
    pub fn stays(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), again: None }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unknown { .. } | StoreError::Corrupt(_) | StoreError::Refused(_) => {
                Self::stays(error)
            }
            _ => Self::passes(error),
        }
    }
}

/// One who follows.
pub trait Follower: Send + 'static {
    /// Its name in the store.
    const NAME: &'static str;

    /// It is this process's turn from now on.
    fn begin(&mut self) -> impl Future<Output = Result<(), Trouble>> + Send {
        async { Ok(()) }
    }

    /// Something has changed. Called again with the same after a crash.
    fn see(&mut self, what: &Changed) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Nothing has changed for a while; called at every look.
    fn idle(&mut self) -> impl Future<Output = Result<(), Trouble>> + Send {
        async { Ok(()) }
    }

    /// It is another's turn, or the service stops.
    fn end(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Follows until the service stops; `holder` is this process.
pub async fn follow<F: Follower>(
    store: Store,
    holder: String,
    mut follower: F,
    stopping: watch::Receiver<bool>,
) {
    let mut stop = stopping.clone();
    let work = async {
        loop {
            if on_duty::<F>(&store, &holder).await {
                if let Err(trouble) = turn(&store, &holder, &mut follower).await {
                    tracing::warn!(follower = F::NAME, "{:#}", trouble.error);
                }
                follower.end().await;
            }
            sleep(STAND_BY).await;
        }
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    follower.end().await;
    drop(store.off_duty(F::NAME, &holder).await);
}

async fn on_duty<F: Follower>(store: &Store, holder: &str) -> bool {
    match store.on_duty(F::NAME, holder, HOLD).await {
        Ok(on) => on,
        Err(error) => {
            tracing::warn!(follower = F::NAME, %error, "not known whose turn it is");
            false
        }
    }
}

/// As long as it is this process's turn.
async fn turn<F: Follower>(store: &Store, holder: &str, follower: &mut F) -> Result<(), Trouble> {
    store.follow(F::NAME).await?;
    follower.begin().await?;
    let mut written = store.written();
    let look = if store.is_shared() { LOOK_SHARED } else { LOOK };
    let mut renewed = std::time::Instant::now();
    let mut pause = PAUSE;
    loop {
        if renewed.elapsed() > RENEW {
            if !on_duty::<F>(store, holder).await {
                return Ok(());
            }
            renewed = std::time::Instant::now();
        }
        written.mark_unchanged();
        let changes = store.changes(F::NAME).await?;
        if changes.is_empty() {
            if let Err(trouble) = follower.idle().await {
                tracing::warn!(follower = F::NAME, "{:#}", trouble.error);
            }
            let _ = timeout(look, written.changed()).await;
            sleep(GATHER).await;
            continue;
        }
        let mut come_to = None;
        for change in changes {
            let seen = match &change.what {
                Some(what) => timeout(LIMIT, follower.see(what)).await.unwrap_or_else(|_| {
                    let limit = LIMIT.as_secs();
                    Err(Trouble::stays(anyhow::anyhow!("{what:?}: not told within {limit} s")))
                }),
                None => Ok(()),
            };
            match seen {
                Ok(()) => pause = PAUSE,
                Err(Trouble { error, again: Some(least) }) => {
                    let wait = pause.max(least);
                    let wait_ms = wait.as_millis();
                    tracing::warn!(follower = F::NAME, wait_ms, "tried again: {error:#}");
                    pause = pause.saturating_mul(2).min(LONGEST);
                    keep(store, F::NAME, come_to.take()).await?;
                    wait_on_duty::<F>(store, holder, wait).await;
                    break;
                }
                Err(Trouble { error, again: None }) => {
                    tracing::error!(follower = F::NAME, "passed over: {error:#}");
                }
            }
            come_to = Some(change.seq);
            // Kept now and then, so that a crash repeats little.
            if renewed.elapsed() > RENEW {
                break;
            }
        }
        keep(store, F::NAME, come_to).await?;
    }
}

async fn keep(store: &Store, follower: &str, come_to: Option<i64>) -> Result<(), StoreError> {
    match come_to {
        Some(seq) => store.followed(follower, seq).await,
        None => Ok(()),
    }
}

/// Waits without losing the duty.
async fn wait_on_duty<F: Follower>(store: &Store, holder: &str, wait: Duration) {
    let mut left = wait;
    while !left.is_zero() {
        let now = left.min(RENEW);
        sleep(now).await;
        left -= now;
        if !left.is_zero() {
            on_duty::<F>(store, holder).await;
        }
    }
}
