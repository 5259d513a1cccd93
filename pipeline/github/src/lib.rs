//! What Pitlane's service needs of GitHub, and of GitHub Enterprise Server.
//!
//! None of it is needed to release: webhooks and git do that, also from plain git servers. This is
//! what GitHub can do beyond: say what deliveries missed, vouch for signed tags, hand out tokens
//! for clones, and show people how a run goes.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pitlane_github::{App, Client, Credentials, Settings};
//! let key = std::path::Path::new("/etc/pitlane/github-app.pem");
//! let mut settings = Settings::new(Credentials::App(App::from_file(1234, key, None)?));
//! settings.address = "https://github.example.com/api/v3".parse()?;
//! let github = Client::new(settings)?;
//! let tag = github.resolve_tag(&"octo/car".parse()?, &"v1.0.0".parse()?).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//! - who and where: `address`, `credential`, `session`, `clone`
//! - asking: `call`, `client` (limits, repeats), `budget`, `transport`, `permission`, `error`
//! - tags: `tag` (one), `list` (all, by conditional requests), `reconcile` (what changed; pure)
//! - `delivery`: what hooks were sent, and sending it again
//! - `report`: check runs, status, deployments, release notes

mod address;
mod budget;
mod call;
mod client;
mod clone;
mod credential;
mod delivery;
mod error;
mod list;
mod permission;
mod pull;
mod reconcile;
mod report;
mod session;
mod tag;
mod transport;

pub use address::{AddressError, ApiAddress};
pub use client::{Client, Settings};
pub use clone::GitEnv;
pub use credential::{App, CredentialError, Credentials, Token};
pub use delivery::{Delivered, Delivery, Hook, undelivered};
pub use error::{GithubError, Limit, Problem};
pub use list::{TagList, TagWatch};
pub use pull::{NewPull, Pull, PullState};
pub use reconcile::{Change, Decision, KnownTag, ListedTag, reconcile};
pub use report::{
    Annotation, Conclusion, Deployment, DeploymentState, Level, NotesError, Outcome, ReleaseNotes,
    Run, RunState, Step, StepState, Verify, splice,
};
pub use tag::{ResolvedTag, SignatureSaid, TagObject, Unsigned};
pub use transport::Times;
