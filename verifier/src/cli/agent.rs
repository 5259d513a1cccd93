//! `pitlane-verifier agent` and `status`.

use std::{
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::Context as _;

use super::Output;
use crate::agent::{Agent, config::CarFile, diary};

/// Run on the car: watch, admit, start, confirm.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needs root on Linux, and crun or runc. What drives keeps driving through every refusal and error.

Example:
  pitlane-verifier agent --config /etc/pitlane/car.yaml")]
pub(super) struct Args {
    /// The car's configuration (docs/car.md).
    #[arg(long, env = "PITLANE_CAR", default_value = "/etc/pitlane/car.yaml")]
    config: PathBuf,
}

/// What the car drives, what it refused, and its floor.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// The car's state directory.
    #[arg(long, default_value = "/var/lib/pitlane")]
    state: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut agent = Agent::open(CarFile::load(&args.config)?)?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let signals = async move {
            let mut terminate =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                _ = terminate.recv() => {}
                result = tokio::signal::ctrl_c() => result?,
            }
            flag.store(true, std::sync::atomic::Ordering::Relaxed);
            std::io::Result::Ok(())
        };
        let signals = tokio::spawn(signals);
        agent.run(&stop).await;
        signals.abort();
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let path = args.state.join(diary::FILE);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("{}: is the agent running here?", path.display()))?;
    let diary: diary::Diary = serde_json::from_slice(&bytes)?;
    if args.output == Output::Json {
        super::print_json(&diary)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut stdout = std::io::stdout().lock();
    match &diary.driving {
        Some(driving) => {
            let word = if driving.confirmed { "confirmed" } else { "on trial" };
            writeln!(stdout, "drives   release {} ({word}) {}", driving.counter, driving.image)?;
        }
        None => writeln!(stdout, "drives   nothing")?,
    }
    writeln!(stdout, "floor    {}", diary.floor)?;
    for decision in &diary.decisions {
        writeln!(stdout, "{} {:<18} {}", decision.at, decision.outcome, decision.message)?;
    }
    Ok(ExitCode::SUCCESS)
}
