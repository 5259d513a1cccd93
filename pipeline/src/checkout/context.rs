//! What a build and a conversion need of a commit beside the model: a folder, and Python modules.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail, ensure};
use pitlane_fetch::git;
use pitlane_release::Commit;

use super::{FETCH_TIMEOUT, QUICK_TIMEOUT, blob};

/// Most modules of a model's code, and bytes of one.
const MAX_MODULES: usize = 100;
const MAX_MODULE: u64 = 1024 * 1024;

/// A folder of the commit, and how much it may hold.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a> {
    /// Its path; all of the commit for `.`.
    pub path: &'a Path,
    /// Most bytes.
    pub bytes: u64,
    /// Most files, folders and links.
    pub entries: u64,
}

/// Writes a folder of the commit to `target`, which is made anew.
pub(super) async fn folder(
    url: &str,
    bare: &Path,
    commit: &Commit,
    folder: Folder<'_>,
    target: &Path,
) -> anyhow::Result<()> {
    let shown = folder.path.display();
    if target.exists() {
        std::fs::remove_dir_all(target)?;
    }
    std::fs::create_dir_all(target)?;
    let whole = folder.path == Path::new(".");
    let name = if whole { format!("{commit}^{{tree}}") } else { format!("{commit}:{shown}") };
    let mut kind = git::command(url, bare);
    kind.args(["cat-file", "-t", &name]);
    let kind = git::run(kind, QUICK_TIMEOUT).await.unwrap_or_default();
    ensure!(
        kind.starts_with(b"tree"),
        "{shown}: no folder in commit {commit}; `spec.build.context` names it"
    );
    let mut archive = git::command(url, bare);
    archive.args(["archive", "--format=tar", &name]).stdout(Stdio::piped());
    let mut child = archive.spawn().context("git cannot be started")?;
    let out = child.stdout.take().context("git has no output")?.into_owned_fd()?;
    let (to, bytes, entries) = (target.to_owned(), folder.bytes, folder.entries);
    let unpack =
        tokio::task::spawn_blocking(move || unpack(std::fs::File::from(out), &to, bytes, entries));
    let work = async {
        unpack.await?.with_context(|| format!("{shown} of commit {commit}"))?;
        let ended = child.wait_with_output().await?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "git archive: {}", said.trim());
        Ok(())
    };
    tokio::time::timeout(FETCH_TIMEOUT, work).await.context("git archive took too long")?
}

/// Unpacks git's archive: plain files, folders and links, nothing above the folder.
fn unpack(from: impl Read, to: &Path, max: u64, most: u64) -> anyhow::Result<()> {
    let (mut bytes, mut entries) = (0_u64, 0);
    let mut archive = tar::Archive::new(from);
    archive.set_preserve_mtime(false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        match entry.header().entry_type() {
            // The commit's name.
            tar::EntryType::XGlobalHeader => continue,
            tar::EntryType::Regular | tar::EntryType::Directory | tar::EntryType::Symlink => {}
            other => bail!("an entry of the kind {other:?}"),
        }
        entries += 1;
        bytes = bytes.saturating_add(entry.size());
        ensure!(bytes <= max, "more than {max} bytes (`spec.build.limits.contextMib`)");
        ensure!(entries <= most, "more than {most} entries (`spec.build.limits.contextEntries`)");
        let inside = entry.unpack_in(to)?;
        ensure!(inside, "`{}` leads out of it", entry.path_bytes().escape_ascii());
    }
    Ok(())
}

/// Copies Python modules out: those named, or all that lie beside the model.
pub(super) async fn modules(
    url: &str,
    bare: &Path,
    commit: &Commit,
    named: Modules<'_>,
    target: &Path,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let paths: Vec<PathBuf> = match named {
        Modules::None => Vec::new(),
        Modules::Named(paths) => paths.to_vec(),
        Modules::Beside(model) => beside(url, bare, commit, model).await?,
    };
    ensure!(paths.len() <= MAX_MODULES, "{} Python modules, at most {MAX_MODULES}", paths.len());
    if target.exists() {
        std::fs::remove_dir_all(target)?;
    }
    std::fs::create_dir_all(target)?;
    let mut found = BTreeMap::new();
    for path in paths {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let file = target.join(format!("{name}.py"));
        blob(url, bare, commit, &path, MAX_MODULE, &file).await?;
        let twice = found.insert(name.to_owned(), file);
        ensure!(twice.is_none(), "two Python modules are called `{name}`");
    }
    Ok(found)
}

/// Which Python modules go with a model.
#[derive(Clone, Copy, Debug, Default)]
pub enum Modules<'a> {
    /// None.
    #[default]
    None,
    /// These.
    Named(&'a [PathBuf]),
    /// All that lie in this model's folder.
    Beside(&'a Path),
}

async fn beside(
    url: &str,
    bare: &Path,
    commit: &Commit,
    model: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let folder = model.parent().unwrap_or(Path::new(""));
    let mut list = git::command(url, bare);
    let name = format!("{commit}:{}", folder.display());
    list.args(["ls-tree", "--name-only", "-z", &name]);
    let listed = String::from_utf8(git::run(list, QUICK_TIMEOUT).await?)?;
    let python = |name: &&str| Path::new(name).extension().is_some_and(|end| end == "py");
    Ok(listed.split('\0').filter(python).map(|name| folder.join(name)).collect())
}
