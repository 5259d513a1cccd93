//! Admits releases: on the car, and at a desk.
//!
//! # Modules
//! - [`keys`]: policies from files, with their keys and trusted roots
//! - [`cases`]: images with the verdict that a policy should give
//! - [`report`]: a verdict for people and for programs
//! - [`device`]: content store, unpacking, slots, and the container engine without a daemon
//! - [`agent`]: watches the GitOps repository, admits, starts, confirms
//! - [`cli`]: the commands

pub mod agent;
pub mod cases;
pub mod cli;
pub mod device;
pub mod keys;
pub mod report;
