//! The service: a signed push of a tag comes in, is durable before it is answered, and becomes
//! one run whose steps are journalled, so that a killed service goes on after the last finished
//! step.
//!
//! ```text
//! POST /webhook ─ webhook.rs ─ event.rs ─▶ store/inbox.rs (one transaction, group commit) ─▶ 202
//!                                              │ run, counter, tag
//!                     executor.rs ◀────────────┘  one run at a time per pipeline
//!                         │ crate::lane::Lane        store/journal.rs: fenced writes
//!                     api.rs / client.rs: what the runs did, retry, rollback
//! ```
//!
//! # Modules
//! - in: [`webhook`] (with `request`), [`event`], [`route`], [`secret`], [`listen`]
//! - kept: [`store`]
//! - done: [`executor`] (with `traces`)
//! - told: [`api`] (with [`local`], `cars`, `events`, [`progress`], `metrics`, `openapi`),
//!   [`client`], [`render`], [`reply`]
//! - for a plain git server: [`hook`]; for GitHub: `looking` (at tags), `reporting`
//! - others are told of changes: `follow`, with `reporting`, `telling` (chats, webhooks, MQTT) and
//!   `advancing` (releases through environments)
//! - let go of: `keeping` (old runs' files, the embedded registry's garbage)
//! - measured: [`bench`]

mod advancing;
pub mod api;
pub mod bench;
mod cars;
pub mod client;
pub mod event;
mod events;
pub mod executor;
mod follow;
pub mod hook;
mod keeping;
pub mod listen;
pub mod local;
mod looking;
mod metrics;
mod openapi;
pub mod progress;
pub mod render;
pub mod reply;
mod reporting;
mod request;
pub mod secret;
mod telling;
mod traces;
pub mod webhook;

#[cfg(test)]
mod tests;

pub use pitlane_runs::{route, store};

pub use advancing::Advancing;
pub use api::{ApiState, Environments};
pub use cars::CarTokens;
pub use client::Client;
pub use executor::{Executor, ExecutorConfig, holder};
pub use follow::follow;
pub use keeping::{Keep, Keeping};
pub use local::{LocalModels, ReleaseRequest};
pub use looking::Watch;
pub use progress::Progress;
pub use reporting::Reporting;
pub use route::{Route, Routes};
pub use secret::{Secrets, Token};
pub use store::Store;
pub use telling::Telling;
pub use webhook::Intake;

/// The `OpenAPI` document of API and webhook.
pub fn openapi() -> serde_json::Value {
    let api: Vec<_> = api::endpoints().into_iter().map(|(one, _)| one).collect();
    openapi::document(&api, &webhook::endpoints())
}
