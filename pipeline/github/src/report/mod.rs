//! Telling GitHub how a run goes: a check run for each step, one status of the commit, a
//! deployment for each group of cars, and a section in the release's notes.
//!
//! Each call may be made again at any time, after a crash at any point: what was made before is
//! found by its mark and brought up to date, and nothing is made twice. Nothing goes backwards: a
//! step that is finished is not shown as running again. One process at a time reports a run.

mod check;
mod deployment;
mod notes;
mod release;
mod status;
mod step;

use pitlane_release::{Commit, ReleaseTag, RepoName};
use serde::de::DeserializeOwned;

pub use deployment::{Deployment, DeploymentState};
pub use notes::{NotesError, ReleaseNotes, Verify, splice};
pub use status::RunState;
pub use step::{Annotation, Conclusion, Level, Step, StepState};

use crate::{call::Call, client::Client, error::GithubError};

/// How often something is looked for and made, when the answer to making it was lost.
const TRIES: u32 = 3;
/// Pages of a hundred that are looked through for what was made before. GitHub keeps at most a
/// thousand check runs of a name, and a thousand statuses of a context.
const MOST_PAGES: usize = 10;

/// The run that is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose.
    pub repository: RepoName,
    /// The commit that is released.
    pub commit: Commit,
    /// Its tag.
    pub tag: ReleaseTag,
    /// The pipeline's name; part of the names that people see.
    pub pipeline: String,
    /// The run's id.
    pub id: String,
    /// 1, and one more each time that the run is tried again. A new attempt has reports of its
    /// own.
    pub attempt: u32,
    /// Where people can look at the run.
    pub url: Option<String>,
}

impl Run {
    /// What marks everything of this attempt.
    fn mark(&self) -> String {
        format!("{} #{}", self.id, self.attempt)
    }
}

/// What a report did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Made,
    /// It was there, and is up to date now.
    Changed,
    /// It was there as it should be, or further.
    AsItWas,
    /// This is not for the credentials that we have: only Apps write check runs.
    NeedsApp,
}

/// A text of at most `most` characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A text as a value in a query.
fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

impl Client {
    /// The first entry of a list of pages that `pick` takes.
    async fn find<L: DeserializeOwned, T>(
        &self,
        mut call: Call<'_>,
        mut pick: impl FnMut(L) -> Option<T>,
    ) -> Result<Option<T>, GithubError> {
        for _ in 0..MOST_PAGES {
            let raw = self.ask(&call).await?;
            if let Some(found) = pick(call.parse(&raw)?) {
                return Ok(Some(found));
            }
            let Some(next) = raw.next() else { break };
            let next = self.inner().address.local(next);
            call.path = next.map_err(|reason| call.unreadable(reason))?;
        }
        Ok(None)
    }
}
