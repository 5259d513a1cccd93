//! An ordinary child process: a clean environment and an end, and nothing else. For tests.

use std::time::Duration;

use tokio::process::Command;

use super::{Ended, Job, Places, Running, Sandbox, SandboxError, process};

/// Keeps the program from nothing but our environment: it can read what we can.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Sandbox for Plain {
    fn places(&self, job: &Job<'_>) -> Places {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        Places {
            src: text(job.checkout),
            work: text(job.work),
            tool: job.tool.map(text).unwrap_or_default(),
            data: job.data.map(text).unwrap_or_default(),
        }
    }

    fn run<'a>(&'a self, job: &'a Job<'a>) -> Running<'a> {
        Box::pin(async move {
            if job.root.is_some() {
                let why = "a plain process cannot run an image's program; use the jail";
                return Err(SandboxError::Unable(why.into()));
            }
            let Some((program, arguments)) = job.argv.split_first() else {
                return Err(SandboxError::Unable("there is no program to run".into()));
            };
            let mut command = Command::new(program);
            command.args(arguments).env_clear().current_dir(job.work);
            command.env("PATH", "/usr/bin:/bin").env("HOME", job.work).env("LANG", "C.UTF-8");
            let wall = Duration::from_secs(job.limits.wall_seconds);
            let captured = process::capture(command, wall, false).await?;
            let process::Captured { status, stdout, stderr } = captured;
            Ok(Ended { status, stdout, stderr, isolation: None })
        })
    }
}
