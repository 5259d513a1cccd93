//! Why GitHub gave no answer, or a refusal: about which repository, what was asked, and what to
//! do next.

use std::time::Duration;

/// Characters kept of a message that GitHub wrote.
const MESSAGE: usize = 300;

/// A request that came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("github: {repository}: {asked}: {problem}")]
pub struct GithubError {
    /// `owner/name`, or what else was spoken of.
    pub repository: String,
    /// What was asked for, in words.
    pub asked: String,
    /// What went wrong.
    pub problem: Problem,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// GitHub refused; asking again changes nothing.
    #[error("{status} {message}; {hint}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// GitHub's message, shortened and without control characters.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Too much was asked; ask again after the wait.
    #[error("{limit}; ask again in {} s", wait.as_secs())]
    Limited {
        /// Which limit.
        limit: Limit,
        /// How long to wait.
        wait: Duration,
    },
    /// No answer that counts, after all attempts; it may pass.
    #[error(
        "no answer in {attempts} attempts: {reason}; is the API's address right, and GitHub up?"
    )]
    Unavailable {
        /// How often it was tried.
        attempts: u32,
        /// The last reason.
        reason: String,
    },
    /// The answer is not what GitHub's documentation says.
    #[error("the answer cannot be used: {0}")]
    Unreadable(String),
    /// Something on our side stands in the way.
    #[error("{0}")]
    Ours(String),
}

/// Which limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// The requests of the hour are used up.
    Primary,
    /// GitHub wants a pause: too many requests at once, or too much that was made.
    Secondary,
    /// What is left of the hour is kept for the reports of runs.
    Reserve,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Primary => "the hour's requests are used up",
            Self::Secondary => "github asks for a pause (secondary rate limit)",
            Self::Reserve => "what is left of the hour's requests is kept for reports",
        })
    }
}

impl GithubError {
    /// How long to wait before asking again, where a limit says so.
    pub fn wait(&self) -> Option<Duration> {
        match self.problem {
            Problem::Limited { wait, .. } => Some(wait),
            _ => None,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        matches!(self.problem, Problem::Limited { .. } | Problem::Unavailable { .. })
    }

    /// The status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self.problem {
            Problem::Refused { status, .. } => Some(status),
            _ => None,
        }
    }
}

/// A text of somebody else's, fit for one line of ours.
pub(crate) fn tame(text: &str) -> String {
    let text = text.trim();
    let mut tamed: String =
        text.chars().take(MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MESSAGE).is_some() {
        tamed.push('…');
    }
    tamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_and_what_it_says() {
        let error = |problem| GithubError {
            repository: "octo/car".to_owned(),
            asked: "list tags".to_owned(),
            problem,
        };
        let limited =
            error(Problem::Limited { limit: Limit::Reserve, wait: Duration::from_secs(90) });
        assert!(limited.may_pass());
        assert_eq!(limited.wait(), Some(Duration::from_secs(90)));
        assert_eq!(
            limited.to_string(),
            "github: octo/car: list tags: what is left of the hour's requests is kept for \
             reports; ask again in 90 s"
        );
        let refused = error(Problem::Refused {
            status: 403,
            message: tame("no\u{1b}[31m\nway"),
            hint: "ask".to_owned(),
        });
        assert!(!refused.may_pass() && refused.wait().is_none());
        assert_eq!(refused.status(), Some(403));
        assert_eq!(refused.to_string(), "github: octo/car: list tags: 403 no [31m way; ask");
        assert_eq!(tame(&"x".repeat(301)).chars().count(), 301);
    }
}
