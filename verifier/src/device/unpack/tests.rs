//! Layers that must unpack, and layers that must not: a table of our own, and the independent
//! hostile layers. Each case runs beside a victim directory that must come out untouched.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

use super::*;

mod place;

use place::*;

#[test]
#[expect(clippy::too_many_lines, reason = "one table, one case a line")]
fn one_layer_that_breaks_a_rule_is_refused_with_entry_and_rule() {
    let joined = |parts: &[&[u8]]| parts.concat();
    let x = || tar(&[("x", FILE, "evil")]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("..", tar(&[("a/../../victim/x", FILE, "evil")]), "its name leads out by `..`"),
        ("absolute", tar(&[("/pitlane-evil", FILE, "evil")]), "its name is absolute"),
        (
            "same name",
            tar(&[("a", FILE, "1"), ("a", FILE, "2")]),
            "a second entry of this name in one layer",
        ),
        (
            "same cleaned name",
            tar(&[("a", FILE, "1"), ("./a", FILE, "2")]),
            "a second entry of this name in one layer",
        ),
        ("fifo", tar(&[("p", EntryType::Fifo, "")]), "a named pipe has no place in a car image"),
        (
            "char",
            tar(&[("null", EntryType::Char, "")]),
            "a character device has no place in a car image",
        ),
        (
            "through link",
            tar(&[("l", SYM, "../victim"), ("l/x", FILE, "evil")]),
            "its path leads through `l`, which is no directory",
        ),
        (
            "mkdir through link",
            tar(&[("l", SYM, "../victim"), ("l/x/", DIR, "")]),
            "its path leads through `l`, which is no directory",
        ),
        (
            "through file",
            tar(&[("f", FILE, "1"), ("f/x", FILE, "evil")]),
            "its path leads through `f`, which is no directory",
        ),
        (
            "file over own directory",
            tar(&[("d/x", FILE, "1"), ("d", FILE, "2")]),
            "it replaces what the same layer put there",
        ),
        ("hard link out", tar(&[("h", HARD, "../victim/hello")]), "its name leads out by `..`"),
        ("hard link absolute", tar(&[("h", HARD, "/etc/passwd")]), "its name is absolute"),
        (
            "hard link to directory",
            tar(&[("d/", DIR, ""), ("h", HARD, "d")]),
            "this link is not usable: its target is no regular file",
        ),
        (
            "hard link to link",
            tar(&[("s", SYM, "../victim/hello"), ("h", HARD, "s")]),
            "this link is not usable: its target is no regular file",
        ),
        (
            "hard link through link",
            tar(&[("s", SYM, "../victim"), ("h", HARD, "s/hello")]),
            "its path leads through `s`, which is no directory",
        ),
        (
            "hard link to nothing",
            tar(&[("h", HARD, "n")]),
            "this link is not usable: its target is not in the image",
        ),
        (
            "hard link to itself",
            tar(&[("h", HARD, "./h")]),
            "this link is not usable: it names itself",
        ),
        (
            "whiteout through link",
            tar(&[("s", SYM, "../victim"), ("s/.wh.hello", FILE, "")]),
            "its path leads through `s`, which is no directory",
        ),
        (
            "opaque through link",
            tar(&[("s", SYM, "../victim"), ("s/.wh..wh..opq", FILE, "")]),
            "its path leads through `s`, which is no directory",
        ),
        (
            "whiteout of ..",
            tar(&[("a/.wh...", FILE, "")]),
            "this whiteout is not usable: it names no file",
        ),
        (
            "whiteout as directory",
            tar(&[(".wh.a/", DIR, "")]),
            "this whiteout is not usable: it is no empty file",
        ),
        (
            "root as link",
            tar(&[("./", SYM, "../victim")]),
            "its name is not usable: it is the root itself",
        ),
        (
            "global path",
            joined(&[&pax(&[("path", "../victim/x")], true), &x()]),
            "broken pax header: a global header may carry a comment only",
        ),
        (
            "pax path",
            joined(&[&pax(&[("path", "../victim/x")], false), &x()]),
            "its name leads out by `..`",
        ),
        (
            "pax NUL",
            joined(&[&pax(&[("path", "a\0b")], false), &x()]),
            "its name is not usable: it contains a NUL byte",
        ),
        (
            "pax size desync",
            joined(&[&pax(&[("size", "0")], false), &x()]),
            "broken pax header: its size differs from the header's",
        ),
        (
            "pax sparse",
            joined(&[&pax(&[("GNU.sparse.major", "1")], false), &x()]),
            "a sparse file has no place in a car image",
        ),
        (
            "two pax headers",
            joined(&[&pax(&[("uid", "1")], false), &pax(&[("uid", "2")], false), &x()]),
            "broken tar header: two extensions of one kind before one entry",
        ),
        (
            "pax of nothing",
            joined(&[&pax(&[("uid", "1")], false), &[0; 1024]]),
            "broken tar header: an extension header belongs to no entry",
        ),
        ("no end", x()[..1024].to_vec(), "the archive ends in a header, or without an end marker"),
        ("cut file", x()[..514].to_vec(), "the archive ends in a file"),
        ("after the end", joined(&[&x(), b"more"]), "data after the end of the archive"),
        ("second archive", joined(&[&x(), &x()]), "data after the end of the archive"),
        ("empty", vec![], "the archive ends in a header, or without an end marker"),
        (
            "dir with content",
            tar(&[("d/", DIR, "content")]),
            "broken tar header: content behind an entry that has none",
        ),
        ("many", tar(&vec![("d/", DIR, ""); 1001]), "a second entry of this name in one layer"),
        ("many headers", pax(&[("comment", "x")], true).repeat(1001), "more than 1000 entries"),
    ];
    for (what, bytes, text) in cases {
        for (media_type, bytes) in [(oci::LAYER_GZIP, gzip(&bytes)), (oci::LAYER_TAR, bytes)] {
            assert_eq!(refused(&[(media_type, bytes)]).1.to_string(), text, "{what}");
        }
    }
    let (entry, _) = refused(&[(oci::LAYER_TAR, tar(&[("\x1b[2J\n", EntryType::Fifo, "")]))]);
    assert_eq!(entry.as_deref(), Some("\\x1b[2J\\n"), "terminal escapes do not get into messages");
}

