//! The files of a judged run: report, trace, plot. Each appears whole or not at all.

use super::plot;
use super::report::LapReport;
use crate::drive::Drive;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Which files to write.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// The lap report, JSON.
    pub report: Option<PathBuf>,
    /// One JSON object per frame and line.
    pub trace: Option<PathBuf>,
    /// A drawing of the laps, SVG.
    pub plot: Option<PathBuf>,
}

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}; does its folder exist?")]
pub struct WriteError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Outputs {
    /// Writes what was asked for.
    pub fn write(&self, drive: &Drive, report: &LapReport) -> Result<(), WriteError> {
        if let Some(path) = &self.trace {
            let mut lines = Vec::new();
            for point in drive.trace() {
                json(&mut lines, point, path)?;
            }
            whole(path, &lines)?;
        }
        if let Some(path) = &self.plot {
            whole(path, plot::svg(drive, &report.line()).as_bytes())?;
        }
        if let Some(path) = &self.report {
            let mut text = Vec::new();
            json(&mut text, report, path)?;
            whole(path, &text)?;
        }
        Ok(())
    }
}

fn json(out: &mut Vec<u8>, value: &impl serde::Serialize, path: &Path) -> Result<(), WriteError> {
    serde_json::to_writer(&mut *out, value)
        .map_err(|error| WriteError { path: path.into(), source: error.into() })?;
    out.push(b'\n');
    Ok(())
}

/// Writes beside the file, then renames: a reader never sees half of it.
fn whole(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(bytes)?;
        drop(file);
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| WriteError { path: path.into(), source })
}
