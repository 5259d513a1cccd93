//! What images say that they are made of: the crates in a program, the packages of a base.

use std::{collections::BTreeMap, fs, io::Write as _};

use pitlane_pipeline::assemble::{
    base, crates,
    parts::{self, PARTS, Part},
};
use pitlane_release::{Digest, Platform};
use serde_json::{Value, json};

use super::{fresh_folder, images::write_layout, text};
use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "crates-list",
        run: crates_list,
        more: &[],
        words: &[
            "\u{7f}ELF\u{2}\u{1}",
            ".dep-v0\0",
            "\"packages\":[]",
            "\"dependencies\":[0]",
            "\"dependencies\":[18446744073709551615]",
            "\"kind\":\"build\"",
            "\"root\":true",
            "{\"name\":\"a\",\"version\":\"1\",\"source\":\"local\"}",
        ],
        max: 40_000,
    },
    Target {
        name: "base-parts",
        run: base_parts,
        more: &["pipelines/base.lock.yaml"],
        words: &[
            "kind: BaseLock",
            "  linux/arm64:",
            "debian: []",
            "wheels: []",
            "files: []",
            "\"files\":{}",
            "\"kind\":\"wheel\"",
            "\"qualifiers\":{}",
            "sha256:",
        ],
        max: 30_000,
    },
];

/// A program; or a list, which is then put into one.
fn crates_list(input: &[u8]) -> Reached {
    let packed;
    let (binary, list) = if input.starts_with(b"{") {
        packed = program(input);
        (&packed[..], Some(input))
    } else {
        (input, None)
    };
    let found = crates::of(binary);
    if let Ok(found) = &found {
        assert!(found.len() <= 10_000, "{} crates", found.len());
        let places = found.iter().flat_map(|one| &one.dependencies);
        assert!(places.into_iter().all(|place| *place < found.len()), "one that is not there");
        if let Some(list) = list {
            let list: Value = serde_json::from_slice(list).unwrap();
            let names: Vec<_> = found.iter().map(|one| Some(one.name.as_str())).collect();
            let written = list["packages"].as_array().unwrap();
            // A crate written as a list of its fields has no names in it.
            if written.iter().all(Value::is_object) {
                let written: Vec<_> = written.iter().map(|one| one["name"].as_str()).collect();
                assert_eq!(names, written);
            }
        }
        return Reached::accepted(if found.is_empty() { "none" } else { "some" });
    }
    Reached::of(&found.map_err(|error| format!("{error:#}")))
}

/// An ELF file of three sections: none, their names, the list.
fn program(list: &[u8]) -> Vec<u8> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(list).unwrap();
    let list = zlib.finish().unwrap();
    let names = b"\0.dep-v0\0.shstrtab\0";
    let (names_at, list_at) = (64, 64 + names.len());
    let table = list_at + list.len();
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
    (file[0x3a], file[0x3c], file[0x3e]) = (64, 3, 1);
    file.extend_from_slice(names);
    file.extend_from_slice(&list);
    file.resize(table + 64, 0);
    for (name, at, size) in [(9_u32, names_at, names.len()), (1, list_at, list.len())] {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        file.extend_from_slice(&header);
    }
    file
}

/// A lock, and the annotation of a base. What a lock says comes back from a base that was made
/// of it.
fn base_parts(input: &[u8]) -> Reached {
    let file = fresh_folder().join("base.lock.yaml");
    fs::write(&file, input).unwrap();
    let lock = parts::of_lock(&file);
    for parts in lock.iter().flat_map(BTreeMap::values).filter(|parts| !parts.is_empty()) {
        let note = serde_json::to_string(parts).unwrap();
        // Aliases may make more of a lock than a manifest can hold.
        if note.len() > 1 << 20 || parts.len() > 10_000 {
            continue;
        }
        assert_eq!(&noted(&note).expect("what was written is read"), parts);
    }
    let noted = noted(text(input));
    if let Ok(parts) = &noted {
        assert!(parts.len() <= 10_000);
        let again = serde_json::to_string(parts).unwrap();
        assert_eq!(&self::noted(&again).expect("what was written is read"), parts);
    }
    Reached::of(&lock.map_err(|error| format!("{error:#}")))
        .and(Reached::of(&noted.map_err(|error| format!("{error:#}"))))
}

/// The parts of a base whose manifest has this annotation.
fn noted(note: &str) -> anyhow::Result<Vec<Part>> {
    let descriptor = |kind: &str, bytes: &[u8]| {
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}.v1+json"),
            "digest": Digest::of(bytes), "size": bytes.len() })
    };
    let config = json!({ "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [] } });
    let config = config.to_string().into_bytes();
    let manifest = json!({ "schemaVersion": 2, "config": descriptor("config", &config),
        "layers": [], "annotations": { PARTS: note } });
    let manifest = manifest.to_string().into_bytes();
    let mut child = descriptor("manifest", &manifest);
    child["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let index = json!({ "schemaVersion": 2, "manifests": [child] }).to_string().into_bytes();
    let root = write_layout(&[index, manifest, config]);
    base::read(&root, Platform::LinuxAmd64).map(|base| base.parts)
}
