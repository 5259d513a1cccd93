//! `pitlane-fuzz`: tries mutated inputs on the parsers of strangers' bytes.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use pitlane_fuzz::{
    Target, child,
    parent::{self, End},
    targets,
};

/// Try mutated inputs on the parsers of strangers' bytes.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the targets.
    List,
    /// Run targets, one process after the other; without names, all of them.
    Run {
        /// Their names.
        targets: Vec<String>,
        /// Seconds for each.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// Where the random numbers start.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Where inputs that break something are put.
        #[arg(long, default_value = "target/fuzz")]
        keep: PathBuf,
    },
    /// Try one input again, in this process and within the same limits.
    Repeat {
        /// The target.
        target: String,
        /// The input.
        input: PathBuf,
    },
    /// What `run` starts.
    #[command(hide = true)]
    Child {
        /// The target.
        target: String,
        /// Takes each input before it is tried.
        #[arg(long)]
        current: PathBuf,
        /// For how long.
        #[arg(long)]
        seconds: f64,
        /// Where the random numbers start.
        #[arg(long)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "pitlane-fuzz: error: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn target(name: &str) -> anyhow::Result<Target> {
    targets::find(name).with_context(|| format!("no target `{name}`: see pitlane-fuzz list"))
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List => {
            for target in targets::all() {
                writeln!(io::stdout(), "{}", target.name)?;
            }
        }
        Command::Run { targets, seconds, seed, keep } => {
            let time = Duration::try_from_secs_f64(seconds)?;
            let mut names = targets;
            if names.is_empty() {
                names = targets::all().map(|target| target.name.to_owned()).collect();
            }
            let mut broken = 0;
            for name in &names {
                target(name)?;
                match parent::run(&std::env::current_exe()?, name, time, seed, &keep)? {
                    End::Well(said) => write!(io::stdout(), "{said}")?,
                    End::Broken { how, input } => {
                        broken += 1;
                        let input = input.display();
                        writeln!(io::stdout(), "{name}: BROKEN by {input}: {how}")?;
                        writeln!(io::stdout(), "again: pitlane-fuzz repeat {name} {input}")?;
                    }
                }
            }
            if broken > 0 {
                return Ok(ExitCode::from(10));
            }
        }
        Command::Repeat { target: name, input } => {
            let bytes = fs::read(&input).with_context(|| input.display().to_string())?;
            let current = tempfile::NamedTempFile::new()?;
            child::repeat(&target(&name)?, current.path(), bytes)?;
        }
        Command::Child { target: name, current, seconds, seed } => {
            let time = Duration::try_from_secs_f64(seconds)?;
            child::fuzz(&target(&name)?, &current, time, seed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
