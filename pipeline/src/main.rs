//! `pitlane`: makes releases of self-driving cars from git tags.

use std::process::ExitCode;

fn main() -> ExitCode {
    pitlane_pipeline::cli::main()
}
