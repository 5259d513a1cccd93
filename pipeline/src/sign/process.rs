//! Runs a signer's program once: bytes in, bytes out, everything bounded.
//!
//! No shell, no environment but the one given, a process group of its own, which is killed when
//! the time is up. Sealing is a plain call, so the program is run on a thread with a small
//! runtime; the service's own threads go on meanwhile.

use std::{cell::RefCell, collections::VecDeque, path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    runtime::{Builder, Handle, RuntimeFlavor},
    time::timeout,
};
use zeroize::Zeroizing;

/// Most bytes of stdout taken: a signature of RSA-8192 has 1024, in base64 1368.
pub(super) const MAX_OUTPUT: usize = 8 * 1024;

/// One call of a program.
pub(super) struct Call<'a> {
    /// Program and arguments.
    pub(super) argv: &'a [String],
    /// Where it runs.
    pub(super) dir: &'a Path,
    /// All of its environment.
    pub(super) environment: &'a [(String, Zeroizing<String>)],
    /// Its stdin.
    pub(super) input: &'a [u8],
    /// Its time.
    pub(super) limit: Duration,
    /// How much of the end of its stderr is kept (bytes).
    pub(super) keep: usize,
}

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It did not start.
    #[error("cannot be started: {0}")]
    Start(#[source] std::io::Error),
    /// It took too long, or something it started keeps its output open.
    #[error("did not end within {0:?} and was killed")]
    Slow(Duration),
    /// It wrote too much.
    #[error("wrote more than {MAX_OUTPUT} bytes to stdout and was killed")]
    Flood,
    /// It ended in another way than with 0.
    #[error("ended with {0}")]
    Status(std::process::ExitStatus),
    /// Its pipes broke.
    #[error("could not be talked to: {0}")]
    Pipe(#[from] std::io::Error),
}

/// What a call came to, and the end of what it complained about.
pub(super) struct Answer {
    /// Its stdout.
    pub(super) result: Result<Vec<u8>, Failure>,
    /// The end of its stderr, as it came: secrets may be in it.
    pub(super) complaint: Vec<u8>,
}

/// Runs the program to its end.
pub(super) fn run(call: &Call<'_>) -> Answer {
    let apart = || {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let runtime = Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => runtime.block_on(converse(call)),
                    Err(error) => Answer::failed(Failure::Start(error)),
                }
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    };
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(apart)
        }
        _ => apart(),
    }
}

impl Answer {
    const fn failed(failure: Failure) -> Self {
        Self { result: Err(failure), complaint: Vec::new() }
    }
}

async fn converse(call: &Call<'_>) -> Answer {
    let (program, arguments) = call.argv.split_first().expect("checked when it was read");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(call.dir).env_clear().process_group(0).kill_on_drop(true);
    command.envs(call.environment.iter().map(|(name, value)| (name, value.as_str())));
    let pipe = std::process::Stdio::piped;
    let mut child = match command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn() {
        Ok(child) => child,
        Err(error) => return Answer::failed(Failure::Start(error)),
    };
    let group = child.id();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let complaint = RefCell::new(VecDeque::new());
    let talk = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // One that needs only the digest may not read it at all.
                let _ = stdin.write_all(call.input).await;
            }
            Ok(())
        };
        let (read, listen) = (read_bounded(stdout), keep_end(stderr, &complaint, call.keep));
        let ((), output, ()) = tokio::try_join!(write, read, listen)?;
        let status = child.wait().await?;
        if status.success() { Ok(output) } else { Err(Failure::Status(status)) }
    };
    let result = timeout(call.limit, talk).await.unwrap_or(Err(Failure::Slow(call.limit)));
    // What it started goes with it, unless that left the group; of a leader that has ended, the
    // number may be another's by now.
    if let (Err(_), Some(group)) = (&result, child.id().and(group))
        && let Ok(group) = i32::try_from(group)
    {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        let _ = child.wait().await;
    }
    Answer { result, complaint: complaint.into_inner().into() }
}

async fn read_bounded(from: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let Some(from) = from else { return Ok(bytes) };
    from.take(MAX_OUTPUT as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > MAX_OUTPUT { Err(Failure::Flood) } else { Ok(bytes) }
}

async fn keep_end(
    from: Option<impl AsyncRead + Unpin>,
    end: &RefCell<VecDeque<u8>>,
    keep: usize,
) -> Result<(), Failure> {
    let Some(mut from) = from else { return Ok(()) };
    let mut part = [0; 1024];
    loop {
        let read = from.read(&mut part).await?;
        if read == 0 {
            return Ok(());
        }
        let mut end = end.borrow_mut();
        end.extend(&part[..read]);
        let surplus = end.len().saturating_sub(keep);
        end.drain(..surplus);
    }
}
