//! Layers: archives from strangers, as bytes and by their entries.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use pitlane_release::{Digest, oci};
use pitlane_verifier::device::{
    store::{Store, StoreLimits},
    unpack::{UnpackLimits, unpack},
};
use tar::{Builder, EntryType, Header};

use super::{fresh_folder, text};
use crate::{Reached, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "layer",
        run: layer,
        more: &["shared:conformance/layers/*.tar", "shared:conformance/layers/*.gz"],
        words: &["ustar", "ustar  \0", "../", ".wh.", "././@LongLink", "18 path=a\n", "PaxHeaders"],
        max: 60_000,
    },
    Target {
        name: "layer-entries",
        run: layer_entries,
        more: &[],
        words: &[
            "file ",
            "dir ",
            "sym ",
            "hard ",
            "wh ",
            "fifo ",
            "pax ",
            " -> ",
            "../",
            "/",
            "..",
            ".wh.",
            ".wh..wh..opq",
            "victim/hello",
            "%%\n",
            "path=",
            "linkpath=",
            "size=",
            "etc/",
        ],
        max: 3_000,
    },
];

/// Most headers and bytes of a layer here.
const LIMITS: UnpackLimits = UnpackLimits { entries: 400, bytes: 4 << 20 };

/// A layer as its bytes came: a tar, or gzip when it begins like one.
fn layer(input: &[u8]) -> Reached {
    let gzip = input.starts_with(&[0x1f, 0x8b]);
    // A mutated layer has another diffID; the right one leads past the last check.
    let mut plain = Vec::new();
    if gzip {
        let read = io::Read::take(flate2::read::MultiGzDecoder::new(input), LIMITS.bytes + 1);
        let _ = io::Read::read_to_end(&mut { read }, &mut plain);
    }
    let kind = if gzip { oci::LAYER_GZIP } else { oci::LAYER_TAR };
    unpacked(&[(kind, input, Digest::of(if gzip { &plain } else { input }))])
}

/// Layers by their entries: headers come out right, so that the rules behind them are reached.
/// Lines of `KIND NAME -> WORD`; a line `%%` begins the next layer.
fn layer_entries(input: &[u8]) -> Reached {
    let tars: Vec<Vec<u8>> = text(input).split("%%\n").take(4).map(tar_of).collect();
    let gzipped: Vec<Vec<u8>> = tars
        .iter()
        .map(|tar| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        })
        .collect();
    let layers: Vec<_> = gzipped
        .iter()
        .zip(&tars)
        .map(|(gzip, tar)| (oci::LAYER_GZIP, &gzip[..], Digest::of(tar)))
        .collect();
    unpacked(&layers)
}

fn tar_of(lines: &str) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for line in lines.lines().take(200) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, word) = rest.split_once(" -> ").unwrap_or((rest, ""));
        let kind = match kind {
            "file" => EntryType::Regular,
            "dir" => EntryType::Directory,
            "sym" => EntryType::Symlink,
            "hard" => EntryType::Link,
            "fifo" => EntryType::Fifo,
            "char" => EntryType::Char,
            "pax" => EntryType::XHeader,
            "global" => EntryType::XGlobalHeader,
            "long" => EntryType::GNULongName,
            "longlink" => EntryType::GNULongLink,
            _ => EntryType::new(kind.bytes().next().unwrap_or(b'0')),
        };
        let points = matches!(kind, EntryType::Symlink | EntryType::Link);
        let record;
        let body = match kind {
            EntryType::Symlink | EntryType::Link | EntryType::Directory => "",
            EntryType::XHeader | EntryType::XGlobalHeader => {
                // A record counts its own length.
                let length = word.len() + 2 + (word.len() + 4).to_string().len();
                record = format!("{length} {word}\n");
                &record
            }
            _ => word,
        };
        let mut header = Header::new_gnu();
        let put = |field: &mut [u8], text: &str| {
            let length = text.len().min(field.len());
            field[..length].copy_from_slice(&text.as_bytes()[..length]);
        };
        put(&mut header.as_old_mut().name, name);
        if points {
            put(&mut header.as_old_mut().linkname, word);
        }
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Unpacks beside a victim that must come out untouched.
fn unpacked(layers: &[(&str, &[u8], Digest)]) -> Reached {
    let place = fresh_folder();
    let victim = place.join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("hello"), "untouched").unwrap();
    let limits = StoreLimits { total: 64 << 20, reserve: 0 };
    let store = Store::open(&place.join("store"), limits).unwrap();
    let descriptors: Vec<_> =
        layers.iter().map(|(kind, bytes, _)| store.put(kind, bytes).unwrap()).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {
        "type": "layers", "diff_ids": layers.iter().map(|layer| layer.2).collect::<Vec<_>>()}});
    let config = store.put(oci::CONFIG, config.to_string().as_bytes()).unwrap();
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": descriptors});
    let manifest = serde_json::from_value(manifest).unwrap();
    let root = place.join("root");
    let mounts = [("/run/pitlane".into(), true), ("/etc/car.yaml".into(), false)];
    let result = unpack(&store, &manifest, &root, LIMITS, &mounts);
    assert_eq!(root.exists(), result.is_ok(), "something is left after a failure");
    let mut names: Vec<_> =
        fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name != "root");
    names.sort();
    assert_eq!(names, ["store", "victim"], "something was made beside the root");
    assert_eq!(fs::read_to_string(victim.join("hello")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1, "something was put to the victim");
    if let Ok(cost) = &result {
        assert!(cost.entries <= LIMITS.entries && cost.bytes <= LIMITS.bytes, "{cost:?}");
        let (files, bytes) = measure(&root);
        assert!(files <= cost.entries * 64 + 8 && bytes <= cost.bytes, "{files} {bytes} {cost:?}");
    }
    Reached::of(&result)
}

/// Entries and bytes below a folder, without following links.
fn measure(folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        files += 1;
        if meta.is_dir() {
            let below = measure(&entry.path());
            files += below.0;
            bytes += below.1;
        } else if meta.is_file() {
            bytes += meta.len();
        }
    }
    (files, bytes)
}
