//! A started container: its health, its output, its end.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use super::{
    engine::{self, Engine},
    health::{Health, Watch},
    launch::{LaunchError, Scratch, StartCost, io_error},
    log::Log,
};

/// Time between the kill that cannot be ignored and giving up on the runtime.
pub(super) const KILL_WAIT: Duration = Duration::from_secs(5);

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself with this status. 128 + n: signal n, as the runtime reports it.
    Code(i32),
    /// The runtime itself was killed by this signal; the container was killed then.
    RuntimeKilled(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::RuntimeKilled(signal.unwrap_or(0)),
        }
    }
}

/// A started container. Dropped, it is killed and removed.
#[derive(Debug)]
pub struct Running {
    pub(super) id: String,
    pub(super) child: Child,
    pub(super) exit: Option<Exit>,
    pub(super) watch: Watch,
    pub(super) log: Log,
    pub(super) cost: StartCost,
    pub(super) notes: Vec<String>,
    pub(super) engine: Engine,
    pub(super) state_dir: PathBuf,
    /// Goes when this goes.
    pub(super) _dir: Scratch,
}

impl Running {
    /// Its id, as the runtime knows it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the configuration could not promise: limits not enforced, variables not let through.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the start cost.
    pub const fn cost(&self) -> StartCost {
        self.cost
    }

    /// The last of what it printed, safe to print.
    pub fn log_tail(&self) -> String {
        self.log.tail()
    }

    /// How it is now; returns at once.
    pub fn health(&mut self) -> io::Result<Health> {
        match self.wait(Duration::ZERO)? {
            Some(exit) => Ok(Health::Exited(exit)),
            None => Ok(self.watch.look(Instant::now())),
        }
    }

    /// Waits for its end, at most this long; `None` when it still runs.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<Exit>> {
        if self.exit.is_none()
            && let Some(status) = engine::wait(&mut self.child, limit)?
        {
            self.exit = Some(status.into());
            self.clear();
            self.log.finish();
        }
        Ok(self.exit)
    }

    /// Asks it to stop (SIGTERM), and after `grace` makes it. Returns how it ended.
    pub fn stop(&mut self, grace: Duration) -> Result<Exit, LaunchError> {
        let program = self.engine.program().to_owned();
        let run = |error| io_error("cannot wait for", &program)(error);
        if self.exit.is_none() {
            // An error here means that it ended by itself in this moment, or that the harder
            // ways below are needed.
            let _ = self.engine.kill(&self.state_dir, &self.id, "TERM");
        }
        if let Some(exit) = self.wait(grace).map_err(run)? {
            return Ok(exit);
        }
        let _ = self.engine.kill(&self.state_dir, &self.id, "KILL");
        if let Some(exit) = self.wait(KILL_WAIT).map_err(run)? {
            return Ok(exit);
        }
        // The runtime does not answer: end it, then what it left.
        self.child.kill().map_err(io_error("cannot kill", &program))?;
        match self.wait(KILL_WAIT).map_err(run)? {
            Some(exit) => Ok(exit),
            None => Err(io_error("cannot kill", &program)(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Removes the runtime's record and kills what may be left; a container that ended by itself
    /// has none.
    fn clear(&self) {
        if self.state_dir.join(&self.id).exists() {
            let _ = self.engine.delete(&self.state_dir, &self.id);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.exit.is_none() {
            let _ = self.engine.kill(&self.state_dir, &self.id, "KILL");
            if engine::wait(&mut self.child, KILL_WAIT).ok().flatten().is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            self.clear();
        }
    }
}
