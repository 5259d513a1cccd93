//! Tells people and programs what happened: Slack-compatible chats, webhooks, MQTT brokers.
//!
//! The service makes an [`Event`], asks [`Notifier::channels_for`] who wants it, and keeps one
//! pending delivery for each of those channels in an [`Outbox`]: in its own store, in the
//! transaction that made the event true. [`Notifier::start`] runs one courier for each channel,
//! which takes the oldest delivery, tries, and says `ack` or `later`. So what was kept is told at
//! least once, in order within a channel, and a channel that hangs holds up nobody else.
//!
//! - [`event`]: what happened; [`Event::id`] is the same whenever the same fact is told.
//! - [`config`]: the section `notify:`; [`filter`]: which channel gets what.
//! - [`slack`], [`cloud_event`], [`mqtt`]: how an event looks in each, pure.
//! - `headline`, `text`: our words and the values of others, kept apart until they are escaped.
//! - `http`, `mqtt::session`: talking, with bounds. [`retry`]: when to try again, pure.
//! - [`outbox`]: the seam to the store. `courier`: one task for each channel.
//! - `secret`: addresses and keys that no log shows.

pub mod cloud_event;
pub mod config;
mod courier;
pub mod event;
pub mod filter;
mod headline;
mod http;
pub mod mqtt;
mod notifier;
pub mod outbox;
pub mod retry;
mod secret;
pub mod slack;
mod text;

pub use config::Notify;
pub use courier::{Couriers, Stats};
pub use event::{About, Event, EventId, Kind, Link, Severity, What};
pub use notifier::{Notifier, OpenError};
pub use outbox::{End, MemoryOutbox, Outbox, OutboxError, Pending};

/// Why one try to deliver failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// For the log: no secret, one line.
    pub(crate) why: String,
    /// Whether another try may do better.
    pub(crate) again: Again,
}

/// Whether another try may do better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Again {
    /// The receiver has read it and wants none of it.
    Never,
    /// It may pass.
    Later,
    /// It may pass, and the receiver said when.
    After(std::time::Duration),
}

impl Failure {
    pub(crate) fn never(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: Again::Never }
    }

    pub(crate) fn later(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: Again::Later }
    }
}
