//! Gates of a pipeline: programs that look at a car repository before it becomes a release, and
//! the rules by which their reports say yes or no.
//!
//! A gate runs apart from keys and tokens, in a [`Sandbox`]: [`sandbox::Jail`] starts
//! `pitlane jail`, [`sandbox::Plain`] is an ordinary child process for tests. It writes a report
//! ([`report`]: SARIF, `JUnit`, CycloneDX, vulnerability scans), which [`decide()`] judges by
//! [`Rules`]; verdict and report become attestations ([`predicate`]).
//!
//! - [`config`]: a gate as the operator writes it.
//! - [`finding`], [`rules`], [`mod@decide`], [`predicate`]: pure; no I/O, no clock.
//! - [`report`]: parsers of what strangers' programs wrote; bounded, pure.
//! - [`scanners`]: how trivy and grype are called. [`secrets`]: a scanner of our own.
//! - [`run()`]: one gate, from its configuration to its outcome.
//!
//! A verdict is an answer, an error is none: without an answer there is no release.

pub mod config;
pub mod decide;
pub mod finding;
pub mod predicate;
pub mod report;
pub mod rules;
mod run;
pub mod sandbox;
pub mod scanners;
pub mod secrets;
mod text;

pub use config::{Gate, Gates};
pub use decide::{Outcome, Verdict, decide};
pub use finding::{Finding, Fix, Report, Severity};
pub use predicate::{Attestation, attestations};
pub use rules::Rules;
pub use run::{Context, GateError, GateRun, run};
pub use sandbox::Sandbox;
