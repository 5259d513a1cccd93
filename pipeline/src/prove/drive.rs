//! One run: twin and runtime in their jails, joined by a socket, watched until one of them ends.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use pitlane_release::Digest;
use tokio::time::sleep;

use super::confined::{Cell, Confined, GRACE};
use super::report::{LapReport, MAX_REPORT, Shortfall, judge};
use super::scenario::Run;
use super::{Failure, Files, Prove, ProveError, RunProof, evidence, twin_root};

/// The runtime in the image.
pub(super) const CAR: &str = "/usr/bin/pitlane-car";
/// The twin's socket, by the same name in both jails.
const SOCKET: &str = "unix:/run/sim.sock";
/// How long the twin waits for the runtime: loading a large model on a busy machine (seconds).
const CONNECT_SECONDS: u64 = 60;
/// How long one may take to notice that the other has ended.
const PATIENCE: Duration = Duration::from_secs(8);
/// Largest trace and plot kept (bytes): an hour at 20 frames a second takes about 15 MB.
const MAX_TRACE: u64 = 64 << 20;
/// What a message repeats of a program's last words (characters).
const MAX_SAID: usize = 600;

/// How a run ended.
enum End {
    /// The twin came to its own end.
    Twin,
    /// The runtime ended first.
    Car,
    /// Neither did in time.
    Deadline,
}

pub(super) async fn run(
    prove: &Prove<'_>,
    index: usize,
    run: &Run,
) -> Result<RunProof, ProveError> {
    let started = Instant::now();
    let kept = prove.evidence_dir.join(format!("run-{}", index + 1));
    fs::create_dir_all(&kept).map_err(file(&kept, "made"))?;
    // Ours alone; what jailed programs may write lies inside and is reached by bind mounts.
    let scratch = tempfile::Builder::new().prefix("pitlane-prove-").tempdir();
    let scratch = scratch.map_err(file(&std::env::temp_dir(), "written"))?;
    let [root, out, sock] = ["root", "out", "sock"].map(|name| scratch.path().join(name));
    for dir in [&out, &sock] {
        twin_root::shared_dir(dir).map_err(file(dir, "made"))?;
    }

    let mut twin = start_twin(prove, run, &root, &out, &sock).await?;
    let mut car = start_car(prove, &sock).await?;
    let isolation = car.isolation.clone();
    // The jails' own clocks run a little longer and only count if this process is gone.
    let deadline = Duration::from_secs(prove.limits.wall_seconds);
    let end = tokio::select! {
        _ = twin.wait() => End::Twin,
        _ = car.wait() => End::Car,
        () = sleep(deadline.saturating_sub(started.elapsed())) => End::Deadline,
    };
    let patience = if matches!(end, End::Deadline) { Duration::ZERO } else { PATIENCE };
    let (twin_status, twin_said) = twin.end(patience).await;
    let (car_status, car_said) = car.end(patience).await;

    let car_log = kept.join("car.log");
    fs::write(&car_log, &car_said).map_err(file(&car_log, "written"))?;
    let (files, report) = collect(&out, &kept, car_log)?;
    let shortfall = match (&end, &report) {
        (End::Deadline, _) => Some(Shortfall::Deadline { seconds: prove.limits.wall_seconds }),
        (_, Some(report)) => judge(run, prove.scenario, report).err(),
        // A killed twin says nothing about the candidate unless the candidate went first.
        (End::Car, None) => Some(ended(car_status, &car_said)),
        (End::Twin, None) => {
            let status = described(twin_status);
            return Err(ProveError::Twin { status, said: last_words(&twin_said) });
        }
    };
    let shortfall = match shortfall {
        // The reason for a broken connection is what the runtime said before it ended.
        Some(Shortfall::Disconnected { .. }) if car_failed(car_status) => {
            Some(ended(car_status, &car_said))
        }
        other => other,
    };
    if shortfall.is_none() && twin_status.and_then(|status| status.code()) != Some(0) {
        let status = described(twin_status);
        return Err(ProveError::Twin { status, said: last_words(&twin_said) });
    }
    let failure = shortfall.map(|shortfall| failure(&shortfall, &files));
    let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(RunProof { run: run.clone(), report, failure, files, isolation, wall_ms })
}

