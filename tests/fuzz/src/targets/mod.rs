//! The targets, one file for each part of the lane.

#![expect(clippy::unwrap_used, reason = "a target ends where something does not hold")]

mod admission;
mod car;
mod cluster;
mod device;
mod drills;
mod fetch;
mod files;
mod gates;
mod images;
mod keys;
mod layers;
mod legacy;
mod model;
mod names;
mod parts;
mod registry;
mod services;
mod signatures;
mod signer;
mod twin;
mod webhook;

use crate::Target;

/// All targets, in the order of `docs/fuzzing.md`.
pub fn all() -> impl Iterator<Item = Target> {
    let groups: [&[Target]; 20] = [
        names::TARGETS,
        images::TARGETS,
        signatures::TARGETS,
        legacy::TARGETS,
        admission::TARGETS,
        cluster::TARGETS,
        files::TARGETS,
        gates::TARGETS,
        parts::TARGETS,
        keys::TARGETS,
        signer::TARGETS,
        services::TARGETS,
        webhook::TARGETS,
        registry::TARGETS,
        fetch::TARGETS,
        model::TARGETS,
        layers::TARGETS,
        device::TARGETS,
        car::TARGETS,
        twin::TARGETS,
    ];
    groups.into_iter().flatten().copied()
}

/// A target by its name; also those that break on purpose ([`drills`]).
pub fn find(name: &str) -> Option<Target> {
    all().chain(drills::TARGETS.iter().copied()).find(|target| target.name == name)
}

/// The text of an input that must be one.
fn text(input: &[u8]) -> &str {
    // The parsers of text are given text; the rest of the input still is.
    match std::str::from_utf8(input) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&input[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// Runs a future to its end, on one runtime for the whole process.
fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: std::sync::LazyLock<tokio::runtime::Runtime> = std::sync::LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("a runtime can be started")
    });
    RUNTIME.block_on(future)
}

/// A folder for the whole process, emptied and made again for each input. In memory where the
/// machine has such a place: what is durable there takes no time.
fn fresh_folder() -> std::path::PathBuf {
    static PLACE: std::sync::LazyLock<tempfile::TempDir> = std::sync::LazyLock::new(|| {
        tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .expect("a temporary folder can be made")
    });
    let folder = PLACE.path().join("input");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a folder can be made");
    folder
}
