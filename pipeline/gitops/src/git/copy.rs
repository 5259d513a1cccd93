//! `Copy`: a bare, shallow copy of a branch of somebody's repository.

use std::path::Path;

use super::{Git, GitFailure, run::failed};
use crate::Login;

/// Commits fetched at first.
const DEPTH: &str = "--depth=64";
/// Commits fetched when there was no promotion among the first.
const DEEPER: &str = "--depth=1024";
/// Larger files are not even fetched, where the server can leave them out.
const FILTER: &str = "--filter=blob:limit=1048577";

/// A bare copy of one branch.
#[derive(Debug)]
pub(crate) struct Copy {
    pub git: Git,
    /// The full name of the branch.
    pub branch: String,
    // Deletes the copy when it is dropped.
    _dir: tempfile::TempDir,
}

impl Copy {
    /// Copies a branch into a new directory below `dir`.
    pub(crate) async fn of(
        url: &str,
        branch: &str,
        dir: &Path,
        login: Login,
    ) -> Result<Self, GitFailure> {
        let temporary = tempfile::Builder::new().prefix("gitops-").tempdir_in(dir)?;
        let git = Git::new(url, temporary.path().to_owned(), login);
        let args = [
            // A path is copied over the same protocol as an address, and as shallow.
            "clone",
            "--quiet",
            "--bare",
            "--no-local",
            "--single-branch",
            "--no-tags",
            "--template=",
            DEPTH,
            FILTER,
            "--branch",
            branch,
            "--",
            url,
            ".",
        ];
        git.must(&args, b"").await?;
        Ok(Self { git, branch: format!("refs/heads/{branch}"), _dir: temporary })
    }

    /// Fetches what came since.
    pub(crate) async fn refresh(&self) -> Result<(), GitFailure> {
        let spec = format!("+{0}:{0}", self.branch);
        self.git.must(&["fetch", "--quiet", "--no-tags", "origin", &spec], b"").await?;
        Ok(())
    }

    /// Whether there is more history than was fetched.
    pub(super) fn is_cut(&self) -> bool {
        self.git.dir.join("shallow").is_file()
    }

    /// Fetches more of the history.
    pub(super) async fn deepen(&self) -> Result<(), GitFailure> {
        let spec = format!("+{0}:{0}", self.branch);
        let args = ["fetch", "--quiet", "--no-tags", DEEPER, "origin", &spec];
        self.git.must(&args, b"").await?;
        Ok(())
    }

    /// The commit of another branch, fetched no deeper than this one; none if there is none.
    pub(crate) async fn other(&self, branch: &str) -> Result<Option<String>, GitFailure> {
        let full = format!("refs/heads/{branch}");
        let listed = self.git.must(&["ls-remote", "origin", &full], b"").await?.text();
        // git matches the end of names; the whole name is wanted.
        let exact = listed.lines().find_map(|line| {
            let (commit, name) = line.split_once('\t')?;
            (name == full).then(|| commit.to_owned())
        });
        let Some(commit) = exact else { return Ok(None) };
        let spec = format!("+{full}:refs/pitlane/other");
        let args = ["fetch", "--quiet", "--no-tags", DEPTH, "origin", &spec];
        let ran = self.git.run(&args, b"", &[]).await?;
        if !ran.ok {
            return Err(failed(&args, ran));
        }
        // It may have moved in between; the lease is on what was read.
        let at = self.git.must(&["rev-parse", "refs/pitlane/other"], b"").await?.text();
        let at = at.trim().to_owned();
        tracing::debug!(listed = commit, fetched = at, branch, "the branch of a pull request");
        Ok(Some(at))
    }
}
