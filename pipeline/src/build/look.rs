//! What can be known of a built image without running it: its distribution, its packages, and whether
//! it has a runtime. Read from the layers as a stranger's bytes: bounded, nothing unpacked.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek as _},
};

use pitlane_release::{Digest, oci::LAYER_GZIP};

use crate::assemble::{
    Blob, Place,
    crates::{self, Crate},
    image::{MAX_RUNTIME, RUNTIME},
    origin::{Package, System},
};

/// dpkg's list of packages.
const STATUS: &str = "var/lib/dpkg/status";
/// Where os-release may be; the first is a link to the second as a rule.
const RELEASES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// Largest of these files (bytes).
const MAX_STATUS: u64 = 16 * 1024 * 1024;
const MAX_RELEASE: u64 = 64 * 1024;
/// Most packages that are listed; a desktop has some 3000.
pub const MAX_PACKAGES: usize = 3000;
/// Longest name or version that is taken (bytes).
const MAX_WORD: usize = 200;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) system: Option<System>,
    pub(super) packages: Vec<Package>,
    /// Digest of the runtime, and its crates.
    pub(super) runtime: Option<(Digest, Vec<Crate>)>,
}

/// Looks through the layers from the lowest to the highest.
pub(super) fn through(layers: &[Blob]) -> io::Result<Found> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for layer in layers {
        let gzip = layer.descriptor.media_type == LAYER_GZIP;
        match &layer.place {
            // What is not wanted is jumped over, not read.
            Place::File { path } if !gzip => {
                let mut file = std::fs::File::open(path)?;
                file.rewind()?;
                let mut archive = tar::Archive::new(file);
                take(archive.entries_with_seek()?, &mut files)?;
            }
            _ => {
                let reader = layer.open()?;
                let reader: Box<dyn Read> = match gzip {
                    true => Box::new(flate2::read::MultiGzDecoder::new(reader)),
                    false => reader,
                };
                let mut archive = tar::Archive::new(reader);
                take(archive.entries()?, &mut files)?;
            }
        }
    }
    let text = |name: &str| files.get(name).map(|bytes| String::from_utf8_lossy(bytes));
    let runtime = files.get(&RUNTIME[1..]).map(|bytes| {
        // A list that cannot be read is none: the file is a stranger's.
        (Digest::of(bytes), crates::of(bytes).unwrap_or_default())
    });
    Ok(Found {
        system: RELEASES.iter().find_map(|name| system(&text(name)?)),
        packages: text(STATUS).map(|text| packages(&text)).unwrap_or_default(),
        runtime,
    })
}

/// Takes the wanted files of a layer, and what it takes away of lower ones.
fn take<R: Read>(
    entries: tar::Entries<'_, R>,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> io::Result<()> {
    // What a layer takes away is of lower layers, wherever in the layer it says so.
    let mut own: Vec<String> = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path_bytes();
        let Ok(path) = std::str::from_utf8(&path) else { continue };
        let name = path.trim_start_matches("./").trim_matches('/').to_owned();
        let (folder, last) = name.rsplit_once('/').unwrap_or(("", &name));
        let below = |path: &str, top: &str| {
            top.is_empty() || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
        };
        if last == ".wh..wh..opq" {
            files.retain(|path, _| own.contains(path) || !below(path, folder));
        } else if let Some(gone) = last.strip_prefix(".wh.") {
            let gone = if folder.is_empty() { gone.to_owned() } else { format!("{folder}/{gone}") };
            files.retain(|path, _| own.contains(path) || (*path != gone && !below(path, &gone)));
        } else if let Some(max) = wanted(&name) {
            let mut bytes = Vec::new();
            if entry.header().entry_type().is_file() && entry.size() <= max {
                entry.take(max).read_to_end(&mut bytes)?;
                own.push(name.clone());
                files.insert(name, bytes);
            } else {
                files.remove(&name);
            }
        }
    }
    Ok(())
}

/// The largest that a file may be to be looked at; none for those that are not.
fn wanted(name: &str) -> Option<u64> {
    match name {
        STATUS => Some(MAX_STATUS),
        name if RELEASES.contains(&name) => Some(MAX_RELEASE),
        name if name == &RUNTIME[1..] => Some(MAX_RUNTIME),
        _ => None,
    }
}