#[test]
fn compression_is_bounded_and_complete() {
    let x = tar(&[("x", FILE, "1")]);
    let bomb = {
        let mut bytes = header("big", FILE, "", 0o644, 70 << 20).as_bytes().to_vec();
        bytes.resize((70 << 20) + 2048, 0);
        gzip(&bytes)
    };
    // Below the byte limit of 80 MiB, above 64 MiB and a hundred times its own size.
    assert_eq!(refused(&[(oci::LAYER_GZIP, bomb)]).1, Rule::TooManyBytes(64 << 20));
    let mut trailing = gzip(&x);
    trailing.extend_from_slice(b"junk");
    let mut crc = gzip(&x);
    let at = crc.len() - 6;
    crc[at] ^= 1;
    let cut = gzip(&x)[..40].to_vec();
    for bytes in [trailing, crc, cut, b"no gzip".to_vec()] {
        let rule = refused(&[(oci::LAYER_GZIP, bytes)]).1;
        assert!(matches!(rule, Rule::Compression(_) | Rule::Truncated(_)), "{rule}");
    }
    let rule = refused(&[("application/vnd.oci.image.layer.v1.tar+zstd", x.clone())]).1;
    assert!(matches!(rule, Rule::MediaType(_)), "{rule}");
    // Two gzip members are one stream.
    let place = Place::new();
    let members = [gzip(&x[..700]), gzip(&x[700..])].concat();
    place.unpack(&place.image(&[(oci::DOCKER_LAYER_GZIP, members)])).unwrap();
    assert_eq!(fs::read_to_string(place.root().join("x")).unwrap(), "1");
}

#[test]
fn a_damaged_blob_and_a_wrong_diff_id_leave_nothing() {
    let place = Place::new();
    let manifest = place.image(&[(oci::LAYER_GZIP, gzip(&tar(&[("x", FILE, "1")])))]);
    let digest = manifest.layers[0].digest;
    let path = place.dir.path().join("store/blobs/sha256").join(digest.hex());
    let mut bytes = fs::read(&path).unwrap();
    bytes[30] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = place.unpack(&manifest).unwrap_err();
    assert!(matches!(&error, UnpackError::Store(e) if e.refetch()), "{error}");
    assert!(!place.store.has(&manifest.layers[0]), "the damaged blob is fetched again");

    let mut other = place.image(&[(oci::LAYER_TAR, tar(&[("x", FILE, "1")]))]);
    let evil = place.image(&[(oci::LAYER_TAR, tar(&[("x", FILE, "2")]))]);
    other.layers = evil.layers;
    let error = place.unpack(&other).unwrap_err().to_string();
    assert!(error.contains("diffID"), "{error}");
    other.layers.push(other.layers[0].clone());
    let error = place.unpack(&other).unwrap_err().to_string();
    assert!(error.contains("1 diffIDs for 2 layers"), "{error}");
}

