//! What the GitOps repository wants this car to drive.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use pitlane_fetch::git;
use pitlane_release::{PinnedImage, yaml};
use serde_json::Value;

use super::config::GitOps;

/// Largest kustomization read (bytes).
const MAX_FILE: usize = 1024 * 1024;
/// Longest a look may take: an unreachable server must not hold the watch over the car.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A wish: an image at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The commit that wants it.
    pub commit: String,
    /// The image.
    pub image: PinnedImage,
}

/// The branch's commit now, cheaply.
pub async fn head(config: &GitOps, dir: &Path) -> anyhow::Result<String> {
    let mut list = git::command(&config.url, dir);
    let branch = format!("refs/heads/{}", config.branch);
    list.args(["ls-remote", "--exit-code", "--", &config.url, &branch]);
    let listed = git::run(list, TIMEOUT)
        .await
        .with_context(|| format!("looking at branch {} of {}", config.branch, config.url))?;
    // git matches the pattern at the end of names too (`refs/heads/x/refs/heads/main`), so the
    // whole name is compared: who may push another branch must not be able to freeze this one.
    let listed = String::from_utf8(listed)?;
    let exact = listed.lines().find_map(|line| {
        let (commit, name) = line.split_once('\t')?;
        (name == branch).then(|| commit.to_owned())
    });
    exact.with_context(|| format!("{} has no branch {}", config.url, config.branch))
}

/// Fetches the branch and reads what it wants.
pub async fn desired(config: &GitOps, dir: &Path) -> anyhow::Result<Desired> {
    let bare = tempfile::tempdir_in(dir)?;
    let git = |args: &[&str]| {
        let mut command = git::command(&config.url, bare.path());
        command.args(args);
        git::run(command, TIMEOUT)
    };
    git(&["init", "--quiet", "--bare", "."]).await?;
    let spec = format!("+refs/heads/{}:refs/heads/desired", config.branch);
    git(&["fetch", "--quiet", "--depth=1", "--no-tags", "--", &config.url, &spec])
        .await
        .with_context(|| format!("fetching branch {} of {}", config.branch, config.url))?;
    let commit = String::from_utf8(git(&["rev-parse", "refs/heads/desired"]).await?)?;
    let path = format!("refs/heads/desired:{}", config.file.display());
    let size = git(&["cat-file", "-s", &path])
        .await
        .with_context(|| format!("{} is not in {}", config.file.display(), config.url))?;
    let size: usize = std::str::from_utf8(&size)?.trim().parse()?;
    if size > MAX_FILE {
        bail!("{}: {size} bytes, at most {MAX_FILE} are read", config.file.display());
    }
    let text = git(&["cat-file", "blob", &path])
        .await
        .with_context(|| format!("{} is not in {}", config.file.display(), config.url))?;
    let image = wanted(std::str::from_utf8(&text)?, &config.image)
        .with_context(|| format!("{} in {}", config.file.display(), config.url))?;
    Ok(Desired { commit: commit.trim().to_owned(), image })
}

/// The image that a kustomization pins under this name: what the car takes for its wish.
pub fn wanted(text: &str, name: &str) -> anyhow::Result<PinnedImage> {
    let value: Value = yaml::read(text, MAX_FILE)?;
    let images = value["images"].as_array().context("it has no list `images:`")?;
    let mut found = images.iter().filter(|image| image["name"] == name);
    let image = found.next().with_context(|| format!("`images:` has no entry `{name}`"))?;
    if found.next().is_some() {
        bail!("`images:` has two entries `{name}`");
    }
    let repository = image["newName"].as_str().unwrap_or(name);
    let digest = image["digest"]
        .as_str()
        .with_context(|| format!("`{name}` has no `digest:`; a tag can move, so it is no wish"))?;
    Ok(format!("{repository}@{digest}").parse()?)
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn only_a_pinned_image_is_a_wish() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let text =
            format!("images:\n- name: car\n  newName: r.example/t/car\n  digest: {digest}\n");
        assert_eq!(wanted(&text, "car").unwrap().to_string(), format!("r.example/t/car@{digest}"));
        for (text, want) in [
            ("a: 1".to_owned(), "no list"),
            (text.replace("name: car", "name: cat"), "no entry"),
            (text.replace("digest:", "newTag:"), "no `digest:`"),
            (text.replace("sha256:", "sha256:zz"), "not a digest"),
            (format!("{text}- name: car\n"), "two entries"),
        ] {
            let error = format!("{:#}", wanted(&text, "car").unwrap_err());
            assert!(error.contains(want), "{error}");
        }
    }
}
