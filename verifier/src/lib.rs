//! Admits releases: on the car, at a desk, and in a cluster.
//!
//! # Modules
//! - [`cases`]: images with the verdict that a policy should give
//! - [`report`]: a verdict for people and for programs
//! - [`device`]: content store, unpacking, slots, and the container engine without a daemon
//! - [`agent`]: watches the GitOps repository, admits, starts, confirms
//! - [`judge`]: what all policies say about an image
//! - [`webhook`]: Kubernetes' admission webhooks
//! - [`cli`]: the commands

pub mod agent;
pub mod cases;
pub mod cli;
pub mod device;
pub mod judge;
pub mod report;
pub mod webhook;
