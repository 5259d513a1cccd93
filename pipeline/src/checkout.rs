//! Fetches what a tag names, with the git command line, hardened.
//!
//! Nothing of the repository is ever written as a work tree: the tag is fetched into a bare
//! repository of the run's own, and the two files that are needed are read as blobs. So there
//! are no links, submodules, filters or hooks to be afraid of. Only what a Dockerfile is built from
//! and what gates look at become files in a folder (`tree`); a model in Git LFS is fetched by its
//! pointer (`lfs`), and its code is taken module by module (`modules`).

mod lfs;
mod modules;
mod tree;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use pitlane_fetch::git::{self, run};
use pitlane_github::GitEnv;
use pitlane_release::{Commit, ReleaseTag};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

pub use lfs::{LfsAt, Pointer, authorization};
pub use modules::Modules;
pub use tree::{Folder, Tree, tree};

use crate::{assemble::image::EPOCH, lane::LocalModel};

/// Longest a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_mins(10);
/// Most that gates look at: bytes of all files of a commit, and how many.
const GATES_BYTES: u64 = 2 * 1024 * 1024 * 1024;
const GATES_FILES: u64 = 50_000;
/// Largest card taken (bytes).
const CARD_LIMIT: u64 = pitlane_release::model::MAX_CARD as u64;
/// Longest any other git command may take.
const QUICK_TIMEOUT: Duration = Duration::from_secs(30);

/// What was checked out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkout {
    /// The commit the tag was peeled to.
    pub commit: Commit,
    /// The tag object, if the tag is annotated.
    pub tag_object: Option<String>,
    /// RFC 3339 time of the commit.
    pub committed_at: String,
    /// The model file, copied out.
    pub model: PathBuf,
    /// The card's text.
    pub card: String,
    /// The folder that a Dockerfile is built from, as the commit has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<PathBuf>,
    /// Name → file, of the Python modules that a conversion of the model needs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub code: BTreeMap<String, PathBuf>,
    /// All files of the commit, where gates look at them, and how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<(PathBuf, usize)>,
}

/// How much is taken, and what is wanted of a commit beside an ONNX model and its card.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// Largest model that is taken (bytes).
    pub max_model: u64,
    /// Whether the model is still to be converted: then it is kept under another name.
    pub original: bool,
    /// The folder that a Dockerfile is built from.
    pub context: Option<Folder<'a>>,
    /// Whether gates look at all files of the commit.
    pub files: bool,
    /// The code of the model.
    pub modules: Modules<'a>,
    /// Where models in Git LFS come from.
    pub lfs: LfsAt<'a>,
    /// For repositories that are not everybody's.
    pub login: Option<&'a GitEnv>,
}

impl Extras<'_> {
    fn model_in(&self, dir: &Path) -> PathBuf {
        dir.join(if self.original { "model.original" } else { "model.onnx" })
    }

    /// Takes them out of a commit.
    async fn take(
        &self,
        url: &str,
        bare: &Path,
        commit: &Commit,
        into: &mut Checkout,
        dir: &Path,
    ) -> anyhow::Result<()> {
        if let Some(folder) = self.context {
            let target = dir.join("context");
            let taken = tree(url, bare, commit, folder, &target).await;
            taken.context("`spec.build.context`, within `spec.build.limits`")?;
            into.context = Some(target);
        }
        if self.files {
            let all = Folder { path: Path::new("."), bytes: GATES_BYTES, entries: GATES_FILES };
            let target = dir.join("tree");
            let found = tree(url, bare, commit, all, &target).await.context("files for gates")?;
            into.files = Some((target, found.files));
        }
        if self.original {
            into.code =
                modules::modules(url, bare, commit, self.modules, &dir.join("code")).await?;
        }
        Ok(())
    }
}

async fn text(command: Command) -> anyhow::Result<String> {
    let bytes = run(command, QUICK_TIMEOUT).await?;
    Ok(String::from_utf8(bytes)?.trim_end().to_owned())
}

/// Fetches a tag and takes the model and its card out of the commit it names.
pub async fn checkout(
    url: &str,
    tag: &ReleaseTag,
    model: &Path,
    card: &Path,
    dir: &Path,
    extras: &Extras<'_>,
) -> anyhow::Result<Checkout> {
    let max_model = extras.max_model;
    let (bare, head) = fetch(url, tag, dir, extras.login).await?;
    let target = extras.model_in(dir);
    blob(url, &bare, &head.commit, model, max_model, &target).await?;
    lfs::resolve(url, extras.lfs, model, max_model, &target).await?;
    let card_file = dir.join("card.yaml");
    blob(url, &bare, &head.commit, card, CARD_LIMIT, &card_file).await?;
    let card = std::fs::read_to_string(&card_file)
        .with_context(|| format!("{}: not UTF-8", card.display()))?;
    let mut found = head.with(target, card);
    let commit = found.commit.clone();
    extras.take(url, &bare, &commit, &mut found, dir).await?;
    std::fs::remove_dir_all(&bare)?;
    Ok(found)
}

