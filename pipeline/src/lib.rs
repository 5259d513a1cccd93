//! Makes releases: from a git tag to signed images, their evidence and a GitOps commit.
//!
//! # Modules
//! - what to make: [`config`] (the pipeline file)
//! - the lane: [`lane`] (steps and their order), [`steps`] (what each does)
//! - making: [`checkout`], [`model`], [`assemble`], [`prove`], [`push`], [`attest`], [`sign`];
//!   promotion is the crate `pitlane-gitops`
//! - evidence beyond laps: [`sbom`], [`model_signing`]; afterwards: [`claim`],
//!   [`reproduce`]
//! - serving: [`service`] (webhook, store, runs), [`registry`] (embedded OCI registry)
//! - [`cli`]: the commands

pub mod assemble;
pub mod attest;
pub mod checkout;
pub mod claim;
pub mod cli;
pub mod config;
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

pub use pitlane_runs::lane;
