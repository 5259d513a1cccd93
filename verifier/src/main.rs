//! `pitlane-verifier`: refuses everything that is not provably ours.

use std::process::ExitCode;

fn main() -> ExitCode {
    pitlane_verifier::cli::main()
}
