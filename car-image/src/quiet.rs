//! Keeps ONNX Runtime from phoning home.
//!
//! The official library reports usage over the network since 1.29, on Linux too, unless
//! `ORT_DISABLE_TELEMETRY=1` is in the environment before it is loaded; its own switch for this
//! comes too late. The image sets the variable, an orchestrator may drop it, and a running
//! program cannot safely change its environment: so it starts itself again with the variable.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// The variable that the library reads.
pub(crate) const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Proof that the variable was in force when this process started; loading the library asks
/// for it.
#[derive(Debug)]
pub(crate) struct Quiet(());

/// Why the program could not be started again.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}=1 is not set and the program cannot restart itself with it: set it")]
pub(crate) struct QuietError(#[source] std::io::Error);

/// Returns at once when the variable is in force; else replaces this process by itself with it.
pub(crate) fn ensure() -> Result<Quiet, QuietError> {
    if std::env::var_os(VARIABLE).is_some_and(|value| value == "1") {
        return Ok(Quiet(()));
    }
    let program = std::env::current_exe().map_err(QuietError)?;
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // `exec` only returns when it failed. No loop: the new process finds the variable.
    Err(QuietError(again.args(arguments).env(VARIABLE, "1").exec()))
}
