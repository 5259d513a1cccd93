//! New commits in a copy, and how they are pushed.

use std::{
    fmt::Write as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Copy, GitFailure, Ran};
use crate::Author;

/// A commit to make.
pub(crate) struct NewCommit<'a> {
    pub parent: &'a str,
    pub file: &'a Path,
    pub executable: bool,
    pub bytes: &'a [u8],
    pub message: &'a str,
    pub author: &'a Author,
    /// SSH private key.
    pub signing_key: Option<&'a Path>,
}

/// How a push went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is there.
    Done,
    /// Somebody else was faster.
    Lost,
    /// The server said no, or nothing.
    Refused(String),
}

impl Copy {
    /// Makes a commit in the copy and gives its name.
    pub(crate) async fn commit(&self, new: &NewCommit<'_>) -> Result<String, GitFailure> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let Author { name, email } = new.author;
        let path = new.file.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
        let mode = if new.executable { "100755" } else { "100644" };
        let mut stream = String::from("feature done\ncommit refs/pitlane/new\nmark :1\n");
        for role in ["author", "committer"] {
            let _ = writeln!(stream, "{role} {name} <{email}> {seconds} +0000");
        }
        let _ = writeln!(stream, "data {}\n{}", new.message.len(), new.message);
        let _ = writeln!(stream, "from {}", new.parent);
        let _ = writeln!(stream, "M {mode} inline \"{path}\"\ndata {}", new.bytes.len());
        let mut stream = stream.into_bytes();
        stream.extend_from_slice(new.bytes);
        stream.extend_from_slice(b"\nget-mark :1\ndone\n");
        let imported = self.git.must(&["fast-import", "--quiet", "--force"], &stream).await?.text();
        let commit = imported.trim().to_owned();
        match new.signing_key {
            Some(key) => self.sign(&commit, new, key, seconds).await,
            None => Ok(commit),
        }
    }

    async fn sign(
        &self,
        commit: &str,
        new: &NewCommit<'_>,
        key: &Path,
        seconds: u64,
    ) -> Result<String, GitFailure> {
        let setting = format!("user.signingKey={}", key.display());
        let (tree, date) = (format!("{commit}^{{tree}}"), format!("@{seconds} +0000"));
        let args =
            ["-c", "gpg.format=ssh", "-c", &setting, "commit-tree", "-S", "-p", new.parent, &tree];
        let Author { name, email } = new.author;
        let variables = [
            ("GIT_AUTHOR_NAME", name.as_str()),
            ("GIT_COMMITTER_NAME", name),
            ("GIT_AUTHOR_EMAIL", email),
            ("GIT_COMMITTER_EMAIL", email),
            ("GIT_AUTHOR_DATE", &date),
            ("GIT_COMMITTER_DATE", &date),
        ];
        let ran = self.git.run(&args, new.message.as_bytes(), &variables).await?;
        if !ran.ok {
            let said = format!("{}: {}", key.display(), ran.said);
            return Err(GitFailure::Failed { command: "signing the commit with".into(), said });
        }
        Ok(ran.text().trim().to_owned())
    }

    /// Pushes a commit to a branch: forward only, or in place of an expected commit (empty: the
    /// branch must be new).
    pub(crate) async fn push(
        &self,
        commit: &str,
        branch: &str,
        instead_of: Option<&str>,
    ) -> Result<Pushed, GitFailure> {
        let (spec, lease) = (
            format!("{commit}:refs/heads/{branch}"),
            instead_of.map(|old| format!("--force-with-lease=refs/heads/{branch}:{old}")),
        );
        let mut args = vec!["push", "--porcelain", "--no-verify"];
        args.extend(lease.as_deref());
        args.extend(["origin", &spec]);
        let ran = self.git.run(&args, b"", &[]).await?;
        Ok(if ran.ok { Pushed::Done } else { how_it_failed(ran) })
    }
}

/// Tells a lost race from everything else: by the reasons that git gives per branch.
fn how_it_failed(ran: Ran) -> Pushed {
    let lost = [
        "(fetch first)",
        "(non-fast-forward)",
        "(stale info)",
        "(remote ref updated since checkout)",
        "cannot lock ref",
        "failed to update ref",
        "incorrect old value",
        "reference already exists",
    ];
    let out = ran.text();
    let refused = out.lines().find(|line| line.starts_with('!'));
    match refused {
        Some(line) if lost.iter().any(|why| line.contains(why)) => Pushed::Lost,
        Some(line) => Pushed::Refused(format!("{}; {}", line.replace('\t', " "), ran.said)),
        None => Pushed::Refused(ran.said),
    }
}
