//! Evidence on the car's disk: what a release was admitted by, so that it can be judged again at
//! every start, without a network. Nothing in the file is trusted; it is judged like any other.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use pitlane_release::{Digest, Evidence, PinnedImage};
use serde::{Deserialize, Serialize};

/// Largest file read (bytes): manifests, a config and a few bundles.
const MAX_FILE: u64 = 64 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Saved {
    requested: PinnedImage,
    top: String,
    manifest: Option<String>,
    config: Option<String>,
    statements: Vec<String>,
    named: BTreeMap<Digest, String>,
}

fn path(dir: &Path, statement: &Digest) -> PathBuf {
    dir.join(format!("{}.json", statement.hex()))
}

/// Keeps the evidence that a statement goes with.
pub fn save(dir: &Path, statement: &Digest, evidence: &Evidence) -> anyhow::Result<()> {
    let text = |bytes: &[u8]| hex::encode(bytes);
    let list = |all: &[Vec<u8>]| all.iter().map(|bytes| text(bytes)).collect::<Vec<_>>();
    let own = [evidence.statements.as_slice(), evidence.bundles.as_slice()].concat();
    let own: Vec<Vec<u8>> = own.into_iter().filter(|b| Digest::of(b) == *statement).collect();
    let saved = Saved {
        requested: evidence.requested.clone(),
        top: text(&evidence.top),
        manifest: evidence.manifest.as_deref().map(text),
        config: evidence.config.as_deref().map(text),
        statements: list(&own),
        named: evidence.named.iter().map(|(digest, bytes)| (*digest, text(bytes))).collect(),
    };
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut file, &saved)?;
    file.flush()?;
    file.as_file().sync_all()?;
    file.persist(path(dir, statement))?;
    Ok(fs::File::open(dir)?.sync_all()?)
}

/// Reads it back.
pub fn load(dir: &Path, statement: &Digest) -> anyhow::Result<Evidence> {
    let path = path(dir, statement);
    let file = fs::File::open(&path).with_context(|| path.display().to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    let saved: Saved =
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
    let named = saved.named.iter().map(|(digest, text)| Ok((*digest, hex::decode(text)?)));
    Ok(Evidence {
        requested: saved.requested,
        top: hex::decode(saved.top)?,
        manifest: saved.manifest.map(hex::decode).transpose()?,
        config: saved.config.map(hex::decode).transpose()?,
        bundles: Vec::new(),
        legacy: Vec::new(),
        statements: saved.statements.iter().map(hex::decode).collect::<Result<_, _>>()?,
        named: named.collect::<anyhow::Result<_>>()?,
    })
}

/// Drops what belongs to none of these statements.
pub fn prune(dir: &Path, keep: &[Digest]) {
    let names: Vec<String> = keep.iter().map(|digest| format!("{}.json", digest.hex())).collect();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !names.iter().any(|name| entry.file_name().to_str() == Some(name)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
