//! What a base image is made of: packages with their versions, and the files taken out of them.
//!
//! The list comes from the lock of the base (`pipelines/base.lock.yaml`), is checked against the
//! files that are packed, and is kept as an annotation of the base's manifest: the digest of the
//! base, which is in every provenance, covers it, and copies of a layout keep it.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, bail, ensure};
use pitlane_release::{Digest, Platform, yaml};
use serde::{Deserialize, Serialize};

/// The annotation of a base's manifest that holds its parts, JSON.
pub const PARTS: &str = "dev.pitlane.base.parts";
/// Largest lock read (bytes); ours has a twentieth.
const MAX_LOCK: u64 = 1024 * 1024;
/// Most parts of one base.
const MAX_PARTS: usize = 10_000;

/// A package that a base has files of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    /// Where packages of this kind come from.
    pub kind: PartKind,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What distinguishes it from packages of the same version: Debian's architecture and suite,
    /// a wheel's file name.
    pub qualifiers: BTreeMap<String, String>,
    /// Digest of the whole package.
    pub digest: Digest,
    /// Path in the image → digest, of the files that were taken out of it.
    pub files: BTreeMap<String, Digest>,
}

/// Where packages of a kind come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// A Debian package.
    Deb,
    /// A Python wheel.
    Wheel,
}

/// The lock, as far as it is needed here; `scripts/base.py` writes it.
#[derive(Deserialize)]
struct Lock {
    kind: String,
    suite: String,
    platforms: BTreeMap<Platform, Locked>,
}

#[derive(Deserialize)]
struct Locked {
    debian: Vec<Package>,
    wheels: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(rename = "package")]
    name: String,
    version: String,
    sha256: String,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    file: Option<String>,
    files: Vec<Taken>,
}

#[derive(Deserialize)]
struct Taken {
    path: String,
    sha256: String,
}

/// Reads a lock: platform → parts.
pub fn of_lock(file: &Path) -> anyhow::Result<BTreeMap<Platform, Vec<Part>>> {
    let shown = file.display();
    let size = std::fs::metadata(file).with_context(|| format!("{shown}: cannot be read"))?.len();
    ensure!(size <= MAX_LOCK, "{shown}: {size} bytes, at most {MAX_LOCK} are read");
    let text = std::fs::read_to_string(file).with_context(|| format!("{shown}: not text"))?;
    let lock: Lock = yaml::read(&text, text.len()).with_context(|| format!("{shown}: no lock"))?;
    ensure!(lock.kind == "BaseLock", "{shown}: kind `{}`, want BaseLock", lock.kind);
    let platforms = lock.platforms.into_iter().map(|(platform, locked)| {
        let suite = &lock.suite;
        let debs = locked.debian.into_iter().map(|deb| deb.part(PartKind::Deb, suite));
        let wheels = locked.wheels.into_iter().map(|wheel| wheel.part(PartKind::Wheel, suite));
        let parts = debs.chain(wheels).collect::<anyhow::Result<Vec<_>>>();
        anyhow::Ok((platform, parts.with_context(|| format!("{shown}: {platform}"))?))
    });
    platforms.collect()
}

impl Package {
    fn part(self, kind: PartKind, suite: &str) -> anyhow::Result<Part> {
        let digest = |hex: &str| {
            Digest::from_hex(hex).with_context(|| format!("{}: sha256 `{hex}`", self.name))
        };
        let mut qualifiers = BTreeMap::new();
        if let Some(architecture) = &self.architecture {
            qualifiers.insert("arch".into(), architecture.clone());
            qualifiers.insert("distro".into(), suite.to_owned());
        }
        if let Some(file) = &self.file {
            qualifiers.insert("file_name".into(), file.clone());
        }
        let files = self.files.iter().map(|one| Ok((one.path.clone(), digest(&one.sha256)?)));
        Ok(Part {
            kind,
            digest: digest(&self.sha256)?,
            files: files.collect::<anyhow::Result<_>>()?,
            name: self.name,
            version: self.version,
            qualifiers,
        })
    }
}

/// Refuses a list that names a file which is not there, or has other bytes.
pub(super) fn fit<'a>(
    parts: &[Part],
    file: impl Fn(&str) -> Option<&'a [u8]>,
) -> anyhow::Result<()> {
    for part in parts {
        for (path, want) in &part.files {
            match file(path).map(Digest::of) {
                Some(found) if found == *want => {}
                Some(found) => bail!("{path}: {found}, the lock says {want} ({})", part.name),
                None => bail!("{path} of {} is missing; run scripts/base.py", part.name),
            }
        }
    }
    Ok(())
}

/// The annotation that carries parts.
pub(super) fn note(parts: &[Part]) -> serde_json::Result<BTreeMap<String, String>> {
    if parts.is_empty() {
        return Ok(BTreeMap::new());
    }
    Ok(BTreeMap::from([(PARTS.to_owned(), serde_json::to_string(parts)?)]))
}

/// The parts that a base's manifest names; none for a base that does not say.
pub(super) fn of_notes(notes: &BTreeMap<String, String>) -> anyhow::Result<Vec<Part>> {
    let Some(text) = notes.get(PARTS) else { return Ok(Vec::new()) };
    let parts: Vec<Part> =
        serde_json::from_str(text).with_context(|| format!("annotation {PARTS}"))?;
    ensure!(parts.len() <= MAX_PARTS, "annotation {PARTS}: {} parts", parts.len());
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/base.lock.yaml")
    }

    #[test]
    fn the_lock_of_the_base_is_read_whole() {
        let all = of_lock(&lock()).unwrap();
        assert_eq!(all.len(), 2);
        for (platform, parts) in all {
            let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
            assert!(names.contains(&"libc6") && names.contains(&"onnxruntime"), "{names:?}");
            let libc = parts.iter().find(|part| part.name == "libc6").unwrap();
            assert_eq!(libc.qualifiers["arch"], platform.architecture());
            assert!(libc.files.len() >= 7, "{libc:?}");
            let back = of_notes(&note(&parts).unwrap()).unwrap();
            assert_eq!(back, parts);
        }
        let error =
            of_lock(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).unwrap_err();
        assert!(format!("{error:#}").contains("no lock"), "{error:#}");
    }

    #[test]
    fn parts_that_are_not_packed_are_refused() {
        let mut parts = of_lock(&lock()).unwrap().remove(&Platform::LinuxAmd64).unwrap();
        parts.truncate(1);
        parts[0].files = BTreeMap::from([("a".to_owned(), Digest::of(b"a"))]);
        assert!(fit(&parts, |_| Some(b"a")).is_ok());
        let said = fit(&parts, |_| Some(b"b")).unwrap_err().to_string();
        assert!(said.contains("the lock says"), "{said}");
        let said = fit(&parts, |_| None).unwrap_err().to_string();
        assert!(said.contains("is missing"), "{said}");
        let broken = BTreeMap::from([(PARTS.to_owned(), "[{}]".to_owned())]);
        assert!(of_notes(&broken).is_err());
    }
}
