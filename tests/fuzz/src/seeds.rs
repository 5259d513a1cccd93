//! Where seeds come from: `tests/fuzz/seeds/TARGET`, files that the repository has anyway, and
//! the shared data where it is present.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Target;

/// Largest seed: mutating larger ones finds less in the same time (bytes).
const MAX_SEED: u64 = 128 * 1024;
/// Most seeds from one pattern.
const MAX_MATCHES: usize = 60;

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The target's own seeds, then all others; none empty.
pub fn of(target: &Target) -> Vec<Vec<u8>> {
    let root = repository();
    let mut files = matches(&root, &format!("tests/fuzz/seeds/{}/*", target.name));
    for pattern in target.more {
        match pattern.strip_prefix("shared:") {
            None => files.extend(matches(&root, pattern)),
            Some(pattern) => {
                if let Some(shared) = std::env::var_os("PITLANE_SHARED") {
                    files.extend(matches(Path::new(&shared), pattern));
                }
            }
        }
    }
    let small = |file: &PathBuf| fs::metadata(file).is_ok_and(|meta| meta.len() <= MAX_SEED);
    let read = |file: PathBuf| fs::read(file).ok().filter(|bytes| !bytes.is_empty());
    files.into_iter().filter(small).filter_map(read).collect()
}

/// Files that a pattern with at most one `*` names, in order.
fn matches(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![root.join(pattern)];
    };
    let (folder, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let mut found: Vec<PathBuf> = fs::read_dir(root.join(folder))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| match after.strip_prefix('/') {
            Some(rest) => entry.path().join(rest),
            None => entry.path(),
        })
        .filter(|path| path.is_file() && path.to_string_lossy().ends_with(after))
        .collect();
    found.sort();
    found.truncate(MAX_MATCHES);
    found
}
