//! Whether a started car drives: its status file, judged by the agent's own clock.
//!
//! The file comes from inside the container, so it is bounded and never followed through links.
//! Fresh means that it *changed* within a span of our monotonic clock: a car's wall clock may
//! step, and the program could set any time on its file.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Largest status file read.
const MAX_STATUS: u64 = 64 * 1024;
/// A status is written about once a second; several lost in a row mean that nobody writes.
pub const STALE: Duration = Duration::from_secs(5);

/// What the car program says of itself (`--status`); further fields are allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CarStatus {
    /// What it does.
    pub state: CarState,
    /// Frames driven since its start.
    pub frames: u64,
    /// Control loop rate in Hz.
    #[serde(default)]
    pub loop_hz: f64,
    /// 99th percentile from frame to control, in milliseconds.
    #[serde(default)]
    pub latency_p99_ms: f64,
    /// Why it stopped the car how often.
    #[serde(default)]
    pub gate: serde_json::Value,
}

/// What the car program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CarState {
    /// Not driving yet.
    Starting,
    /// Driving.
    Driving,
    /// Not driving any more.
    Stopped,
}

/// A container, seen from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// It runs and has not said anything yet, for this long.
    Quiet(Duration),
    /// It runs and its status is fresh; whether it drives is in there.
    Reporting(CarStatus),
    /// Its status did not change for this long.
    Stale(Duration),
    /// Its status file cannot be read as one.
    Garbled(String),
    /// It ended.
    Exited(super::running::Exit),
}

impl Health {
    /// Whether it drives now.
    pub fn drives(&self) -> bool {
        matches!(self, Self::Reporting(CarStatus { state: CarState::Driving, .. }))
    }
}

/// Watches one status file.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    since: Instant,
    last: Option<(Stamp, CarStatus)>,
}

/// Inode, modification time and length: what a rewrite changes.
type Stamp = (u64, i64, i64, u64);

impl Watch {
    pub(super) fn new(path: PathBuf, now: Instant) -> Self {
        Self { path, since: now, last: None }
    }

    /// Looks at the file.
    pub(super) fn look(&mut self, now: Instant) -> Health {
        match self.read() {
            Ok(Some((stamp, status))) => {
                if self.last.as_ref().is_none_or(|(last, _)| *last != stamp) {
                    self.last = Some((stamp, status));
                    self.since = now;
                }
            }
            Ok(None) => {}
            Err(error) => return Health::Garbled(error.to_string()),
        }
        let age = now.saturating_duration_since(self.since);
        match &self.last {
            None => Health::Quiet(age),
            Some(_) if age > STALE => Health::Stale(age),
            Some((_, status)) => Health::Reporting(status.clone()),
        }
    }

    fn read(&self) -> io::Result<Option<(Stamp, CarStatus)>> {
        // Not blocking: a pipe in its place would hang the agent.
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() > MAX_STATUS {
            return Err(io::Error::other(format!(
                "status is no file of at most {MAX_STATUS} bytes"
            )));
        }
        let mut bytes = Vec::new();
        file.take(MAX_STATUS).read_to_end(&mut bytes)?;
        let status = serde_json::from_slice(&bytes)?;
        Ok(Some(((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()), status)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_status_is_fresh_only_while_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let start = Instant::now();
        let mut watch = Watch::new(path.clone(), start);
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(watch.look(at(2)), Health::Quiet(Duration::from_secs(2)));
        let write = |state: &str, frames: u64| {
            let text = format!(r#"{{"state":"{state}","frames":{frames},"loop_hz":20.0,"new":1}}"#);
            fs::write(dir.path().join("t"), text).unwrap();
            fs::rename(dir.path().join("t"), &path).unwrap();
        };
        write("starting", 0);
        let health = watch.look(at(3));
        assert!(matches!(health, Health::Reporting(_)) && !health.drives());
        write("driving", 10);
        assert!(watch.look(at(4)).drives());
        assert!(watch.look(at(9)).drives());
        assert_eq!(watch.look(at(10)), Health::Stale(Duration::from_secs(6)));
        write("driving", 200);
        assert!(watch.look(at(11)).drives());
    }

    #[test]
    fn what_a_hostile_container_puts_there_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let mut watch = Watch::new(path.clone(), Instant::now());
        let mut garbled = || matches!(watch.look(Instant::now()), Health::Garbled(_));
        fs::write(&path, r#"{"state":"flying","frames":1}"#).unwrap();
        assert!(garbled());
        fs::write(&path, vec![b' '; 70_000]).unwrap();
        assert!(garbled());
        fs::remove_file(&path).unwrap();
        fs::write(dir.path().join("real"), r#"{"state":"driving","frames":1}"#).unwrap();
        std::os::unix::fs::symlink("real", &path).unwrap();
        assert!(garbled());
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(garbled());
    }
}
