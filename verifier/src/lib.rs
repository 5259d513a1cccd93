//! Admits releases: on the car, at a desk, and in a cluster.
//!
//! # Modules
//! - [`keys`]: policies and keys from files
//! - [`report`]: a verdict for people and for programs
//! - [`device`]: content store, unpacking, slots, and the container engine without a daemon
//! - [`agent`]: watches the GitOps repository, admits, starts, confirms
//! - [`judge`]: what all policies say about an image
//! - [`webhook`]: Kubernetes' admission webhooks
//! - [`cli`]: the commands

pub mod agent;
pub mod cli;
pub mod device;
pub mod judge;
pub mod keys;
pub mod report;
pub mod webhook;
