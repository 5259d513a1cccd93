//! One gate, from its configuration to its outcome: run the program, read its report, judge it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};
use pitlane_release::Digest;

use crate::{
    config::{Gate, ReportFile, ScannerGate},
    decide::{Verdict, decide},
    predicate::{Attestation, Facts, attestations},
    report::{Format, MAX_REPORT, ReportError, parse},
    sandbox::{Ended, Job, Sandbox, SandboxError, Status, Work},
    scanners::{self, Scanner},
    secrets::{SecretsGate, sarif, walk, walk::WalkError},
};

/// Seconds that a scanner may take to say its version.
const VERSION_WALL: u64 = 30;

/// What a gate is given.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where its program runs.
    pub sandbox: &'a dyn Sandbox,
    /// The car repository at the tag's commit; world-readable.
    pub checkout: &'a Path,
    /// For a gate with an `image`: its unpacked root file system, which gets folders to show
    /// things at.
    pub root: Option<&'a Path>,
    /// The folders that scanners are looked for in: the service's `PATH`.
    pub path: &'a std::ffi::OsStr,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("checkout", &self.checkout).finish_non_exhaustive()
    }
}

/// A gate's answer, and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct GateRun {
    /// The gate's name.
    pub gate: String,
    /// The answer.
    pub verdict: Verdict,
    /// Who wrote the report, and the version.
    pub tool: String,
    /// Digest of the report.
    pub report: Digest,
    /// The report as it was written.
    pub bytes: Vec<u8>,
    /// What is to be signed.
    pub attestations: Vec<Attestation>,
    /// How locked up the program was, by the sandbox's word.
    pub isolation: Option<serde_json::Value>,
}

