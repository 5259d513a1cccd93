//! Secrets that configurations name: files that nobody else may read.

use std::path::Path;

use anyhow::{Context as _, bail};

/// Whether others may read or change a secret's file. Root's may be read by a group of ours, while
/// we are another user: so a cluster hands secrets to a program.
pub(crate) fn open_to_others(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let handed = meta.uid() == 0 && !nix::unistd::Uid::effective().is_root();
    meta.mode() & if handed { 0o037 } else { 0o077 } != 0
}

/// Reads a secret from a file that nobody else may read.
pub fn read_secret(path: &Path) -> anyhow::Result<zeroize::Zeroizing<String>> {
    use std::os::unix::fs::MetadataExt as _;
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("{shown}: cannot be read"))?;
    let meta = file.metadata()?;
    if open_to_others(&meta) {
        bail!(
            "{shown}: others may read this secret (mode {:o}); run chmod 600 {shown}",
            meta.mode() & 0o777
        );
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    std::io::Read::read_to_string(&mut std::io::Read::take(file, 64 * 1024), &mut text)?;
    let end = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(end);
    Ok(text)
}
