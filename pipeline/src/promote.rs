//! Promotes a release: changes exactly one scalar in the GitOps repository and pushes the commit.
//!
//! The scalar is the `digest` of one entry of a kustomization's `images:`. The text around it,
//! comments and order included, stays byte for byte; a change that would touch anything else is
//! refused.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, bail};
use pitlane_fetch::git;
use pitlane_release::{Digest, Repository, yaml};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

use crate::config::Promote;

/// Largest kustomization edited (bytes).
const MAX_FILE: usize = 1024 * 1024;
/// How often a push that lost a race is tried again on top of the winner.
const ATTEMPTS: u32 = 5;
/// Longest a clone or push may take.
const TIMEOUT: Duration = Duration::from_mins(5);

/// What was promoted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promotion {
    /// The commit, if anything had to change.
    pub commit: Option<String>,
    /// The digest before.
    pub from: String,
    /// The digest now.
    pub to: Digest,
}

/// Sets the digest of image `name` in a kustomization; gives the new text and the old digest.
pub fn set_digest(
    text: &str,
    name: &str,
    repository: &Repository,
    digest: &Digest,
) -> anyhow::Result<(String, String)> {
    let before: Value = yaml::read(text, MAX_FILE)?;
    let images = before.get("images").and_then(Value::as_array);
    let images = images.context("it has no list `images:`")?;
    let mut found = images.iter().enumerate().filter(|(_, image)| image["name"] == name);
    let (number, image) =
        found.next().with_context(|| format!("no entry of `images:` has the name `{name}`"))?;
    if found.next().is_some() {
        bail!("two entries of `images:` have the name `{name}`");
    }
    if image["newName"] != repository.as_str() {
        bail!(
            "`newName` of `{name}` is {}, the pipeline pushes to {repository}; set it once by hand",
            image["newName"]
        );
    }
    let old = image["digest"].as_str().with_context(|| {
        format!("`{name}` has no `digest:`; add one (any) once by hand, releases replace it")
    })?;

    let document: yaml_edit::Document =
        text.parse().map_err(|error| anyhow::anyhow!("it cannot be edited: {error}"))?;
    let edited = document
        .as_mapping()
        .and_then(|root| root.get_sequence("images"))
        .and_then(|images| images.get(number))
        .and_then(|node| node.as_mapping().cloned());
    let edited = edited.context("it cannot be edited: `images:` is no plain list")?;
    edited.set("digest", digest.to_string());
    let after = document.to_string();

    let mut want = before.clone();
    want["images"][number]["digest"] = digest.to_string().into();
    let reread: Value = yaml::read(&after, MAX_FILE)?;
    if reread != want {
        bail!("the edit would change more than one scalar; write the file in a plainer style");
    }
    Ok((after, old.to_owned()))
}

/// The text of a file of somebody else's repository: not more of it than is edited.
fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_FILE {
        bail!("it has more than {MAX_FILE} bytes, which are not read");
    }
    Ok(text)
}

/// Clones, edits, commits and pushes; again on top of the others when somebody was faster.
pub async fn promote(
    target: &Promote,
    repository: &Repository,
    digest: &Digest,
    message: &str,
    dir: &Path,
) -> anyhow::Result<Promotion> {
    for attempt in 1.. {
        let work = tempfile::tempdir_in(dir)?;
        let command = |args: &[&str]| {
            let mut git = git::command(&target.url, work.path());
            for (name, value) in [("NAME", "Pitlane"), ("EMAIL", "pitlane@localhost")] {
                git.env(format!("GIT_AUTHOR_{name}"), value);
                git.env(format!("GIT_COMMITTER_{name}"), value);
            }
            git.args(args);
            git
        };
        let clone =
            ["clone", "--quiet", "--depth=1", "--branch", &target.branch, "--", &target.url, "."];
        git::run(command(&clone), TIMEOUT)
            .await
            .with_context(|| format!("cloning the GitOps repository {}", target.url))?;
        let file = work.path().join(&target.file);
        let shown = target.file.display();
        if !std::fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_file()) {
            bail!("{shown}: not a file in the GitOps repository {}", target.url);
        }
        let text = read(&file).with_context(|| format!("{shown} in {}", target.url))?;
        let (after, from) = set_digest(&text, &target.image, repository, digest)
            .with_context(|| format!("{shown} in {}", target.url))?;
        if after == text {
            return Ok(Promotion { commit: None, from, to: *digest });
        }
        std::fs::write(&file, after)?;
        let path = target.file.to_string_lossy();
        git::run(command(&["add", "--", &path]), TIMEOUT).await?;
        git::run(command(&["commit", "--quiet", "-m", message]), TIMEOUT).await?;
        let commit = git::run(command(&["rev-parse", "HEAD"]), TIMEOUT).await?;
        let commit = String::from_utf8(commit)?.trim().to_owned();
        let to = format!("HEAD:refs/heads/{}", target.branch);
        match git::run(command(&["push", "--quiet", "origin", &to]), TIMEOUT).await {
            Ok(_) => return Ok(Promotion { commit: Some(commit), from, to: *digest }),
            Err(_) if attempt < ATTEMPTS => {
                tracing::info!(attempt, "somebody else pushed first; trying again on top");
            }
            Err(error) => {
                return Err(anyhow::Error::new(error).context("pushing to the GitOps repository"));
            }
        }
    }
    unreachable!("the loop returns at its last attempt")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# the car\nkind: Kustomization # keep me\nresources:\n- car.yaml\nimages:\n\
        # twin\n- name: twin\n  newName: r.example/team/twin\n  digest: sha256:0000000000000000000000000000000000000000000000000000000000000000\n\
        - newName: r.example/team/car   # where\n  name: car\n  digest: sha256:1111111111111111111111111111111111111111111111111111111111111111 # {\"$imagepolicy\": \"x:digest\"}\n\
        patches: []\n";

    fn edit(text: &str) -> anyhow::Result<(String, String)> {
        let digest = Digest::from_bytes([0x22; 32]);
        set_digest(text, "car", &"r.example/team/car".parse().unwrap(), &digest)
    }

    #[test]
    fn one_scalar_changes_and_comments_stay() {
        let (after, old) = edit(FILE).unwrap();
        assert_eq!(old, format!("sha256:{}", "1".repeat(64)));
        assert_eq!(after, FILE.replace(&"1".repeat(64), &"2".repeat(64)));
        assert_eq!(edit(&after).unwrap().0, after, "again changes nothing");
    }

    #[test]
    fn a_giant_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), FILE).unwrap();
        assert_eq!(read(file.path()).unwrap(), FILE);
        // Sparse: reading all of it would take more memory than there is.
        file.as_file().set_len(1 << 40).unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }

    #[test]
    fn what_cannot_be_edited_safely_is_refused() {
        for (from, to, want) in [
            ("images:", "pictures:", "no list"),
            ("name: car", "name: cart", "has the name"),
            ("name: twin", "name: car", "two entries"),
            ("r.example/team/car ", "r.example/team/cat ", "newName"),
            ("digest: sha256:1111", "tag: v1 # ", "no `digest:`"),
            ("kind:", "kind: a\nkind:", "uplicate"),
        ] {
            let text = FILE.replacen(from, to, 1);
            assert_ne!(text, FILE);
            let error = format!("{:#}", edit(&text).unwrap_err());
            assert!(error.contains(want), "{to}: {error}");
        }
    }
}
