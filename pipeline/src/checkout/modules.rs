//! The Python modules that a conversion needs of a commit beside the model.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use pitlane_fetch::git;
use pitlane_release::Commit;

use super::{QUICK_TIMEOUT, blob};

/// Most modules of a model's code, and bytes of one.
const MAX_MODULES: usize = 100;
const MAX_MODULE: u64 = 1024 * 1024;

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