/// What is wanted of a commit that was released before.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The commit.
    pub commit: &'a Commit,
    /// A tag that named it then.
    pub tag: &'a ReleaseTag,
    /// The model's path in it, if the model is wanted.
    pub model: Option<&'a Path>,
    /// The card's path in it, if the card is wanted.
    pub card: Option<&'a Path>,
}

/// What was found of it.
#[derive(Clone, Debug)]
pub struct AtCommit {
    /// The commit.
    pub commit: Commit,
    /// RFC 3339 time of it.
    pub committed_at: String,
    /// The model file, copied out.
    pub model: Option<PathBuf>,
    /// The card's text.
    pub card: Option<String>,
}

/// Takes files out of a commit, wherever its tag is now.
pub async fn at_commit(
    url: &str,
    wanted: &Wanted<'_>,
    max_model: u64,
    dir: &Path,
) -> anyhow::Result<AtCommit> {
    let commit = wanted.commit;
    // Servers may refuse to hand out what no reference names; then the tag must still name it.
    let (bare, head) = match fetch_object(url, commit, dir).await {
        Ok(found) => found,
        Err(_) => fetch(url, wanted.tag, dir, None).await?,
    };
    if head.commit != *commit {
        let tag = wanted.tag;
        bail!("{url} gives no commit {commit}, and its tag {tag} names {}", head.commit);
    }
    let (mut model, mut card) = (None, None);
    if let Some(path) = wanted.model {
        let target = dir.join("model.onnx");
        blob(url, &bare, commit, path, max_model, &target).await?;
        lfs::resolve(url, LfsAt::default(), path, max_model, &target).await?;
        model = Some(target);
    }
    if let Some(path) = wanted.card {
        let target = dir.join("card.yaml");
        blob(url, &bare, commit, path, CARD_LIMIT, &target).await?;
        card = Some(self::card(&target)?);
    }
    std::fs::remove_dir_all(&bare)?;
    Ok(AtCommit { commit: head.commit, committed_at: head.committed_at, model, card })
}

/// Reads a card as text.
pub fn card(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let file = std::fs::File::open(file).with_context(|| format!("{shown}: cannot be read"))?;
    let mut text = String::new();
    let read = std::io::Read::read_to_string(&mut std::io::Read::take(file, CARD_LIMIT), &mut text);
    read.with_context(|| format!("{shown}: cannot be read as text"))?;
    Ok(text)
}

/// Takes model and card from files of this machine. They are copied first: what is inspected is
/// what is released, whatever happens to the files meanwhile.
///
/// With a `commit` the repository is not asked at all; without one the tag must be there.
pub async fn local(
    url: &str,
    tag: &ReleaseTag,
    files: &LocalModel,
    commit: Option<&str>,
    card: &Path,
    dir: &Path,
    extras: &Extras<'_>,
) -> anyhow::Result<Checkout> {
    let max_model = extras.max_model;
    let card_file = dir.join("card.yaml");
    let mut taken = None;
    let head = if let Some(commit) = commit {
        if extras.context.is_some() || !matches!(extras.modules, Modules::None) {
            bail!(
                "`spec.build` and the code of a conversion come from the tag's commit: leave --commit out"
            );
        }
        // Nobody says when it was made; the same for all keeps images reproducible.
        let committed_at = EPOCH.to_owned();
        Head { commit: commit.parse()?, tag_object: None, committed_at }
    } else {
        let (bare, head) = fetch(url, tag, dir, extras.login).await?;
        if files.card.is_none() {
            blob(url, &bare, &head.commit, card, CARD_LIMIT, &card_file).await?;
        }
        let mut found = head.with(PathBuf::new(), String::new());
        extras.take(url, &bare, &head.commit, &mut found, dir).await?;
        taken = Some(found);
        std::fs::remove_dir_all(&bare)?;
        head
    };
    if let Some(card) = &files.card {
        copy(card, &card_file, CARD_LIMIT)?;
    }
    let target = extras.model_in(dir);
    let (from, to) = (files.model.clone(), target.clone());
    tokio::task::spawn_blocking(move || copy(&from, &to, max_model)).await??;
    let card = std::fs::read_to_string(&card_file)
        .with_context(|| format!("{}: cannot be read as text", card.display()))?;
    let taken = taken.unwrap_or_else(|| head.with(PathBuf::new(), String::new()));
    Ok(Checkout { model: target, card, ..taken })
}

/// Copies a plain file of a bearable size; one that grows meanwhile does not make more of it.
fn copy(from: &Path, to: &Path, max: u64) -> anyhow::Result<()> {
    let shown = from.display();
    let file = std::fs::File::open(from).with_context(|| format!("{shown}: cannot be read"))?;
    let meta = file.metadata()?;
    anyhow::ensure!(meta.is_file(), "{shown}: not a plain file");
    if meta.len() > max {
        bail!("{shown}: {} bytes, at most {max} are taken", meta.len());
    }
    // Both ends are files: the kernel copies, or shares the blocks where the file system can.
    std::io::copy(&mut std::io::Read::take(&file, max), &mut std::fs::File::create(to)?)?;
    Ok(())
}

