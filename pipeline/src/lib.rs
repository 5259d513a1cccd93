//! Makes releases: from a git tag to signed images, their evidence and a GitOps commit.
//!
//! # Modules
//! - what to make: [`config`] (the pipeline file)
//! - the lane: [`lane`] (steps and their order), [`steps`] (what each does)
//! - making: [`checkout`] (with [`github`]), [`model`], [`assemble`], [`prove`], [`push`],
//!   [`attest`], [`sign`]; an image's root file system: `unpack`; promotion is the crate
//!   `pitlane-gitops`, with [`forge`]
//! - in a container engine ([`engine`]): [`mod@build`] (a Dockerfile), [`mod@convert`] (models of
//!   other frameworks)
//! - evidence beyond laps: [`sbom`], [`model_signing`]; afterwards: [`claim`],
//!   [`reproduce`]
//! - serving: [`service`] (webhook, store, runs), [`registry`] (embedded OCI registry),
//!   [`telemetry`] (traces)
//! - [`cli`]: the commands

pub mod assemble;
pub mod attest;
pub mod build;
pub mod checkout;
pub mod claim;
pub mod cli;
pub mod config;
pub mod convert;
mod dependencies;
pub mod engine;
pub mod forge;
pub mod github;
pub mod model;
pub mod model_signing;
pub mod prove;
pub mod push;
pub use pitlane_registry as registry;
pub mod reproduce;
pub mod sbom;
pub mod service;
pub mod sign;
pub mod steps;
pub mod telemetry;
mod unpack;

pub use pitlane_runs::lane;
