//! `pitlane-verifier policy lint|explain|test`: help with writing a policy.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use pitlane_fetch::Names;
use pitlane_release::policy::{Lint, explain, lint};
use serde::Serialize;

use super::Output;
use crate::cases::Cases;

/// Help with writing a policy.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read a policy, and say what it allows that may not be meant.
    #[command(after_help = "\
Exit codes: 0 usable, 1 not usable, 10 with --strict: something to think about.

Example:
  pitlane-verifier policy lint policies/donkeycar.yaml --key keys/release.pub")]
    Lint {
        #[command(flatten)]
        policy: PolicyArgs,
        /// End with 10 when there is anything to think about.
        #[arg(long)]
        strict: bool,
    },
    /// Say in plain words what a policy asks for.
    Explain {
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Judge the images of a file of cases, and compare with what is wanted.
    #[command(after_help = "\
A file of cases (docs/policy.md):
  cases:
    - image: r.example/team/car:v1
      want: admitted            # or warned, or a refusal's code: unsigned, rollback, no-lap …
    - image: r.example/other/car:v1
      want: not-covered         # judged by the name alone; nothing is fetched (also: covered)
    - image: r.example/team/car@sha256:…
      layout: testdata/car      # an OCI layout, relative to this file, instead of the registry
      platform: linux/arm64
      floor: 3
      at: 2026-01-01T00:00:00Z
      want: expired

Exit codes: 0 all as wanted, 10 something else, 1 could not decide.")]
    Test {
        #[command(flatten)]
        policy: PolicyArgs,
        /// The cases.
        #[arg(long, value_name = "FILE")]
        cases: PathBuf,
        /// A registry (HOST:PORT) to speak plain HTTP to; those on loopback always are.
        #[arg(long)]
        plain_http: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct PolicyArgs {
    /// The policy.
    policy: PathBuf,
    /// A public key that the policy only names: FILE, or NAME=FILE; may be repeated.
    #[arg(long)]
    key: Vec<String>,
    /// A trusted root that the policy names: FILE, or NAME=FILE; may be repeated.
    #[arg(long, value_name = "FILE")]
    trusted_root: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl PolicyArgs {
    fn names(&self) -> Names {
        let mut names = Names::default();
        self.key.iter().for_each(|key| names.add_key(key));
        self.trusted_root.iter().for_each(|root| names.add_root(root));
        names
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Lint { policy, strict } => lints(policy, *strict),
        Command::Explain { policy } => {
            let parsed = policy.names().policy(&policy.policy)?.0;
            let lines = explain(&parsed);
            match policy.output {
                Output::Json => super::print_json(&lines)?,
                Output::Text => writeln!(std::io::stdout().lock(), "{}", lines.join("\n"))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Test { policy, cases, plain_http } => {
            let parsed = policy.names().policy(&policy.policy)?.0;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let results = runtime.block_on(Cases::load(cases)?.run(&parsed, plain_http))?;
            match policy.output {
                Output::Json => super::print_json(&results)?,
                Output::Text => {
                    let text: String = results.iter().map(|result| result.line() + "\n").collect();
                    std::io::stdout().lock().write_all(text.as_bytes())?;
                }
            }
            let all = results.iter().all(|result| result.right);
            Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(10) })
        }
    }
}

#[derive(Serialize)]
struct Found<'a> {
    version: u32,
    policy: &'a str,
    lints: &'a [Lint],
}

fn lints(args: &PolicyArgs, strict: bool) -> anyhow::Result<ExitCode> {
    let policy = args.names().policy(&args.policy)?.0;
    let found = lint(&policy);
    match args.output {
        Output::Json => {
            super::print_json(&Found { version: 1, policy: &policy.name, lints: &found })?;
        }
        Output::Text => {
            let mut stdout = std::io::stdout().lock();
            for Lint { code, field, what, hint } in &found {
                writeln!(stdout, "{code}: {field}: {what}\n  hint: {hint}")?;
            }
            writeln!(stdout, "{}: usable, {} to think about", args.policy.display(), found.len())?;
        }
    }
    Ok(if strict && !found.is_empty() { ExitCode::from(10) } else { ExitCode::SUCCESS })
}