/// `ID` and `VERSION_ID` of os-release(5).
fn system(text: &str) -> Option<System> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        word(line.trim().trim_matches(['"', '\'']))
    };
    Some(System { id: value("ID")?, version: value("VERSION_ID").unwrap_or_default() })
}

/// The installed ones of dpkg's list (deb-control(5), dpkg-query(1)).
pub fn packages(text: &str) -> Vec<Package> {
    let paragraphs = text.split("\n\n").filter_map(|paragraph| {
        let value = |key: &str| {
            let mut lines = paragraph.lines();
            word(lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim())
        };
        let installed = paragraph.lines().any(|line| line == "Status: install ok installed");
        if !installed {
            return None;
        }
        let (name, version, arch) = (value("Package")?, value("Version")?, value("Architecture")?);
        Some(Package { name, version, arch })
    });
    paragraphs.take(MAX_PACKAGES).collect()
}

/// A name or version that can be shown.
fn word(text: &str) -> Option<String> {
    let fits =
        !text.is_empty() && text.len() <= MAX_WORD && text.chars().all(|c| c.is_ascii_graphic());
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::layer::{Entry, EntryContent, write_tar};

    fn layer(dir: &std::path::Path, number: usize, files: &[(&str, &str)]) -> Blob {
        let entries: Vec<Entry<'_>> = files
            .iter()
            .map(|(path, text)| Entry {
                path,
                mode: 0o644,
                content: EntryContent::Bytes(text.as_bytes()),
            })
            .collect();
        let mut bytes = Vec::new();
        write_tar(&entries, &mut bytes).unwrap();
        let path = dir.join(number.to_string());
        std::fs::write(&path, &bytes).unwrap();
        let descriptor =
            pitlane_release::oci::Descriptor::of(pitlane_release::oci::LAYER_TAR, &bytes);
        Blob { descriptor, place: Place::File { path } }
    }

    const ONE: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n\n\
         Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n";

    #[test]
    fn the_highest_layer_counts() {
        let dir = tempfile::tempdir().unwrap();
        let make = |layers: &[&[(&str, &str)]]| {
            let layers: Vec<Blob> =
                layers.iter().enumerate().map(|(n, files)| layer(dir.path(), n, files)).collect();
            through(&layers).unwrap()
        };
        let base: &[(&str, &str)] = &[
            ("usr/lib/os-release", "NAME=\"x\"\nID=debian\nVERSION_ID=\"12\"\n"),
            (STATUS, ONE),
            ("usr/bin/pitlane-car", "old"),
        ];
        let found = make(&[base]);
        assert_eq!(found.system.unwrap(), System { id: "debian".into(), version: "12".into() });
        let names: Vec<&str> = found.packages.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["libc6"]);
        assert_eq!(found.runtime.unwrap().0, Digest::of("old"));
        let newer = make(&[base, &[("usr/bin/pitlane-car", "new")]]);
        assert_eq!(newer.runtime.unwrap().0, Digest::of("new"));
        for away in ["usr/bin/.wh.pitlane-car", "usr/.wh.bin", "usr/bin/.wh..wh..opq", ".wh.usr"] {
            let found = make(&[base, &[(away, "")]]);
            assert!(found.runtime.is_none(), "{away}");
            assert_eq!(found.packages.len(), 1, "{away}");
        }
        let kept = make(&[base, &[("usr/bin/pitlane-car", "new"), ("usr/bin/.wh..wh..opq", "")]]);
        assert_eq!(kept.runtime.unwrap().0, Digest::of("new"), "it is of the same layer");
    }

    #[test]
    fn lists_of_strangers_are_taken_word_by_word() {
        assert!(
            packages("Package: a b\nStatus: install ok installed\nVersion: 1\nArchitecture: x\n")
                .is_empty()
        );
        assert!(system("ID=\u{1b}[2J\n").is_none());
        assert!(system("VERSION_ID=1\n").is_none());
        let many = ONE.lines().take(4).collect::<Vec<_>>().join("\n") + "\n\n";
        assert_eq!(packages(&many.repeat(MAX_PACKAGES + 5)).len(), MAX_PACKAGES);
    }
}
