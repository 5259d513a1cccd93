//! Why there is no answer, or none that a promotion could be made of.

use std::path::PathBuf;

use crate::{EditRefusal, ForgeError, GitFailure};

/// Why nothing was promoted.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The repository or the branch cannot be copied.
    #[error("cloning branch {branch} of the GitOps repository {url}: {failure}")]
    Clone {
        /// The repository.
        url: String,
        /// The branch.
        branch: String,
        /// What git said.
        failure: GitFailure,
    },
    /// git failed on the copy.
    #[error(transparent)]
    Git(#[from] GitFailure),
    /// The branch has no commit.
    #[error("the branch has no commit; push one with the file in it")]
    NoBranch,
    /// The file is not edited.
    #[error("{}: {refusal}", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// Why.
        refusal: EditRefusal,
    },
    /// Somebody else was faster every time.
    #[error("others pushed to branch {branch} first, {attempts} times in a row; try again later")]
    Raced {
        /// The branch.
        branch: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The server does not take the push.
    #[error(
        "the GitOps repository does not take the push to {branch}: {said}; is the key allowed to \
         write, and the branch not protected (`how: pullRequest`)?"
    )]
    Rejected {
        /// The branch.
        branch: String,
        /// What git said.
        said: String,
    },
    /// The forge did not answer.
    #[error(transparent)]
    Forge(#[from] ForgeError),
    /// Who confirmed or approved what cannot be told.
    #[error("who confirmed and approved releases cannot be told: {0}")]
    Evidence(String),
}

impl PromoteError {
    /// Whether the same may succeed later without anybody changing anything: git could not do its
    /// work, or others were faster. What was refused stays refused.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Clone { .. } | Self::Git(_) | Self::Raced { .. } | Self::Forge(_) => true,
            Self::NoBranch | Self::Refused { .. } | Self::Rejected { .. } | Self::Evidence(_) => {
                false
            }
        }
    }

    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Clone { .. } => "gitops-clone",
            Self::Git(_) => "gitops-git",
            Self::NoBranch => "gitops-branch",
            Self::Refused { refusal, .. } => refusal.code(),
            Self::Raced { .. } => "gitops-raced",
            Self::Rejected { .. } => "gitops-rejected",
            Self::Forge(_) => "gitops-forge",
            Self::Evidence(_) => "gitops-evidence",
        }
    }
}
