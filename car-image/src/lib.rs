//! Drives a release: the program `pitlane-car` of the car image.
//!
//! It reads camera frames, asks the model in the image what to do, and lets nothing reach the
//! wheels that has not passed the safety gate. What parses a simulator's bytes is public for the
//! fuzz targets; nothing else is.
//!
//! # Modules
//! - deciding, without I/O: [`gate`], [`handshake`], `preprocess`, `pace`, `stats`
//! - bytes from outside: [`protocol`], [`lines`], [`camera`], `model`
//! - acting: `wheels`, `drive`, `driver`, `watch`, `signals`, `link`
//! - commands: `cli`, `selftest`, `bench`

mod bench;
pub mod camera;
mod cli;
mod cpu;
mod drive;
mod driver;
mod files;
pub mod gate;
pub mod handshake;
pub mod lines;
mod link;
mod model;
mod pace;
mod preprocess;
pub mod protocol;
mod quiet;
mod selftest;
mod signals;
mod stats;
mod watch;
mod wheels;

use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser as _};

use cli::{Cli, Command};

/// The program: reads its command line, runs, and says what went wrong.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // If stderr is gone there is nobody left to tell; the exit code still says it.
            let _ = writeln!(std::io::stderr(), "pitlane-car: error: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Drive(args) => drive::run(&args, &quiet::ensure()?),
        Command::Selftest(args) => selftest::run(&args, &quiet::ensure()?),
        Command::Golden(args) => selftest::write_golden(&args, &quiet::ensure()?),
        Command::Bench(args) => bench::run(&args, &quiet::ensure()?),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "pitlane-car",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}
