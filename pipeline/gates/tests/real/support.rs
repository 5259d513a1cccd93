//! Gates, checkouts and programs of the tests.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use pitlane_gates::{Context, Gate, GateError, GateRun, Gates, Sandbox, sandbox::Plain};
use tempfile::TempDir;

/// The gate of a YAML text.
pub(super) fn gate(yaml: &str) -> Gate {
    let mut gates: Gates = pitlane_release::yaml::read(yaml, 100_000).unwrap();
    gates.check().unwrap();
    gates.0.remove(0)
}

/// A world-readable folder with files in it.
pub(super) fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// A program in a folder.
pub(super) fn program(folder: &Path, name: &str, text: &str) {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a gate in a sandbox.
pub(super) async fn run_in(
    sandbox: &dyn Sandbox,
    gate: &Gate,
    checkout: &Path,
    path: &Path,
) -> Result<GateRun, GateError> {
    let context = Context { sandbox, checkout, root: None, path: path.as_os_str() };
    pitlane_gates::run(gate, context).await
}

/// Runs a gate as a plain process.
pub(super) async fn run(gate: &Gate, checkout: &Path) -> Result<GateRun, GateError> {
    run_in(&Plain, gate, checkout, Path::new("/usr/bin")).await
}

/// A gate that runs a shell script, which writes `report`.
pub(super) fn script(script: &str, format: &str, more: &str) -> Gate {
    let quoted = serde_json::to_string(script).unwrap();
    gate(&format!(
        "- name: script\n  command:\n    argv: [/bin/sh, -c, {quoted}, '{{src}}', '{{work}}']\n    \
         report: {{format: {format}, path: report}}\n{more}"
    ))
}

/// An error with its causes.
pub(super) fn chain(error: &GateError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
