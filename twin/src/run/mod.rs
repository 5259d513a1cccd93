//! Sockets, pacing, and the files a run leaves behind.

pub mod address;
pub mod files;
pub mod host;
pub mod peer;
pub mod plot;
pub mod report;
pub mod session;

use std::io::Write as _;

/// Says a line to people. A closed stderr is no reason to stop driving.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
