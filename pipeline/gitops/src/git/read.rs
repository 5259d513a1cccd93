//! What a copy says: a target's file, the promotions in its history, the tip of another branch.

use std::path::Path;

use super::{Copy, GitFailure};
use crate::{EditRefusal, Record, Standing, Target, error::PromoteError, record, yaml::MAX_FILE};

/// Most promotions of a target that are looked at.
const MAX_RECORDS: &str = "--max-count=32";
/// How commits are listed for [`record::parse_log`].
const FORMAT: &str = "--format=%x00%H%x00%(trailers:only,unfold)";

/// A file of a commit.
#[derive(Debug)]
pub(crate) struct FileAt {
    pub bytes: Vec<u8>,
    pub executable: bool,
}

impl Copy {
    /// What the branch says of a target, and what was promoted there.
    pub(crate) async fn standing(&self, target: &Target) -> Result<Standing, PromoteError> {
        let standing = self.read(target).await?;
        if !standing.records.is_empty() || !self.is_cut() {
            return Ok(standing);
        }
        self.deepen().await?;
        // The branch may have moved by that: file and history are of one commit.
        self.read(target).await
    }

    async fn read(&self, target: &Target) -> Result<Standing, PromoteError> {
        let (records, (head, found)) =
            tokio::try_join!(self.records(target), self.file(&self.branch, target))?;
        let executable = found.as_ref().is_some_and(|found| found.executable);
        Ok(Standing { head, file: found.map(|found| found.bytes), executable, records })
    }

    async fn records(&self, target: &Target) -> Result<Vec<Record>, PromoteError> {
        let line = format!("--grep={}", record::target_line(target));
        let args = ["log", "--fixed-strings", &line, MAX_RECORDS, FORMAT, &self.branch, "--"];
        Ok(record::parse_log(&self.git.must(&args, b"").await?.text(), target))
    }

    /// The commit of a name, and a file in it, if it is there.
    pub(crate) async fn file(
        &self,
        name: &str,
        target: &Target,
    ) -> Result<(String, Option<FileAt>), PromoteError> {
        let path = target.file().to_string_lossy();
        let refused = |refusal| PromoteError::Refused { file: target.file().into(), refusal };
        let list = ["ls-tree", "-z", name, "--", &path];
        let ask = format!("{name}^{{commit}}\n{name}:{path}\n");
        let read = async {
            match self.git.must(&["cat-file", "--batch", "--buffer"], ask.as_bytes()).await {
                Err(GitFailure::TooMuch(_)) => Err(refused(EditRefusal::TooLarge)),
                other => Ok(other?),
            }
        };
        let (listed, read) =
            tokio::try_join!(async { Ok(self.git.must(&list, b"").await?) }, read)?;
        let (commit, rest) = object(&read.out).ok_or(PromoteError::NoBranch)?;
        let listed = listed.text();
        let Some((mode, _)) = listed.split_once(' ') else {
            return match self.passes_through(name, target.file()).await? {
                Some(what) => Err(refused(EditRefusal::Form { place: path.into(), why: what })),
                None => Ok((commit.name, None)),
            };
        };
        let why = match mode {
            "100644" | "100755" => {
                let Some((blob, _)) = object(rest) else {
                    return Err(refused(EditRefusal::TooLarge));
                };
                if blob.bytes.len() > MAX_FILE {
                    return Err(refused(EditRefusal::TooLarge));
                }
                let executable = mode == "100755";
                return Ok((commit.name, Some(FileAt { bytes: blob.bytes.to_vec(), executable })));
            }
            "120000" => "a link; name the file that it points to",
            "160000" => "a submodule; promote in that repository",
            _ => "a folder; name a file in it",
        };
        Err(refused(EditRefusal::Form { place: path.into(), why: why.to_owned() }))
    }

    /// What stands in the way of a path that leads to nothing.
    async fn passes_through(&self, name: &str, file: &Path) -> Result<Option<String>, GitFailure> {
        for above in file.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let path = above.to_string_lossy();
            let listed = self.git.must(&["ls-tree", "-z", name, "--", &path], b"").await?.text();
            let what = match listed.split_once(' ').map(|(mode, _)| mode) {
                Some("120000") => "a link",
                Some("160000") => "a submodule",
                _ => continue,
            };
            return Ok(Some(format!("behind {path}, which is {what}; name the file itself")));
        }
        Ok(None)
    }

    /// Trailers of one commit as a record, and the files it changes.
    pub(crate) async fn about(
        &self,
        commit: &str,
        target: &Target,
    ) -> Result<(Option<Record>, Vec<String>), GitFailure> {
        let args = ["log", "-1", "--no-renames", FORMAT, commit, "--"];
        let log = self.git.must(&args, b"").await?.text();
        let files = ["diff-tree", "--no-commit-id", "--name-only", "-r", "-z", "--root", commit];
        let files = self.git.must(&files, b"").await?.text();
        let files = files.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok((record::parse_log(&log, target).pop(), files))
    }
}

/// An object in the output of `cat-file --batch`.
struct Object<'b> {
    name: String,
    bytes: &'b [u8],
}

/// Splits the first object off; none when it is missing.
fn object(batch: &[u8]) -> Option<(Object<'_>, &[u8])> {
    let end = batch.iter().position(|b| *b == b'\n')?;
    let head = std::str::from_utf8(&batch[..end]).ok()?;
    let mut words = head.rsplit(' ');
    let size: usize = words.next()?.parse().ok()?;
    let (_kind, name) = (words.next()?, words.next()?);
    let bytes = batch.get(end + 1..end + 1 + size)?;
    let rest = batch.get(end + size + 2..).unwrap_or_default();
    Some((Object { name: name.to_owned(), bytes }, rest))
}