#[test]
fn a_good_layer_keeps_what_matters_and_drops_privilege() {
    let mut builder = Builder::new(Vec::new());
    let mut add = |h: Header, body: &[u8]| builder.append(&h, body).unwrap();
    add(header("./", DIR, "", 0o755, 0), b"");
    add(header("bin/", DIR, "", 0o2555, 0), b"");
    add(header("bin/su", FILE, "", 0o6755, 4), b"prog");
    add(header("tmp/", DIR, "", 0o1777, 0), b"");
    add(header("lib", SYM, "/usr/lib", 0o777, 0), b"");
    add(header("bin/again", HARD, "bin/su", 0o644, 0), b"");
    let mut owned = header("mine", FILE, "", 0o640, 0);
    owned.set_uid(65532);
    owned.set_gid(65533);
    owned.set_cksum();
    add(owned, b"");
    let bytes = builder.into_inner().unwrap();
    let long = "n/".repeat(60) + &"m".repeat(200);
    let bytes = [
        pax(&[("path", &long), ("SCHILY.xattr.security.capability", "x")], false),
        tar(&[("short", FILE, "long")])[..1024].to_vec(),
        pax(&[("comment", "git")], true),
        bytes,
    ]
    .concat();

    let place = Place::new();
    let cost = place.unpack(&place.image(&[(oci::LAYER_TAR, bytes.clone())])).unwrap();
    assert_eq!(cost, Unpacked { entries: 10, bytes: bytes.len() as u64 });
    let root = place.root();
    let mode = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("bin"), mode("bin/su"), mode("tmp")), (0o555, 0o755, 0o1777));
    assert_eq!(fs::read_link(root.join("lib")).unwrap(), Path::new("/usr/lib"));
    assert_eq!(fs::read_to_string(root.join("bin/again")).unwrap(), "prog");
    assert_eq!(fs::read_to_string(root.join(&long)).unwrap(), "long");
    let meta = fs::metadata(root.join("mine")).unwrap();
    assert_eq!(meta.mtime(), 1_700_000_000);
    if nix::unistd::geteuid().is_root() {
        assert_eq!((meta.uid(), meta.gid()), (65532, 65533));
    }
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let lower = tar(&[
        ("a", FILE, "1"),
        ("d/x", FILE, "1"),
        ("d/y", FILE, "1"),
        ("o/x", FILE, "1"),
        ("o/s/y", FILE, "1"),
        ("r/x", FILE, "1"),
        ("f", FILE, "1"),
        ("l", SYM, "d"),
        ("k", FILE, "lower"),
        ("k2", HARD, "k"),
    ]);
    let upper = tar(&[
        (".wh.a", FILE, ""),
        ("d/.wh.x", FILE, ""),
        ("d/.wh.nothing", FILE, ""),
        ("n/.wh.nothing", FILE, ""),
        ("o/new", FILE, "2"),
        ("o/.wh..wh..opq", FILE, ""),
        ("o/s/new", FILE, "2"),
        ("r", FILE, "2"),
        ("f/", DIR, ""),
        ("l/", DIR, ""),
        ("l/z", FILE, "2"),
        ("k", FILE, "upper"),
        ("m", FILE, "2"),
        (".wh.m", FILE, ""),
    ]);
    let place = Place::new();
    place
        .unpack(&place.image(&[(oci::LAYER_TAR, lower), (oci::LAYER_GZIP, gzip(&upper))]))
        .unwrap();
    let root = place.root();
    let there = |name: &str| fs::symlink_metadata(root.join(name)).is_ok();
    for name in ["a", "d/x", "o/x", "o/s/y", "r/x", "d/z"] {
        assert!(!there(name), "{name}");
    }
    for name in ["d/y", "o/new", "o/s/new", "r", "f", "l/z", "m"] {
        assert!(there(name), "{name}");
    }
    assert!(root.join("f").is_dir() && root.join("r").is_file() && !root.join("l").is_symlink());
    // A file replaced in the upper layer does not change what was linked to it below.
    assert_eq!(fs::read_to_string(root.join("k")).unwrap(), "upper");
    assert_eq!(fs::read_to_string(root.join("k2")).unwrap(), "lower");
}

