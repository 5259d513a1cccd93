//! `pitlane hook install`: writes the hook file.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use pitlane_release::RepoName;

use super::super::secret::{SecretError, signing_secret};

/// The line by which we know a hook of ours.
const MARK: &str = "# pitlane-hook 1: tells Pitlane of pushed tags (`pitlane hook install`)";
/// A hook larger than this is not looked at: it is somebody else's.
const MAX_HOOK: u64 = 1024 * 1024;

/// Why no hook was written.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Not a git repository.
    #[error("{path} is not a git repository: {reason}")]
    Repository {
        /// Which folder.
        path: PathBuf,
        /// What git said.
        reason: String,
    },
    /// Another hook is there.
    #[error(
        "{0} is another program's hook: call `pitlane hook post` from it, or use --force (it keeps a backup)"
    )]
    Foreign(PathBuf),
    /// The repository's name could not be told from its path.
    #[error("`{0}` is not OWNER/NAME: give the repository's name with --repository")]
    Name(String),
    /// The address is none.
    #[error("`{0}` is no address of a webhook: want http(s)://HOST[:PORT]/webhook")]
    Url(String),
    /// A path that cannot stand in a script.
    #[error("{0} has characters that a hook file cannot hold")]
    Path(PathBuf),
    /// The secret is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Files.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What to install.
#[derive(Clone, Debug)]
pub struct Install {
    /// The repository on the server (bare or not).
    pub repository_dir: PathBuf,
    /// `http(s)://HOST:PORT/webhook`.
    pub url: String,
    /// File with the webhook secret; the hook holds its path, never its content.
    pub secret_file: PathBuf,
    /// `owner/name`; told from the last two folders of the path where absent.
    pub repository: Option<String>,
    /// Replace a foreign hook, keeping a backup.
    pub force: bool,
    /// The `pitlane` binary that the hook starts (absolute).
    pub program: PathBuf,
}

/// What was installed.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The hook file.
    pub hook: PathBuf,
    /// Where a foreign hook went.
    pub backup: Option<PathBuf>,
    /// The name the hook reports.
    pub repository: String,
}

/// Writes the hook, atomically. An own hook is replaced; a foreign one only by force.
pub fn install(want: &Install) -> Result<Installed, HookError> {
    let url = reqwest::Url::parse(&want.url).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty()
    });
    let url = url.ok_or_else(|| HookError::Url(want.url.clone()))?;
    let repository_dir = absolute(&want.repository_dir)?;
    let hooks = hooks_dir(&repository_dir)?;
    let repository = match &want.repository {
        Some(name) => name.clone(),
        None => name_of(&repository_dir),
    };
    let repository: RepoName =
        repository.parse().map_err(|_| HookError::Name(repository.clone()))?;
    let secret_file = absolute(&want.secret_file)?;
    drop(signing_secret(&secret_file)?);
    let (program, secret) = (quoted(&want.program)?, quoted(&secret_file)?);
    let script = format!(
        "#!/bin/sh\n{MARK}\nexec {program} hook post --url {} --secret-file {secret} \
         --repository '{repository}'\n",
        quoted(Path::new(url.as_str()))?,
    );
    let hook = hooks.join("post-receive");
    let backup = existing(&hook, want.force)?;
    let file_error = |source| HookError::File { path: hook.clone(), source };
    fs::create_dir_all(&hooks).map_err(file_error)?;
    let mut new = tempfile::NamedTempFile::new_in(&hooks).map_err(file_error)?;
    new.write_all(script.as_bytes()).map_err(file_error)?;
    new.as_file().set_permissions(fs::Permissions::from_mode(0o755)).map_err(file_error)?;
    new.as_file().sync_all().map_err(file_error)?;
    if let Some(backup) = &backup {
        fs::rename(&hook, backup).map_err(file_error)?;
    }
    new.persist(&hook).map_err(|error| file_error(error.error))?;
    Ok(Installed { hook, backup, repository: repository.as_str().to_owned() })
}

/// Where an existing hook goes: nowhere when it is ours or absent.
fn existing(hook: &Path, force: bool) -> Result<Option<PathBuf>, HookError> {
    let Ok(meta) = fs::symlink_metadata(hook) else { return Ok(None) };
    let ours = meta.is_file()
        && meta.len() <= MAX_HOOK
        && fs::read(hook)
            .is_ok_and(|text| text.split(|b| *b == b'\n').any(|l| l == MARK.as_bytes()));
    if ours {
        return Ok(None);
    }
    if !force {
        return Err(HookError::Foreign(hook.to_owned()));
    }
    let free = (1..1000)
        .map(|n| hook.with_file_name(format!("post-receive.before-pitlane.{n}")))
        .find(|path| fs::symlink_metadata(path).is_err());
    free.map(Some).ok_or_else(|| HookError::Foreign(hook.to_owned()))
}

/// The folder that git itself would look for hooks in (`core.hooksPath` included).
fn hooks_dir(repository: &Path) -> Result<PathBuf, HookError> {
    let wrong = |reason: String| HookError::Repository { path: repository.to_owned(), reason };
    let output = Command::new("git")
        .current_dir(repository)
        .args(["rev-parse", "--git-path", "hooks"])
        .env_remove("GIT_DIR")
        .output()
        .map_err(|e| wrong(format!("git did not start: {e}")))?;
    if !output.status.success() {
        return Err(wrong(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let path = String::from_utf8_lossy(&output.stdout);
    Ok(repository.join(path.trim_end_matches('\n')))
}

fn absolute(path: &Path) -> Result<PathBuf, HookError> {
    fs::canonicalize(path).map_err(|source| HookError::File { path: path.to_owned(), source })
}

/// `/srv/git/octo/car.git` is `octo/car`; of a clone, `.git` is not part of the name.
fn name_of(path: &Path) -> String {
    let path = if path.ends_with(".git") { path.parent().unwrap_or(path) } else { path };
    let part = |p: Option<&std::ffi::OsStr>| p.unwrap_or_default().to_string_lossy().into_owned();
    let name = part(path.file_name());
    let owner = part(path.parent().and_then(Path::file_name));
    format!("{owner}/{}", name.strip_suffix(".git").unwrap_or(&name))
}

/// A path as one word of a shell script.
fn quoted(path: &Path) -> Result<String, HookError> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| HookError::Path(path.to_owned()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}
