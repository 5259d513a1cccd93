//! The jail: `pitlane jail`, as the laps of a candidate have it. No network, user 65532, its own
//! world of processes and mounts, a filter of system calls; it can start no process.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::{Ended, Job, Places, Running, Sandbox, SandboxError, Status, process};

/// Exit code of the jail when the wall clock ran out.
const EXIT_WALL: i32 = 124;
/// How much longer than the jail's own clock ours runs.
const GRACE: Duration = Duration::from_secs(10);
/// Folders that a gate sees: the checkout, its own, and that of a scanner's data.
const FOLDERS: [&str; 5] = ["src", "out", "data", "tmp", "usr"];
/// The program that is shown.
const TOOL: &str = "tool";
/// What the host keeps beside `/usr`, or links into it.
const LINKED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Starts `pitlane jail`.
#[derive(Clone, Debug)]
pub struct Jail {
    /// The program `pitlane`.
    pub pitlane: PathBuf,
}

/// What the jail says before it becomes the program.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusLine {
    jail: Value,
}

impl Sandbox for Jail {
    fn places(&self, _: &Job<'_>) -> Places {
        let at = |name: &str| format!("/{name}");
        Places { src: at("src"), work: at("out"), tool: at(TOOL), data: at("data") }
    }

    fn run<'a>(&'a self, job: &'a Job<'a>) -> Running<'a> {
        Box::pin(async move {
            // Held until the end.
            let (root, _made) = if let Some(root) = job.root {
                prepare(root)?;
                (root.to_owned(), None)
            } else {
                let made = host_root()?;
                (made.path().to_owned(), Some(made))
            };
            let mut command = Command::new(&self.pitlane);
            command.args(arguments(job, &root)).env_clear().current_dir("/");
            let wall = Duration::from_secs(job.limits.wall_seconds) + GRACE;
            let captured = process::capture(command, wall, true).await?;
            let line = captured.stdout.iter().position(|byte| *byte == b'\n');
            let closed = line.and_then(|end| {
                let line: StatusLine = serde_json::from_slice(&captured.stdout[..end]).ok()?;
                Some((line.jail, end + 1))
            });
            let Some((isolation, from)) = closed else {
                return Err(SandboxError::Jail { said: captured.stderr });
            };
            let status = match captured.status {
                Status::Exited(EXIT_WALL) => Status::TimedOut,
                other => other,
            };
            Ok(Ended {
                status,
                stdout: captured.stdout[from..].to_vec(),
                stderr: captured.stderr,
                isolation: Some(isolation),
            })
        })
    }
}

/// The command line of the jail.
fn arguments(job: &Job<'_>, root: &Path) -> Vec<std::ffi::OsString> {
    let mut line: Vec<std::ffi::OsString> =
        vec!["jail".into(), "--root".into(), root.into(), "--leash".into()];
    let mut show = |option: &str, host: &Path, inside: &str| {
        line.extend([option.into(), host.into(), format!("/{inside}").into()]);
    };
    if job.root.is_none() {
        show("--bind", Path::new("/usr"), "usr");
        for name in LINKED {
            let host = Path::new("/").join(name);
            if fs::symlink_metadata(&host).is_ok_and(|found| found.is_dir()) {
                show("--bind", &host, name);
            }
        }
    }
    show("--bind", job.checkout, "src");
    if let Some(tool) = job.tool {
        show("--bind", tool, TOOL);
    }
    if let Some(data) = job.data {
        show("--bind", data, "data");
    }
    show("--bind-rw", job.work, "out");
    let limits = job.limits;
    for (option, value) in [
        ("--wall", limits.wall_seconds),
        ("--cpu", limits.cpu_seconds),
        ("--memory", limits.memory_mib),
        ("--processes", limits.threads),
        ("--open-files", limits.open_files),
        ("--file-size", limits.file_size_mib),
    ] {
        line.extend([option.into(), value.to_string().into()]);
    }
    line.push("--".into());
    line.extend(job.argv.iter().map(Into::into));
    line
}

/// A root with places for the host's programs, and nothing in it.
fn host_root() -> Result<TempDir, SandboxError> {
    let failed = |path: &Path, source| SandboxError::Folder { path: path.to_owned(), source };
    let made = tempfile::tempdir().map_err(|source| failed(Path::new("a root"), source))?;
    let root = made.path();
    // The program inside is another user.
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).map_err(|e| failed(root, e))?;
    prepare(root)?;
    for name in LINKED {
        let (host, ours) = (Path::new("/").join(name), root.join(name));
        let Ok(found) = fs::symlink_metadata(&host) else { continue };
        let same = if found.is_symlink() {
            symlink(format!("usr/{name}"), &ours)
        } else {
            fs::create_dir(&ours)
        };
        same.map_err(|source| failed(&ours, source))?;
    }
    Ok(made)
}

/// Makes the places that things are shown at, where a root has none.
fn prepare(root: &Path) -> Result<(), SandboxError> {
    for name in FOLDERS {
        let path = root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let why = format!("the image has a /{name} that is no folder");
                return Err(SandboxError::Unable(why));
            }
            Err(_) => fs::create_dir(&path)
                .map_err(|source| SandboxError::Folder { path: path.clone(), source })?,
        }
    }
    let tool = root.join(TOOL);
    if fs::symlink_metadata(&tool).is_err() {
        fs::write(&tool, "").map_err(|source| SandboxError::Folder { path: tool, source })?;
    }
    Ok(())
}
