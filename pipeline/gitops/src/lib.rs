//! Promotion by GitOps: a release becomes one scalar in somebody's repository (`docs/gitops.md`).
//!
//! # Modules
//! - what is said: [`Promote`] (the pipeline file's part), [`Target`] (which scalar of which file),
//!   [`Candidate`] (the release)
//! - pure: editing with proof ([`Target::set`]), what people did to a file ([`Standing`]), the order
//!   of environments ([`Situation`])
//! - acting: [`Promoter`] by [`Forge`] and git, with [`Evidence`] from whoever knows cars and people
//!
//! There is no state but the repository itself: what was promoted is read from the trailers of
//! commits, so that nothing can disagree with what people see.

mod advance;
mod body;
mod candidate;
mod config;
mod decide;
mod error;
mod forge;
mod form;
mod git;
mod progress;
mod promote;
mod propose;
mod record;
mod refusal;
mod standing;
mod target;
mod yaml;

pub use advance::{Evidence, Known};
pub use candidate::Candidate;
pub use config::{Approval, Author, Environment, How, Promote};
pub use decide::{Approved, Confirmed, Decision, Deployed, Offer, Situation, WaitsFor};
pub use error::PromoteError;
pub use forge::{Forge, ForgeError, Login, PlainGit, Proposal, PullRequest, PullState};
pub use form::Pin;
pub use git::GitFailure;
pub use progress::{FailedEnvironments, Progress, Promoted};
pub use promote::{Outcome, Promoter, Promotion};
pub use record::Record;
pub use refusal::EditRefusal;
pub use standing::{Held, Standing, Verdict};
pub use target::{Edited, Found, PAUSE, Target};
pub use yaml::MAX_FILE;