async fn start_twin(
    prove: &Prove<'_>,
    run: &Run,
    root: &Path,
    out: &Path,
    sock: &Path,
) -> Result<Confined, ProveError> {
    let twin = prove.twin.canonicalize();
    let twin = twin.map_err(|source| ProveError::Start {
        program: prove.twin.display().to_string(),
        source,
    })?;
    let libraries = twin_root::lay_out(root, &twin).map_err(file(root, "made"))?;
    let mut binds: Vec<_> =
        libraries.into_iter().map(|(host, inside)| (host, inside, false)).collect();
    binds.push((sock.to_owned(), "/run", true));
    binds.push((out.to_owned(), "/out", true));
    let mut command: Vec<String> = [twin_root::TWIN, "--listen", SOCKET, "--lock-step"]
        .into_iter()
        .chain(["--report", "/out/report.json"])
        .chain(["--trace", "/out/trace.jsonl", "--plot", "/out/plot.svg"])
        .map(str::to_owned)
        .collect();
    for (option, value) in [
        ("--track", run.track.clone()),
        ("--seed", run.seed.to_string()),
        ("--start", run.start.to_string()),
        ("--laps", run.laps.to_string()),
        ("--max-seconds", run.max_seconds.to_string()),
        ("--connect-timeout", CONNECT_SECONDS.to_string()),
    ] {
        command.extend([option.to_owned(), value]);
    }
    if let Some(light) = &run.light {
        command.extend(["--light".to_owned(), light.clone()]);
    }
    let cell = Cell { jail: &prove.jail, root, binds, limits: prove.limits, command };
    let mut twin = Confined::start(cell).await?;
    let listening = twin.line().await.is_some_and(|line| line.contains("\"listening\""));
    twin.ignore_output();
    if listening {
        return Ok(twin);
    }
    let (status, said) = twin.end(GRACE).await;
    Err(ProveError::Twin { status: described(status), said: last_words(&said) })
}

async fn start_car(prove: &Prove<'_>, sock: &Path) -> Result<Confined, ProveError> {
    open_root(prove.rootfs)?;
    let command = [CAR, "drive", "--model", prove.model, "--sim", SOCKET, "--lock-step"];
    let binds = vec![(sock.to_owned(), "/run", false)];
    let (jail, root, limits) = (&*prove.jail, prove.rootfs, prove.limits);
    let mut command = command.map(str::to_owned).to_vec();
    command.extend(library(prove));
    let mut car = Confined::start(Cell { jail, root, binds, limits, command }).await?;
    car.ignore_output();
    Ok(car)
}

/// The option that names the image's ONNX Runtime.
pub(super) fn library(prove: &Prove<'_>) -> Vec<String> {
    let named = prove.onnx_runtime.map(|path| ["--ort-lib".to_owned(), path.to_owned()]);
    named.into_iter().flatten().collect()
}

/// Makes the candidate's root ready for a jail.
pub(super) fn open_root(rootfs: &Path) -> Result<(), ProveError> {
    // The candidate's user has to enter what we may have unpacked for ourselves alone.
    fs::set_permissions(rootfs, fs::Permissions::from_mode(0o755))
        .map_err(file(rootfs, "opened for the candidate"))?;
    // Images need not have these two places; the rest of the root stays as it is.
    for dir in ["run", "tmp"] {
        let dir = rootfs.join(dir);
        if fs::symlink_metadata(&dir).is_err() {
            fs::create_dir(&dir).map_err(file(&dir, "made"))?;
        }
    }
    Ok(())
}

/// Takes the twin's files to the evidence and reads the report.
fn collect(
    out: &Path,
    kept: &Path,
    car_log: PathBuf,
) -> Result<(Files, Option<LapReport>), ProveError> {
    let take = |name: &str, max: u64| {
        let from = out.join(name);
        evidence::keep(&from, &kept.join(name), max).map_err(file(&from, "kept"))
    };
    let (trace, plot) = (take("trace.jsonl", MAX_TRACE)?, take("plot.svg", MAX_TRACE)?);
    let (report_path, report) = match take("report.json", MAX_REPORT)? {
        None => (None, None),
        Some((path, bytes)) => {
            let report = serde_json::from_slice(&bytes).map_err(|error| ProveError::Twin {
                status: "its report cannot be read".into(),
                said: error.to_string(),
            })?;
            (Some(path), Some(report))
        }
    };
    let files = Files {
        report: report_path,
        trace_digest: trace.as_ref().map(|(_, bytes)| Digest::of(bytes)),
        trace: trace.map(|(path, _)| path),
        plot: plot.map(|(path, _)| path),
        car_log: Some(car_log),
    };
    Ok((files, report))
}

fn failure(shortfall: &Shortfall, files: &Files) -> Failure {
    let mut message = shortfall.to_string();
    for (name, path) in [("plot", &files.plot), ("log", &files.car_log)] {
        if let Some(path) = path {
            message = format!("{message}; {name}: {}", path.display());
        }
    }
    Failure { code: shortfall.code().to_owned(), message }
}

fn car_failed(status: Option<ExitStatus>) -> bool {
    status.is_none_or(|status| !status.success())
}

fn ended(status: Option<ExitStatus>, said: &str) -> Shortfall {
    Shortfall::CarEnded { status: described(status), said: last_words(said) }
}

/// How a jailed program ended; the jail passes signals on as 128 plus their number.
pub(super) fn described(status: Option<ExitStatus>) -> String {
    match status.and_then(|status| status.code()) {
        None => "killed".into(),
        Some(124) => "killed after its wall time".into(),
        Some(137) => "killed, out of processor time or memory".into(),
        Some(code @ 129..) => format!("signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
    }
}

pub(super) fn last_words(said: &str) -> String {
    let said = said.trim();
    if said.is_empty() {
        return "it said nothing".into();
    }
    let skip = said.chars().count().saturating_sub(MAX_SAID);
    said.chars().skip(skip).collect()
}

pub(super) fn file(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> ProveError {
    let path = path.to_owned();
    move |source| ProveError::File { path, what, source }
}