/// Why a gate has no answer: no release, and nobody's fault by itself.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The configuration cannot be used.
    #[error("field `{field}`: {why}")]
    Config {
        /// Which field.
        field: String,
        /// Why.
        why: String,
    },
    /// The program was not run.
    #[error("the program was not run")]
    Sandbox(#[from] SandboxError),
    /// The program's own folder.
    #[error("the gate's folder cannot be used")]
    Work(#[source] std::io::Error),
    /// Its time is over.
    #[error("not finished after {seconds} s; raise limits.wallSeconds. It said: {said}")]
    Time {
        /// How long it was given.
        seconds: u64,
        /// The end of its standard error.
        said: String,
    },
    /// There is no report.
    #[error("{status} and left no report at {}. It said: {said}", path.display())]
    NoReport {
        /// How it ended, in words.
        status: String,
        /// Where the report should be.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
        /// The end of its standard error.
        said: String,
    },
    /// The report is none.
    #[error("its report is no answer")]
    Report(#[from] ReportError),
    /// The scanner is not there, or too old.
    #[error("{0}")]
    Scanner(String),
    /// The checkout could not be read through.
    #[error("the checkout was not read")]
    Walk(#[from] WalkError),
    /// The thread that read it is gone.
    #[error("the scan ended without an answer")]
    Thread,
}

/// What a program left.
struct Left {
    format: Format,
    bytes: Vec<u8>,
    /// How it ended, where its code is a no.
    ended: Option<String>,
    isolation: Option<serde_json::Value>,
}

/// Runs one gate. Dropping the future ends its program.
pub async fn run(gate: &Gate, context: Context<'_>) -> Result<GateRun, GateError> {
    gate.check().map_err(|(field, why)| GateError::Config { field, why })?;
    let started = Timestamp::now();
    let today = started.to_zoned(TimeZone::UTC).date();
    let mut rules = gate.rules.clone();
    let left = if let Some(secrets) = &gate.secrets {
        // What is set aside in our own report is the operator's list.
        rules.accept_set_aside = true;
        look(secrets, gate, context.checkout, today).await?
    } else if let Some(command) = &gate.command {
        let root = None;
        program(gate, context, root, &command.argv, &command.report, &command.exit_codes).await?
    } else if let Some(image) = &gate.image {
        let root = Some(context.root.ok_or_else(|| GateError::Config {
            field: "image".into(),
            why: format!("{} was not unpacked", image.image),
        })?);
        program(gate, context, root, &image.argv, &image.report, &image.exit_codes).await?
    } else {
        let trivy = gate.trivy.as_ref().map(|scanner| (Scanner::Trivy, scanner));
        let grype = gate.grype.as_ref().map(|scanner| (Scanner::Grype, scanner));
        let Some((kind, scanner)) = trivy.or(grype) else {
            return Err(GateError::Config { field: gate.name.clone(), why: "of no kind".into() });
        };
        scan(gate, context, kind, scanner).await?
    };
    let report = parse(left.format, &left.bytes)?;
    let mut verdict = decide(&report, left.format, &rules, today);
    if let Some(ended) = left.ended {
        verdict.fail(ended);
    }
    let facts = Facts {
        gate: &gate.name,
        configuration: gate.digest(),
        format: left.format,
        bytes: &left.bytes,
        report: &report,
        verdict: &verdict,
        started,
        finished: Timestamp::now(),
        isolation: left.isolation.as_ref(),
    };
    let attestations = attestations(&facts);
    Ok(GateRun {
        gate: gate.name.clone(),
        tool: format!("{} {}", report.tool, report.version).trim().to_owned(),
        report: Digest::of(&left.bytes),
        attestations,
        isolation: left.isolation,
        bytes: left.bytes,
        verdict,
    })
}

/// Our own scanner, on a thread that may block.
async fn look(
    secrets: &SecretsGate,
    gate: &Gate,
    checkout: &Path,
    today: jiff::civil::Date,
) -> Result<Left, GateError> {
    let deadline = Instant::now() + Duration::from_secs(gate.limits.wall_seconds);
    let (wanted, root) = (secrets.clone(), checkout.to_owned());
    let scan = tokio::task::spawn_blocking(move || walk(&root, &wanted, deadline));
    let scan = scan.await.map_err(|_| GateError::Thread)??;
    let bytes = sarif(&scan, &secrets.allow, today).to_string().into_bytes();
    Ok(Left { format: Format::Sarif, bytes, ended: None, isolation: None })
}

/// A command of the operator.
async fn program(
    gate: &Gate,
    context: Context<'_>,
    root: Option<&Path>,
    argv: &[String],
    report: &ReportFile,
    codes: &[i32],
) -> Result<Left, GateError> {
    let work = Work::new().map_err(GateError::Work)?;
    let mut job = job(gate, context, &work);
    job.root = root;
    let places = context.sandbox.places(&job);
    let fill =
        |argument: &String| argument.replace("{src}", &places.src).replace("{work}", &places.work);
    job.argv = argv.iter().map(fill).collect();
    let ended = context.sandbox.run(&job).await?;
    finish(&work, gate, &report.path, report.format, ended, codes)
}

/// A scanner that we know the arguments of.
async fn scan(
    gate: &Gate,
    context: Context<'_>,
    kind: Scanner,
    scanner: &ScannerGate,
) -> Result<Left, GateError> {
    let name = kind.name();
    let missing = || {
        GateError::Scanner(format!(
            "{name} is not on the PATH; install it, or name it by `program`"
        ))
    };
    let tool = match &scanner.program {
        Some(program) => program.clone(),
        None => scanners::find(name, context.path).ok_or_else(missing)?,
    };
    if !scanner.database.is_dir() {
        let folder = scanner.database.display();
        return Err(GateError::Scanner(format!("{folder}: the database of {name} is no folder")));
    }
    let work = Work::new().map_err(GateError::Work)?;
    let mut job = job(gate, context, &work);
    (job.tool, job.data) = (Some(&*tool), Some(&*scanner.database));
    let places = context.sandbox.places(&job);

    let mut asked = job.clone();
    asked.argv = kind.version_argv(&places);
    asked.limits.wall_seconds = VERSION_WALL.min(gate.limits.wall_seconds);
    let said = context.sandbox.run(&asked).await?;
    let version = kind.check_version(&String::from_utf8_lossy(&said.stdout));
    version.map_err(GateError::Scanner)?;

    if let Some((file, text)) = kind.file(&places, scanner.offline) {
        work.put(file, &text).map_err(GateError::Work)?;
    }
    job.argv = kind.scan_argv(&places, scanner.offline);
    let ended = context.sandbox.run(&job).await?;
    finish(&work, gate, Path::new(scanners::REPORT), Format::Vuln, ended, &[0])
}

fn job<'a>(gate: &Gate, context: Context<'a>, work: &'a Work) -> Job<'a> {
    Job {
        argv: Vec::new(),
        checkout: context.checkout,
        work: work.path(),
        tool: None,
        data: None,
        root: None,
        limits: gate.limits,
    }
}

/// Reads what a program left.
fn finish(
    work: &Work,
    gate: &Gate,
    path: &Path,
    format: Format,
    ended: Ended,
    codes: &[i32],
) -> Result<Left, GateError> {
    let Ended { status, stderr: said, isolation, .. } = ended;
    let status = match status {
        Status::TimedOut => {
            return Err(GateError::Time { seconds: gate.limits.wall_seconds, said });
        }
        Status::Killed => "it was killed".to_owned(),
        Status::Exited(code) => format!("it ended with code {code}"),
    };
    let bytes = work.read(path, MAX_REPORT).map_err(|source| GateError::NoReport {
        status: status.clone(),
        path: path.to_owned(),
        source,
        said: said.clone(),
    })?;
    let fine = matches!(ended.status, Status::Exited(code) if codes.contains(&code));
    let complaint = if said.is_empty() { String::new() } else { format!(": {said}") };
    let ended = (!fine).then(|| format!("{status}{complaint}"));
    Ok(Left { format, bytes, ended, isolation })
}
