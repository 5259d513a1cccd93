//! The program that makes the container: crun or runc, run once per start, no daemon.
//!
//! It stays in the foreground as our child while the car drives, so its end is the container's
//! end and its exit status ours; nothing else needs to reap. Commands that act on a container
//! (kill, delete) are bounded in time.

use std::{
    fmt, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use super::machine;

/// Where runtimes are looked for, and the only PATH that they get themselves.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A short command takes milliseconds; on a loaded car perhaps a second.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a child is looked at while waiting.
const POLL: Duration = Duration::from_millis(5);

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// None of the known ones can be used.
    #[error("no container runtime can be used ({0}); install runc or crun, or configure its path")]
    None(String),
    /// A command did not work.
    #[error("{program} {what}: {why}")]
    Failed {
        /// Which runtime.
        program: String,
        /// The subcommand.
        what: String,
        /// Its message, or why it did not run.
        why: String,
    },
}

/// A container runtime that was found and asked for its version.
#[derive(Clone, Debug)]
pub struct Engine {
    program: PathBuf,
    version: String,
    seccomp: bool,
    passed_over: Vec<String>,
}

impl Engine {
    /// The configured runtime, or the first usable of crun (smaller, faster) and runc.
    pub fn find(configured: Option<&Path>) -> Result<Self, EngineError> {
        let candidates: Vec<PathBuf> = match configured {
            Some(path) => vec![path.into()],
            None => ["crun", "runc"].iter().filter_map(|name| on_path(name)).collect(),
        };
        let mut passed_over = Vec::new();
        for program in candidates {
            match Self::probe(&program) {
                Ok((version, seccomp)) => {
                    return Ok(Self { program, version, seccomp, passed_over });
                }
                Err(why) => passed_over.push(format!("{}: {why}", program.display())),
            }
        }
        let reasons =
            if passed_over.is_empty() { "none found".into() } else { passed_over.join("; ") };
        Err(EngineError::None(reasons))
    }

    fn probe(program: &Path) -> Result<(String, bool), String> {
        if !program.is_absolute() {
            return Err("its path is not absolute".into());
        }
        let is_crun = program.file_name().is_some_and(|name| name == "crun");
        if is_crun && machine::hybrid_with_v2_controllers() {
            return Err("crun refuses this machine's cgroups (v1 with controllers in v2)".into());
        }
        let text = output(Command::new(program).arg("--version"))?;
        let version = text.lines().next().unwrap_or_default().chars().take(80).collect();
        Ok((version, text.contains("+SECCOMP") || text.contains("libseccomp:")))
    }

    /// Its first line of `--version`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runtimes that were preferred but cannot be used here, with the reason.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    pub(super) const fn seccomp(&self) -> bool {
        self.seccomp
    }

    fn command(&self, state: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(state);
        command
    }

    /// Starts the container in the foreground; `output` gets what it prints.
    pub(super) fn run(
        &self,
        state: &Path,
        bundle: &Path,
        id: &str,
        output: io::PipeWriter,
    ) -> io::Result<Child> {
        let mut command = self.command(state);
        command.arg("run").arg("--bundle").arg(bundle).arg(id);
        command.stdout(output.try_clone()?).stderr(output);
        prepare(&mut command).spawn()
    }

    /// Sends a signal to the container's first process.
    pub(super) fn kill(&self, state: &Path, id: &str, signal: &str) -> Result<(), EngineError> {
        output(self.command(state).args(["kill", id, signal]))
            .map(drop)
            .map_err(|why| self.failed("kill", why))
    }

    /// Kills what is left of a container and removes the runtime's record of it.
    pub(super) fn delete(&self, state: &Path, id: &str) -> Result<(), EngineError> {
        output(self.command(state).args(["delete", "--force", id]))
            .map(drop)
            .map_err(|why| self.failed("delete", why))
    }

    fn failed(&self, what: &str, why: String) -> EngineError {
        EngineError::Failed { program: self.program.display().to_string(), what: what.into(), why }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.program.display(), self.version)
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// Nothing of our environment reaches a runtime, and no signal meant for our terminal.
fn prepare(command: &mut Command) -> &mut Command {
    command.env_clear().env("PATH", PATH).stdin(Stdio::null()).process_group(0)
}

/// Runs a short command to its end; its output (bounded by the pipe) or its message.
fn output(command: &mut Command) -> Result<String, String> {
    let mut child = prepare(command)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    // What these commands print fits a pipe; one that prints more blocks and runs into the limit.
    let status = wait(&mut child, COMMAND_TIMEOUT).map_err(|error| error.to_string())?;
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("no answer within {} s", COMMAND_TIMEOUT.as_secs()));
    };
    let done = child.wait_with_output().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let why: String = String::from_utf8_lossy(&done.stderr).trim().chars().take(400).collect();
    Err(if why.is_empty() { status.to_string() } else { why })
}

/// Waits for a child for at most `limit`; `None` when it still runs.
pub(super) fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(left.min(POLL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_cannot_be_used_is_named_with_the_reason() {
        for (path, why) in [
            ("/nonexistent/runc", "No such file"),
            ("runc", "not absolute"),
            ("/bin/false", "exit status: 1"),
        ] {
            let error = Engine::find(Some(Path::new(path))).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains(why), "{error}");
        }
    }
}
