//! One task for each channel: takes the oldest delivery, tries, and says `ack` or `later`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{Again, End, Failure, Outbox, OutboxError, Pending, notifier::Opened, outbox};

/// How often a courier looks by itself, should nobody wake it.
const LOOK: Duration = Duration::from_secs(5);
/// Longest time for one try; above the limits of each way, so that their words come first.
const TRY_LIMIT: Duration = Duration::from_secs(45);
/// Longest time for a call of the outbox.
const OUTBOX_LIMIT: Duration = Duration::from_secs(30);

/// What a channel did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Deliveries that arrived.
    pub delivered: u64,
    /// Tries that failed.
    pub failed_tries: u64,
    /// Deliveries that were given up.
    pub given_up: u64,
    /// Deliveries that were dropped because too many waited.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    delivered: AtomicU64,
    failed_tries: AtomicU64,
    given_up: AtomicU64,
    dropped: AtomicU64,
}

/// The running couriers. Dropping it ends them at once; what they did not acknowledge is tried
/// again after the next start.
#[derive(Debug)]
pub struct Couriers {
    tasks: JoinSet<()>,
    wake: BTreeMap<String, (Arc<Notify>, Arc<Counters>)>,
    stop: watch::Sender<bool>,
}

impl Couriers {
    pub(crate) fn start<O: Outbox>(channels: Vec<Opened>, outbox: &Arc<O>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut couriers = Self { tasks: JoinSet::new(), wake: BTreeMap::new(), stop };
        for channel in channels {
            let wake = Arc::new(Notify::new());
            let counters = Arc::new(Counters::default());
            let name = channel.config.name.clone();
            couriers.wake.insert(name, (wake.clone(), counters.clone()));
            let (outbox, stopped) = (outbox.clone(), stopped.clone());
            let courier = Courier { channel, outbox, wake, counters, stopped };
            couriers.tasks.spawn(courier.run());
        }
        couriers
    }

    /// There is something new in the outbox.
    pub fn wake(&self) {
        self.wake.values().for_each(|(wake, _)| wake.notify_one());
    }

    /// Channel → what it did.
    pub fn stats(&self) -> BTreeMap<String, Stats> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = self.wake.iter().map(|(name, (_, counters))| {
            let stats = Stats {
                delivered: read(&counters.delivered),
                failed_tries: read(&counters.failed_tries),
                given_up: read(&counters.given_up),
                dropped: read(&counters.dropped),
            };
            (name.clone(), stats)
        });
        stats.collect()
    }

    /// Lets tries that are under way end, for as long as this, and stops.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(grace, ended).await;
    }
}

struct Courier<O> {
    channel: Opened,
    outbox: Arc<O>,
    wake: Arc<Notify>,
    counters: Arc<Counters>,
    stopped: watch::Receiver<bool>,
}

impl<O: Outbox> Courier<O> {
    async fn run(mut self) {
        while !*self.stopped.borrow() {
            let wait = match self.round().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(channel = self.channel.config.name, %error,
                        "notifications wait for the outbox");
                    LOOK
                }
            };
            if wait.is_zero() {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
                _ = self.stopped.wait_for(|stop| *stop) => {}
            }
        }
        self.channel.close().await;
    }

    /// Deals with the oldest delivery; gives the time until it is worth while to look again.
    async fn round(&mut self) -> Result<Duration, OutboxError> {
        let name = self.channel.config.name.clone();
        let dropped = limited(self.outbox.shed(&name, self.channel.config.queue)).await?;
        if dropped > 0 {
            self.counters.dropped.fetch_add(dropped, Ordering::Relaxed);
            tracing::warn!(
                channel = name,
                dropped,
                queue = self.channel.config.queue,
                "dropped the oldest notifications of channel {name}: too many wait"
            );
        }
        let Some(pending) = limited(self.outbox.next(&name)).await? else { return Ok(LOOK) };
        let now = Timestamp::now();
        if let Some(due) = pending.due.filter(|due| *due > now) {
            let wait = Duration::try_from(due.duration_since(now)).unwrap_or(LOOK);
            return Ok(wait.min(LOOK));
        }
        self.attempt(&name, &pending, now).await?;
        Ok(Duration::ZERO)
    }

    async fn attempt(
        &mut self,
        name: &str,
        pending: &Pending,
        now: Timestamp,
    ) -> Result<(), OutboxError> {
        let Pending { event, attempts, first_try, .. } = pending;
        let retry = self.channel.config.retry;
        let (id, first) = (&event.id, first_try.unwrap_or(now));
        if *attempts >= retry.attempts {
            // Ended by a crash in the last try, or by fewer tries in the configuration.
            return self.give_up(name, pending, "no try is left").await;
        }
        let tries = attempts + 1;
        limited(self.outbox.later(name, id, tries, first, now)).await?;
        let answer = timeout(TRY_LIMIT, self.channel.deliver(event, now.as_second())).await;
        let answer = answer.unwrap_or_else(|_| Err(Failure::later("no end in time")));
        let Failure { why, again } = match answer {
            Ok(()) => {
                self.counters.delivered.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(channel = name, event.id = %id, "told {name} of {}", event.kind().name());
                return limited(self.outbox.ack(name, id, &End::Delivered)).await;
            }
            Err(failure) => failure,
        };
        self.counters.failed_tries.fetch_add(1, Ordering::Relaxed);
        let now = Timestamp::now();
        let due = match again {
            Again::Never => None,
            Again::Later => retry.again(tries, first, now, None, fastrand::f64()),
            Again::After(asked) => retry.again(tries, first, now, Some(asked), fastrand::f64()),
        };
        let Some(due) = due else { return self.give_up(name, pending, &why).await };
        tracing::warn!(channel = name, event.id = %id, tries, %due, why,
            "channel {name} was not told, trying again");
        limited(self.outbox.later(name, id, tries, first, due)).await
    }

    async fn give_up(&self, name: &str, pending: &Pending, why: &str) -> Result<(), OutboxError> {
        self.counters.given_up.fetch_add(1, Ordering::Relaxed);
        let event = &pending.event;
        tracing::error!(channel = name, event.id = %event.id, event.kind = event.kind().name(),
            receiver = self.channel.shown(), why, "gave up telling channel {name}");
        limited(self.outbox.ack(name, &event.id, &outbox::End::GivenUp(why.to_owned()))).await
    }
}

async fn limited<T>(call: impl Future<Output = Result<T, OutboxError>>) -> Result<T, OutboxError> {
    let call = timeout(OUTBOX_LIMIT, call).await;
    call.unwrap_or_else(|_| Err(OutboxError("no answer in time".into())))
}
