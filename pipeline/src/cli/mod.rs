//! The command line of `pitlane`.
//!
//! stdout is data, stderr is talk. Exit codes: 0 done, 1 could not be done, 2 usage, 10 refused.

mod attest;
mod base;
mod hook;
mod init;
mod keys;
mod model;
mod release;
mod reproduce;
mod run_id;
mod runs;
mod serve;
mod sign_bundle;
mod signer;
mod store;
mod trust;

pub use serve::ServiceFile;

use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    lane::StepError,
    prove::jail,
    registry,
    telemetry::{Exporting, TARGET},
};

/// Turns git tags of car repositories into signed, proven car images.
#[derive(Debug, Parser)]
#[command(
    name = "pitlane",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  pitlane keys generate --out keys             a key pair to sign with
  pitlane release --pipeline pipelines/donkeycar.yaml --repo . --tag v1.0.0
  pitlane serve --config pitlane.yaml          the webhook service
  pitlane rollback v1.0.0                      a new statement over an old image
  pitlane reproduce IMAGE --base … --runtime … --key …   the same digests, built elsewhere"
)]
struct Cli {
    /// How much to tell on stderr: error, warn, info, debug, or a filter.
    #[arg(long, global = true, env = "PITLANE_LOG", default_value = "info")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a pipeline file, a policy and keys for your own repository.
    Init(init::Args),
    /// Run the service: webhook, embedded registry, API.
    Serve(serve::Args),
    /// Make one release now, without a service.
    Release(release::Args),
    /// Look at the runs of a service, and retry them.
    Runs(runs::Args),
    /// Go back to an older release: a new statement over its image.
    Rollback(runs::RollbackArgs),
    /// Cars that tell how releases stand on them.
    Cars(runs::CarsArgs),
    /// Build a release again from its provenance, and compare digests.
    Reproduce(reproduce::Args),
    /// Write a release's model and its signature into a folder.
    Model(model::Args),
    /// Sign a statement and attach it to an image.
    Attest(attest::Args),
    /// Sign a file keylessly, into a sigstore bundle.
    SignBundle(sign_bundle::Args),
    /// Hold a key, and sign statements for a service on this machine.
    Signer(signer::Args),
    /// Make keys, take over keys, print public halves.
    Keys(keys::Args),
    /// Pack root file systems into the base layout of car images.
    Base(base::Args),
    /// The embedded registry alone.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Copy the service's store, put a copy back, change its version.
    Store(store::Args),
    /// Connect a plain git server.
    Hook(hook::Args),
    /// Check pipeline files and what they name.
    Config(serve::ConfigArgs),
    /// The entry point of locked-down processes.
    #[command(hide = true)]
    Jail(jail::JailArgs),
    /// Print a completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum RegistryCommand {
    /// Serve images from a folder.
    Serve(registry::cli::ServeArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before any thread is started: the jail changes what this process is.
    if let Command::Jail(args) = cli.command {
        return match jail::jail_main(&args) {
            Ok(never) => match never {},
            Err(error) => report(&error),
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let exporting = subscribe(&cli, runtime.handle())?;
        let outcome = runtime.block_on(run(cli.command));
        if let Some(exporting) = exporting {
            exporting.stop();
        }
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Sets up the log on stderr, and traces where the service's configuration says so.
fn subscribe(cli: &Cli, runtime: &tokio::runtime::Handle) -> anyhow::Result<Option<Exporting>> {
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|_| EnvFilter::new("info"));
    // Spans for traces are not for the log.
    let filter = filter.add_directive(format!("{TARGET}=off").parse()?);
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .with_filter(filter);
    let telemetry = match &cli.command {
        Command::Serve(args) => args.telemetry(),
        _ => None,
    };
    let started = telemetry.map(|to| Exporting::start(&to, runtime.clone())).transpose()?;
    let (exporting, spans_to) = started.unzip();
    let traces = spans_to.map(|tracer| {
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false);
        layer
            .with_threads(false)
            .with_target(false)
            .with_filter(filter_fn(|meta| meta.target() == TARGET))
    });
    tracing_subscriber::registry().with(log).with(traces).init();
    Ok(exporting)
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(&args),
        Command::Serve(args) => serve::run(args).await,
        Command::Release(args) => release::run(args).await,
        Command::Runs(args) => runs::run(args).await,
        Command::Rollback(args) => runs::rollback(args).await,
        Command::Cars(args) => runs::cars(args).await,
        Command::Reproduce(args) => reproduce::run(args).await,
        Command::Model(args) => model::run(args).await,
        Command::Attest(args) => attest::run(args).await,
        Command::SignBundle(args) => sign_bundle::run(args).await,
        Command::Signer(args) => signer::run(args).await,
        Command::Keys(args) => keys::run(args),
        Command::Base(args) => base::run(args),
        Command::Registry(RegistryCommand::Serve(args)) => registry::cli::serve(args).await,
        Command::Store(args) => store::run(args).await,
        Command::Hook(args) => hook::run(args).await,
        Command::Config(args) => serve::check(args).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "pitlane", &mut std::io::stdout());
            Ok(())
        }
        Command::Jail(_) => unreachable!("handled before the threads were started"),
    }
}

/// Tells what went wrong and what to do; gives the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "error: {error:#}");
    let step = error.downcast_ref::<StepError>();
    if let Some(step) = step {
        let _ = writeln!(stderr, "hint: {}", step.hint);
    }
    match step {
        Some(step) if step.refused => ExitCode::from(10),
        _ => ExitCode::FAILURE,
    }
}

/// Prints a value as JSON on stdout.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value)?;
    writeln!(stdout)?;
    Ok(())
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}
