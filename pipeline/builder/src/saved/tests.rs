//! Archives as the engines make them, and as an attacker would.

use std::fs;

use tar::EntryType;

use super::*;

/// An entry: its name, kind, what it links to, its bytes.
type Part = (String, EntryType, String, Vec<u8>);

/// What an attacker changes.
type Change<'a> = &'a dyn Fn(&mut Vec<Part>);

fn file(name: &str, bytes: &[u8]) -> Part {
    (name.into(), EntryType::Regular, String::new(), bytes.into())
}

fn link(name: &str, to: &str) -> Part {
    (name.into(), EntryType::Symlink, to.into(), vec![])
}

fn archive(parts: &[Part]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, to, bytes) in parts {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..to.len()].copy_from_slice(to.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    let json = serde_json::json!({
        "architecture": "arm64", "os": "linux", "container_config": {"Cmd": ["x"]}, "config": {"Env": null},
        "rootfs": {"type": "layers", "diff_ids": ids}
    });
    serde_json::to_vec(&json).unwrap()
}

fn manifest(layers: &[&str]) -> Vec<u8> {
    let json = serde_json::json!([{"Config": "c.json", "RepoTags": null, "Layers": layers}]);
    serde_json::to_vec(&json).unwrap()
}

/// Two layers, the first of them twice, as Docker 20.10 has it.
fn good() -> Vec<Part> {
    vec![
        file("a/layer.tar", b"one"),
        file("a/VERSION", b"1.0"),
        file("b/layer.tar", b"two"),
        link("c/layer.tar", "../a/layer.tar"),
        file("c.json", &config(&[b"one", b"two", b"one"])),
        file("manifest.json", &manifest(&["a/layer.tar", "b/layer.tar", "c/layer.tar"])),
    ]
}

fn read_parts(parts: &[Part], max: u64) -> Result<Saved, SavedFault> {
    let dir = tempfile::tempdir().unwrap();
    let got = read(&archive(parts)[..], Platform::LinuxArm64, dir.path(), max);
    // Nothing is left but layers under their own digests.
    for left in fs::read_dir(dir.path()).unwrap() {
        let path = left.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(Digest::of(fs::read(&path).unwrap()).hex(), name);
    }
    got
}

fn fault(parts: &[Part]) -> String {
    read_parts(parts, 1 << 20).unwrap_err().to_string()
}

#[test]
fn both_shapes_are_read() {
    let saved = read_parts(&good(), 1 << 20).unwrap();
    let ids: Vec<Digest> = saved.layers.iter().map(|l| l.diff_id).collect();
    assert_eq!(ids, [Digest::of(b"one"), Digest::of(b"two"), Digest::of(b"one")]);
    assert_eq!(saved.layers[0].path, saved.layers[2].path);

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"one").unwrap();
    let gzip = gzip.finish().unwrap();
    let at = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let saved = read_parts(
        &[
            file(&at(&gzip), &gzip),
            file("c.json", &config(&[b"one"])),
            file("index.json", b"{}"),
            file("oci-layout", b"{}"),
            file("manifest.json", &manifest(&[&at(&gzip)])),
        ],
        1 << 20,
    )
    .unwrap();
    assert_eq!(saved.layers[0].diff_id, Digest::of(b"one"));
    assert_eq!(saved.layers[0].descriptor, Descriptor::of(LAYER_GZIP, &gzip));
}

#[test]
fn hostile_archives_are_refused() {
    let with = |change: &dyn Fn(&mut Vec<Part>)| {
        let mut parts = good();
        change(&mut parts);
        fault(&parts)
    };
    let cases: &[(&str, Change<'_>)] = &[
        ("the config says", &|p| p[0].3 = b"0ne".into()),
        ("the config says", &|p| p[4].3 = config(&[b"two", b"one", b"one"])),
        ("3 layers in the archive, 2 in the config", &|p| p[4].3 = config(&[b"one", b"two"])),
        ("it is for linux/amd64", &|p| {
            p[4].3 = String::from_utf8(p[4].3.clone()).unwrap().replace("arm64", "amd64").into();
        }),
        ("the name", &|p| p[1].0 = "../../etc/cron.d/x".into()),
        ("the name", &|p| p[1].0 = "/etc/cron.d/x".into()),
        ("link to elsewhere", &|p| p[3].2 = "../../../../etc/shadow".into()),
        ("link to elsewhere", &|p| p[3].2 = "/etc/shadow".into()),
        ("not in it", &|p| p[3].2 = "../gone".into()),
        ("link to a link", &|p| {
            p[3].2 = "../d".into();
            p.push(link("d", "a/layer.tar"));
        }),
        ("stands twice", &|p| p[1].0 = "a/layer.tar".into()),
        ("of the kind", &|p| p[1].1 = EntryType::Block),
        ("of the kind", &|p| p[1].1 = EntryType::GNULongName),
        ("with a name or a size", &|p| {
            p[1].1 = EntryType::XHeader;
            p[1].3 = b"20 path=a/layer.tar\n".into();
        }),
        ("of more than 64 KiB", &|p| {
            p[1].1 = EntryType::XHeader;
            p[1].3 = vec![b'x'; 70_000];
        }),
        ("images in it", &|p| p[5].3 = b"[]".into()),
        ("manifest.json", &|p| p[5].3 = b"{}".into()),
        ("\"manifest.json\" is not in it", &|p| {
            p.pop();
        }),
        ("bytes, at most", &|p| p[4].3 = vec![b' '; 1024 * 1024 + 1]),
        ("zstd", &|p| p[0].3 = vec![0x28, 0xb5, 0x2f, 0xfd, 0]),
        ("entries", &|p| p.extend((0..=MAX_ENTRIES).map(|n| file(&format!("x{n}"), b"")))),
    ];
    for (words, change) in cases {
        let got = match *words {
            "bytes, at most" => {
                let mut parts = good();
                change(&mut parts);
                read_parts(&parts, 8 << 20).unwrap_err().to_string()
            }
            _ => with(*change),
        };
        assert!(got.contains(words), "{words}: {got}");
    }
}

#[test]
fn sizes_are_bounded_before_they_are_written() {
    assert!(matches!(read_parts(&good(), 100), Err(SavedFault::TooLarge { max: 100 })));
    // A header that promises a petabyte.
    let mut bytes = archive(&good());
    let header = &mut bytes[..512];
    let mut lie = tar::Header::from_byte_slice(header).clone();
    lie.set_size(1 << 50);
    lie.set_cksum();
    header.copy_from_slice(lie.as_bytes());
    let dir = tempfile::tempdir().unwrap();
    let got = read(&bytes[..], Platform::LinuxArm64, dir.path(), 1 << 20);
    assert!(matches!(got, Err(SavedFault::TooLarge { .. })), "{got:?}");
    // One that breaks off.
    let whole = archive(&good());
    for end in [1, 511, 513, 514, 2000] {
        assert!(read(&whole[..end], Platform::LinuxArm64, dir.path(), 1 << 20).is_err(), "{end}");
    }
    // Three bytes that unpack to a gigabyte's worth of nothing.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![0; 4 << 20]).unwrap();
    let gzip = gzip.finish().unwrap();
    let bomb = [
        file("l", &gzip),
        file("c.json", &config(&[b"one"])),
        file("manifest.json", &manifest(&["l"])),
    ];
    assert!(matches!(read_parts(&bomb, 1 << 20), Err(SavedFault::TooLarge { .. })));
}