/// What a tag names.
struct Head {
    commit: Commit,
    tag_object: Option<String>,
    committed_at: String,
}

impl Head {
    fn with(&self, model: PathBuf, card: String) -> Checkout {
        let Self { commit, tag_object, committed_at } = self;
        Checkout {
            commit: commit.clone(),
            tag_object: tag_object.clone(),
            committed_at: committed_at.clone(),
            model,
            card,
            context: None,
            code: BTreeMap::new(),
            files: None,
        }
    }
}

/// Fetches a tag into a bare repository in `dir`.
async fn fetch(
    url: &str,
    tag: &ReleaseTag,
    dir: &Path,
    login: Option<&GitEnv>,
) -> anyhow::Result<(PathBuf, Head)> {
    let reference = format!("refs/tags/{tag}");
    let bare = fetch_into(url, &format!("+{reference}:{reference}"), dir, login)
        .await
        .with_context(|| format!("fetching tag {tag} from {url}"))?;
    let head = head(url, &bare, &reference).await?;
    Ok((bare, head))
}

/// Fetches a commit by its name.
async fn fetch_object(url: &str, commit: &Commit, dir: &Path) -> anyhow::Result<(PathBuf, Head)> {
    let bare = fetch_into(url, commit.as_str(), dir, None).await?;
    let head = head(url, &bare, commit.as_str()).await?;
    Ok((bare, head))
}

/// Fetches one thing, without its history, into a new bare repository.
async fn fetch_into(
    url: &str,
    spec: &str,
    dir: &Path,
    login: Option<&GitEnv>,
) -> anyhow::Result<PathBuf> {
    let bare = dir.join("source.git");
    if bare.exists() {
        std::fs::remove_dir_all(&bare)?;
    }
    std::fs::create_dir_all(&bare)?;
    let git = |args: &[&str]| {
        let mut command = git::command(url, &bare);
        command.args(args);
        command
    };
    run(git(&["init", "--quiet", "--bare", "."]), QUICK_TIMEOUT).await?;
    let mut fetch = git(&["fetch", "--quiet", "--depth=1", "--no-tags", "--", url, spec]);
    fetch.envs(login.into_iter().flat_map(GitEnv::pairs));
    run(fetch, FETCH_TIMEOUT).await?;
    Ok(bare)
}

/// The commit that a name stands for in a bare repository.
async fn head(url: &str, bare: &Path, name: &str) -> anyhow::Result<Head> {
    let git = |args: &[&str]| {
        let mut command = git::command(url, bare);
        command.args(args);
        command
    };
    let object = text(git(&["rev-parse", "--verify", name])).await?;
    let commit = text(git(&["rev-parse", "--verify", &format!("{name}^{{commit}}")]))
        .await
        .with_context(|| format!("{name} names no commit"))?;
    let commit: Commit = commit.parse()?;
    let committed_at = text(git(&["show", "--no-patch", "--format=%ct", commit.as_str()])).await?;
    let committed_at = committed_at
        .parse()
        .map_err(anyhow::Error::from)
        .and_then(|seconds| Ok(jiff::Timestamp::from_second(seconds)?.to_string()))
        .with_context(|| {
            format!("commit {commit} was made at {committed_at} s, which is no time")
        })?;
    let tag_object = (object != commit.as_str()).then_some(object);
    Ok(Head { commit, tag_object, committed_at })
}

/// Copies one file of a commit out, if it is a plain file of a bearable size.
async fn blob(
    url: &str,
    bare: &Path,
    commit: &Commit,
    path: &Path,
    max: u64,
    target: &Path,
) -> anyhow::Result<()> {
    let shown = path.display().to_string();
    let mut list = git::command(url, bare);
    list.args(["ls-tree", "-l", "-z", commit.as_str(), "--", &shown]);
    let listed = text(list).await?;
    let Some((fields, _)) = listed.split_once('\t') else {
        bail!("{shown}: not in commit {commit}; the pipeline's `spec.model` names it");
    };
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let [mode, "blob", id, size] = fields[..] else {
        bail!("{shown}: is no file in commit {commit}");
    };
    if !matches!(mode, "100644" | "100755") {
        bail!("{shown}: is a link or submodule (mode {mode}); commit the file itself");
    }
    let size: u64 = size.parse()?;
    if size > max {
        // The limit of cards is nobody's setting.
        let setting = if max == CARD_LIMIT { "" } else { " (`spec.model.contract.maxBytes`)" };
        bail!("{shown}: {size} bytes, at most {max} are taken{setting}");
    }
    let mut cat = git::command(url, bare);
    cat.args(["cat-file", "blob", id]);
    let file = std::fs::File::create(target)?;
    cat.stdout(file);
    run(cat, FETCH_TIMEOUT).await.with_context(|| format!("reading {shown}"))?;
    let written = std::fs::metadata(target)?.len();
    if written != size {
        bail!("{shown}: {written} of {size} bytes came out of git");
    }
    Ok(())
}
