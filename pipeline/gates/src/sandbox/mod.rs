//! Where a gate's program runs: the seam, and two that fill it.
//!
//! A sandbox must give the program: the checkout, not to be written to; a folder of its own,
//! empty but for what we put there; no key, token or variable of ours; an end. [`Jail`] gives all
//! of it by `pitlane jail`. [`Plain`] is for tests: it does not keep the program from anything.

mod jail;
mod plain;
mod process;
mod work;

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
};

use serde_json::Value;

pub(crate) use self::work::Work;
pub use self::{jail::Jail, plain::Plain};
use crate::config::Limits;

/// A program to run. Paths are of the host, but for `argv`, which is of the inside.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The program and its arguments, as seen from inside.
    pub argv: Vec<String>,
    /// The checkout, shown read-only; world-readable.
    pub checkout: &'a Path,
    /// The program's own folder, where it starts.
    pub work: &'a Path,
    /// A program of the host that is shown at [`Places::tool`].
    pub tool: Option<&'a Path>,
    /// A folder of the host that is shown at [`Places::data`], read-only.
    pub data: Option<&'a Path>,
    /// The root file system of an unpacked image; the host's programs when absent.
    pub root: Option<&'a Path>,
    /// What it may use.
    pub limits: Limits,
}

/// Where things are, seen from inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The checkout.
    pub src: String,
    /// The program's own folder.
    pub work: String,
    /// The program that was shown.
    pub tool: String,
    /// The folder that was shown.
    pub data: String,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// With this code.
    Exited(i32),
    /// By a signal.
    Killed,
    /// Its time was over.
    TimedOut,
}

/// A program that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// The beginning of what it said on standard output.
    pub stdout: Vec<u8>,
    /// The end of what it said on standard error, one line.
    pub stderr: String,
    /// How locked up it was, by the sandbox's word; for evidence.
    pub isolation: Option<Value>,
}

/// Why a program was not run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It could not be started.
    #[error("`{}` cannot be started", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The jail was not closed around it.
    #[error("the jail was not closed: {said}")]
    Jail {
        /// What it said.
        said: String,
    },
    /// The sandbox cannot do that.
    #[error("{0}")]
    Unable(String),
    /// A folder could not be made.
    #[error("{}: cannot be made", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A running program.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Ended, SandboxError>> + Send + 'a>>;

/// Runs a gate's program apart from us. Dropping the future must end the program.
pub trait Sandbox: Send + Sync {
    /// Where things are, seen from inside. `argv` of the job is not looked at.
    fn places(&self, job: &Job<'_>) -> Places;

    /// Runs it to its end, or until its time is over.
    fn run<'a>(&'a self, job: &'a Job<'a>) -> Running<'a>;
}