#[test]
fn a_link_of_a_lower_layer_is_not_followed_by_an_upper_one() {
    let lower =
        || (oci::LAYER_TAR, tar(&[("l", SYM, "../victim"), ("p", SYM, "/proc/self/root/victim")]));
    for upper in [
        tar(&[("l/x", FILE, "evil")]),
        tar(&[("p/x", FILE, "evil")]),
        tar(&[("l/.wh.hello", FILE, "")]),
        tar(&[("l/.wh..wh..opq", FILE, "")]),
        tar(&[("h", HARD, "l/hello")]),
    ] {
        assert!(matches!(refused(&[lower(), (oci::LAYER_TAR, upper)]).1, Rule::ThroughLink(_)));
    }
}

#[test]
fn mount_points_are_made_but_never_through_links() {
    let place = Place::new();
    let manifest =
        place.image(&[(oci::LAYER_TAR, tar(&[("run", SYM, "../victim"), ("f", FILE, "")]))]);
    let go = |path: &str, dir| {
        unpack(
            &place.store,
            &manifest,
            &place.root(),
            UnpackLimits::default(),
            &[(path.into(), dir)],
        )
    };
    for (path, dir) in [("/run/pitlane", true), ("/f", true), ("/run", true), ("/../victim", true)]
    {
        assert!(matches!(go(path, dir), Err(UnpackError::Refused { .. })), "{path}");
        place.assert_untouched();
    }
    go("/data/deep", true).unwrap();
    assert!(place.root().join("data/deep").is_dir());
    fs::remove_dir_all(place.root()).unwrap();
    go("/etc/resolv.conf", false).unwrap();
    assert!(place.root().join("etc/resolv.conf").is_file());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 48, ..Default::default() })]

    /// Whatever order links, files, directories and whiteouts come in, and whatever they name:
    /// nothing outside the root changes, and a failure leaves nothing.
    #[test]
    fn arbitrary_layers_stay_inside(
        layers in proptest::collection::vec(proptest::collection::vec((0..9_usize, 0..4_usize, 0..9_usize), 1..12), 1..4),
    ) {
        const NAMES: [&str; 9] = ["a", "a/b", "a/b/hello", "hello", "a/.wh.hello", ".wh..wh..opq", "b", "b/hello", "a/../c"];
        const TARGETS: [&str; 9] = ["../victim", "../../victim", "/", "a", "a/b", ".", "..", "../victim/hello", "b/hello"];
        let layers: Vec<_> = layers
            .iter()
            .map(|entries| {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(name, kind, target)| {
                        let kind = [FILE, DIR, SYM, HARD][*kind];
                        let text = if matches!(kind, SYM | HARD) { TARGETS[*target] } else { "" };
                        (NAMES[*name], kind, text)
                    })
                    .collect();
                (oci::LAYER_TAR, tar(&entries))
            })
            .collect();
        let place = Place::new();
        let _ = place.unpack(&place.image(&layers));
    }
}

/// The independent layers, with the verdicts of their manifest.
#[test]
fn independent_hostile_layers_get_their_verdict() {
    let shared = std::env::var_os("PITLANE_SHARED").map_or_else(
        || {
            // Beside the workspace: the first ancestor that has it.
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            here.ancestors()
                .map(|dir| dir.join("shared"))
                .find(|dir| dir.is_dir())
                .unwrap_or_default()
        },
        PathBuf::from,
    );
    let Ok(table) = fs::read_to_string(shared.join("conformance/manifest.md")) else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI needs the conformance data: set PITLANE_SHARED"
        );
        println!("SKIP: no conformance data (set PITLANE_SHARED)");
        return;
    };
    let mut counted = (0, 0);
    for row in table.lines().filter(|row| row.starts_with("|layers/")) {
        let cells: Vec<&str> = row.split('|').collect();
        let (file, verdict) = (cells[1], cells[5]);
        let bytes = fs::read(shared.join("conformance").join(file)).unwrap();
        let media_type = match Path::new(file).extension().and_then(|e| e.to_str()) {
            Some("zst") => "application/vnd.oci.image.layer.v1.tar+zstd",
            Some("gz") => oci::LAYER_GZIP,
            _ => oci::LAYER_TAR,
        };
        let place = Place::new();
        let result = place.unpack(&place.image(&[(media_type, bytes)]));
        counted = (counted.0 + 1, counted.1 + usize::from(result.is_ok()));
        match (&result, verdict) {
            (Ok(_), "accept" | "contain")
            | (Err(UnpackError::Refused { .. }), "refuse" | "contain") => {}
            other => panic!("{file}: {other:?}"),
        }
        if file.ends_with("setuid.tar") {
            assert_eq!(fs::metadata(place.root().join("su")).unwrap().mode() & 0o7777, 0o755);
        }
    }
    assert!(counted.0 >= 25 && counted.1 >= 5, "{counted:?}");
}
