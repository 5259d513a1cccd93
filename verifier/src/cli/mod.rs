//! The command line of `pitlane-verifier`.
//!
//! Exit codes: 0 admitted, 1 could not decide, 2 usage, 10 refused. stdout is data.

mod admit;
mod agent;
mod check;
mod policy;
mod verify_bundle;

use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "pitlane-verifier",
    version,
    propagate_version = true,
    after_help = "\
Exit codes: 0 admitted, 1 could not decide, 2 usage, 10 refused (code in the JSON).

Examples:
  pitlane-verifier check 127.0.0.1:5000/team/donkeycar:v1.0.0 --policy policies/donkeycar.yaml \\
      --key keys/release.pub
  pitlane-verifier agent --config /etc/pitlane/car.yaml
  pitlane-verifier admit --policy policies/ --tls-cert tls.crt --tls-key tls.key
  pitlane-verifier status --state /var/lib/pitlane"
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
    /// Judge an image by a policy.
    Check(check::Args),
    /// Help with writing a policy: lint, explain, test.
    Policy(policy::Args),
    /// Verify a sigstore bundle, offline.
    VerifyBundle(verify_bundle::Args),
    /// Run on the car: watch, admit, start, confirm.
    Agent(agent::Args),
    /// Admit only what the policies admit: Kubernetes' webhooks.
    Admit(Box<admit::Args>),
    /// What the car drives, what it refused, and its floor.
    Status(agent::StatusArgs),
    /// Print a completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::VerifyBundle(args) => verify_bundle::run(&args),
        Command::Agent(args) => {
            log(&cli.log);
            agent::run(&args)
        }
        Command::Admit(args) => {
            log(&cli.log);
            admit::run(*args)
        }
        Command::Status(args) => agent::status(&args),
        Command::Completions { shell } => {
            let mut stdout = std::io::stdout();
            clap_complete::generate(shell, &mut Cli::command(), "pitlane-verifier", &mut stdout);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn log(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Prints a value as JSON on stdout.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value)?;
    writeln!(stdout)?;
    Ok(())
}
