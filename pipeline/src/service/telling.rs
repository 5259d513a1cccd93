//! Tells chats, webhooks and brokers what happened: facts of what changed go into the store's
//! outbox, once, and `pitlane-notify` takes them from there to each channel.

mod facts;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use pitlane_notify::{
    Couriers, End, Event, EventId, Notifier, Notify, Outbox, OutboxError, Pending,
};

use super::{
    follow::{Follower, Trouble},
    store::{Changed, Fact, Store, StoreError},
};

/// How long a delivery may still take when the service stops.
const GRACE: Duration = Duration::from_secs(5);

/// Who is told, by the configuration.
#[derive(Debug)]
pub struct Telling {
    store: Store,
    config: Notify,
    /// Opened for each turn, so that changed secrets are read again.
    open: Option<(Notifier, Couriers)>,
}

impl Telling {
    /// Checks the section and opens every channel once, so that what is missing shows at the
    /// start.
    pub fn new(store: Store, config: Notify) -> anyhow::Result<Self> {
        Notifier::open(&config)?;
        Ok(Self { store, config, open: None })
    }

    async fn put(&self, events: Vec<Event>) -> Result<(), Trouble> {
        let Some((notifier, couriers)) = &self.open else { return Ok(()) };
        let facts = events.into_iter().map(|event| {
            let channels = notifier.channels_for(&event).into_iter().map(str::to_owned).collect();
            let text = serde_json::to_string(&event).map_err(Trouble::stays)?;
            Ok(Fact { id: event.id.to_string(), event: text, channels })
        });
        let facts = facts.collect::<Result<Vec<_>, Trouble>>()?;
        if self.store.tell(facts).await? > 0 {
            couriers.wake();
        }
        Ok(())
    }
}

impl Follower for Telling {
    const NAME: &'static str = "people";

    async fn begin(&mut self) -> Result<(), Trouble> {
        let open = || Notifier::open(&self.config).map_err(Trouble::stays);
        let (notifier, started) = (open()?, open()?);
        let names = notifier.names().into_iter().map(str::to_owned).collect();
        self.store.keep_channels(names).await?;
        let couriers = started.start(&Arc::new(StoreOutbox(self.store.clone())));
        self.open = Some((notifier, couriers));
        Ok(())
    }

    async fn see(&mut self, what: &Changed) -> Result<(), Trouble> {
        let events = match what {
            Changed::Run(id) => {
                let (run, steps) = (self.store.run(id).await?, self.store.steps(id).await?);
                facts::of_run(&run, &steps, &self.store.places(id).await?)
            }
            Changed::Alert(alert) => facts::of_alert(alert).into_iter().collect(),
            Changed::Car(pipeline, car) => {
                let cars = self.store.cars(Some((pipeline.clone(), car.clone()))).await?;
                cars.iter().filter_map(facts::of_car).collect()
            }
            Changed::Approval(_) => Vec::new(),
        };
        self.put(events).await
    }

    async fn end(&mut self) {
        if let Some((_, couriers)) = self.open.take() {
            couriers.stop(GRACE).await;
        }
    }
}

/// The store's outbox, as couriers see it.
struct StoreOutbox(Store);

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: StoreError) -> OutboxError {
    OutboxError(error.to_string())
}

impl Outbox for StoreOutbox {
    async fn next(&self, channel: &str) -> Result<Option<Pending>, OutboxError> {
        let Some(waiting) = self.0.waiting(channel).await.map_err(failed)? else {
            return Ok(None);
        };
        let time = |ms: i64| {
            Timestamp::from_millisecond(ms).map_err(|error| OutboxError(error.to_string()))
        };
        Ok(Some(Pending {
            event: serde_json::from_str(&waiting.event).map_err(|e| OutboxError(e.to_string()))?,
            attempts: waiting.attempts,
            first_try: waiting.first_try.map(time).transpose()?,
            due: waiting.due.map(time).transpose()?,
        }))
    }

    async fn ack(&self, channel: &str, id: &EventId, end: &End) -> Result<(), OutboxError> {
        if let End::GivenUp(why) = end {
            tracing::error!(channel, event = %id, "not told: {why}");
        }
        self.0.told(channel, id.as_str()).await.map_err(failed)
    }

    async fn later(
        &self,
        channel: &str,
        id: &EventId,
        attempts: u32,
        first_try: Timestamp,
        due: Timestamp,
    ) -> Result<(), OutboxError> {
        let (first, due) = (first_try.as_millisecond(), due.as_millisecond());
        self.0.tell_later(channel, id.as_str(), attempts, first, due).await.map_err(failed)
    }

    async fn shed(&self, channel: &str, keep: usize) -> Result<u64, OutboxError> {
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        self.0.shed(channel, keep).await.map_err(failed)
    }
}
