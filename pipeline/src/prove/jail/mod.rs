//! The jail: runs one program where it can reach nothing that it was not handed.
//!
//! `pitlane jail --root DIR [limits] -- PROGRAM ARGS` is an entry point of the binary, not a
//! library call: namespaces and limits belong to a process, and a service must not lose its own.
//! Two stages, both this binary:
//!
//! 1. *outside* ([`outside`]): leaves the host's network, mounts, processes, names and shared
//!    memory, starts stage 2 as process 1 of the new world, watches the clock, and dies with
//!    whoever started it.
//! 2. *inside* ([`inside`]): makes the root read-only and pivots into it, drops to user 65532
//!    without capabilities, sets limits, Landlock and seccomp, says so in one line on standard
//!    output, and becomes the program.
//!
//! There is no weaker mode: what cannot be had is an error that names it. Only Landlock is a
//! second fence where the kernel has it, and the line says how much of it holds.

mod files;
mod inside;
mod limits;
mod outside;
mod privileges;
mod syscalls;

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The user and group of the program inside; the `nonroot` of small container images.
pub const JAIL_UID: u32 = 65532;
/// Tells stage 2 that it is stage 2: how the user is dropped, and the host's network namespace.
/// Whoever can set it on the outside gains nothing, since stage 2 insists on being process 1.
const STAGE: &str = "PITLANE_JAIL_STAGE";
/// Exit code when the wall clock ran out, as `timeout` has it.
const EXIT_WALL: i32 = 124;

/// Arguments of `pitlane jail`.
#[derive(Clone, Debug, clap::Args)]
pub struct JailArgs {
    /// Directory that becomes `/`, read-only.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Show a file or directory of the host inside, read-only; the target must exist in the root.
    #[arg(long, num_args = 2, value_names = ["HOST", "INSIDE"])]
    bind: Vec<PathBuf>,
    /// The same, writable.
    #[arg(long, num_args = 2, value_names = ["HOST", "INSIDE"])]
    bind_rw: Vec<PathBuf>,
    /// Seconds by the wall clock until it is killed.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    wall: u64,
    /// Seconds of processor time.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    cpu: u64,
    /// Address space in MiB.
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    memory: u64,
    /// Threads at one time (it can start no process).
    #[arg(long, default_value_t = 64, value_name = "N")]
    processes: u64,
    /// Open files.
    #[arg(long, default_value_t = 256, value_name = "N")]
    open_files: u64,
    /// Largest file that it can write, in MiB.
    #[arg(long, default_value_t = 64, value_name = "MIB")]
    file_size: u64,
    /// End when standard input is closed, so that it never outlives its caller.
    #[arg(long)]
    leash: bool,
    /// The program, as a path inside, and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What holds for a jailed program: the line that stage 2 writes before it becomes the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Isolation {
    /// The user it runs as.
    pub uid: u32,
    /// The namespaces of its own.
    pub namespaces: Vec<String>,
    /// Whether system calls are filtered; never false.
    pub seccomp: bool,
    /// How much of Landlock the kernel enforces.
    pub landlock: Landlock,
}

/// How much of Landlock the kernel enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Landlock {
    /// All that was asked for.
    Full,
    /// Some: an older kernel.
    Partial,
    /// The kernel has none.
    None,
}

/// The line's wrapper, so that no program's own output is taken for it by chance.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusLine {
    pub(super) jail: Isolation,
}

/// Runs the stage that this process is. Call it first thing in `main`, before any thread.
///
/// Returns only on failure; otherwise the process ends with the program's exit code, 128 plus the
/// signal that ended it, or 124 when the wall clock ran out.
pub fn jail_main(args: &JailArgs) -> anyhow::Result<Infallible> {
    match std::env::var(STAGE) {
        Err(_) => outside::run(args).context("the jail could not be built"),
        Ok(stage) => inside::run(args, &stage).context("the jail could not be closed"),
    }
}

impl JailArgs {
    /// The binds as (host, inside, writable), in the order of the command line.
    fn binds(&self) -> impl Iterator<Item = (&Path, &Path, bool)> {
        let read = self.bind.chunks_exact(2).map(|pair| (&*pair[0], &*pair[1], false));
        read.chain(self.bind_rw.chunks_exact(2).map(|pair| (&*pair[0], &*pair[1], true)))
    }
}
