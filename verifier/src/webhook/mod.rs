//! Kubernetes' admission webhooks: only what the policies admit becomes a Pod.
//!
//! `/mutate` puts a digest where a tag is, once; `/validate` judges what then stands there. Both
//! fail closed: what cannot be decided is denied. `docs/admission.md`.
//!
//! - [`review`]: the question and the answer, as Kubernetes writes them
//! - [`pods`], [`image`]: which images an object names
//! - [`decide`]: which of them are looked at, and the answer for all
//! - [`court`], [`cache`], [`policies`]: one image, judged once, by the policies in use
//! - [`routes`], [`serve`], [`tls`], [`metrics`]: HTTP around it
//! - [`certs`]: an own authority, where no cert-manager is

pub mod cache;
pub mod certs;
pub mod court;
pub mod decide;
pub mod image;
pub mod metrics;
pub mod pods;
pub mod policies;
pub mod review;
pub mod routes;
pub mod serve;
pub mod tls;
