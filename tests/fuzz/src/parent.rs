//! Starts a target's process, waits, and says how it ended.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::child::HANG;

/// Time beyond its own that a process gets: to start, and for the slowest input.
const GRACE: Duration = HANG.saturating_add(Duration::from_secs(20));
/// Bytes of its stderr that are shown.
const SHOWN: usize = 6_000;

/// How a target's process ended.
#[derive(Debug)]
pub enum End {
    /// Well; what it said.
    Well(String),
    /// An input broke it.
    Broken {
        /// How it ended, and the end of what it said.
        how: String,
        /// The input, kept.
        input: PathBuf,
    },
}

/// Runs a target for some time. `keep` is where an input that breaks it is put.
pub fn run(
    program: &Path,
    target: &str,
    time: Duration,
    seed: u64,
    keep: &Path,
) -> anyhow::Result<End> {
    fs::create_dir_all(keep)?;
    let current = keep.join(format!("{target}.current"));
    let mut command = Command::new(program);
    command.arg("child").arg(target).arg("--current").arg(&current);
    command.args(["--seconds", &time.as_secs_f64().to_string(), "--seed", &seed.to_string()]);
    command.env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| program.display().to_string())?;
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let end = Instant::now() + time + GRACE;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            None => {
                child.kill()?;
                break child.wait()?;
            }
        }
    };
    let (out, err) = (text(out), text(err));
    if status.success() {
        fs::remove_file(&current).ok();
        return Ok(End::Well(out));
    }
    let kept = kept(&current).with_context(|| format!("{target}: {} {err}", described(status)))?;
    let input = keep.join(format!("{target}-{seed}.input"));
    fs::write(&input, kept)?;
    fs::remove_file(&current).ok();
    Ok(End::Broken { how: format!("{}\n{err}", described(status)), input })
}

fn reader(
    pipe: Option<impl std::io::Read + Send + 'static>,
) -> Option<std::thread::JoinHandle<String>> {
    let mut pipe = pipe?;
    Some(std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let from = bytes.len().saturating_sub(SHOWN);
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }))
}

fn text(reader: Option<std::thread::JoinHandle<String>>) -> String {
    reader.and_then(|thread| thread.join().ok()).unwrap_or_default()
}

/// The input that was tried last.
fn kept(current: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(current).with_context(|| current.display().to_string())?;
    let (head, rest) = bytes.split_first_chunk::<8>().context("it ended before its first input")?;
    let length = usize::try_from(u64::from_le_bytes(*head))?.min(rest.len());
    Ok(rest[..length].to_vec())
}

fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}
