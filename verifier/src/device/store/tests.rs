//! What the store takes, keeps and gives out.

use pitlane_release::oci::LAYER_TAR;

use super::*;

fn store(limits: StoreLimits) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), limits).unwrap();
    (dir, store)
}

fn small() -> StoreLimits {
    StoreLimits { total: 1000, reserve: 0 }
}

#[test]
fn shorter_longer_and_other_bytes_are_not_taken() {
    let (dir, store) = store(small());
    let want = Descriptor::of(LAYER_TAR, b"good bytes");
    for (bytes, why) in
        [(&b"good byte"[..], "9 bytes, want 10"), (b"evil bytes", "its digest is sha256:")]
    {
        let mut writer = store.writer(&want).unwrap();
        writer.write_all(bytes).unwrap();
        let error = writer.commit().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(!store.has(&want));
    }
    let mut writer = store.writer(&want).unwrap();
    assert!(writer.write_all(b"good bytes and more").is_err());
    drop(writer);
    let mut writer = store.writer(&want).unwrap();
    writer.write_all(b"good bytes").unwrap();
    writer.commit().unwrap();
    assert!(store.has(&want) && store.missing([&want, &want]).is_empty());
    assert_eq!(store.read(&want, 10).unwrap(), b"good bytes");
    assert!(matches!(store.read(&want, 9), Err(StoreError::TooLarge { .. })));
    assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
}

#[test]
fn a_cut_fetch_goes_on_where_it_stopped_and_is_hashed_whole() {
    let (dir, store) = store(small());
    let want = Descriptor::of(LAYER_TAR, b"good bytes");
    let mut writer = store.writer(&want).unwrap();
    writer.write_all(b"good").unwrap();
    assert!(matches!(store.resume(&want), Err(StoreError::Busy(_))), "two writers of one blob");
    drop(writer);
    let mut writer = store.resume(&want).unwrap();
    assert_eq!(writer.written(), 4);
    writer.write_all(b" bytes").unwrap();
    writer.commit().unwrap();

    // Somebody altered the partial file in between.
    store.remove(&want.digest).unwrap();
    fs::write(dir.path().join("partial").join(want.digest.hex()), "evil").unwrap();
    let mut writer = store.resume(&want).unwrap();
    writer.write_all(b" bytes").unwrap();
    assert!(matches!(writer.commit(), Err(StoreError::Damaged { .. })));
}

#[test]
fn what_was_altered_on_disk_is_found_while_reading_and_dropped() {
    let (dir, store) = store(small());
    let want = store.put(LAYER_TAR, b"good bytes").unwrap();
    let path = dir.path().join("blobs/sha256").join(want.digest.hex());
    for bad in ["evil bytes", "good bytes!", "good byte", ""] {
        fs::write(&path, bad).unwrap();
        assert!(matches!(store.read(&want, 99), Err(StoreError::Damaged { .. })), "{bad}");
        assert!(!path.exists(), "dropped, so that it is fetched again");
    }
    fs::write(&path, "evil bytes").unwrap();
    assert!(matches!(store.scrub(&want), Err(StoreError::Damaged { .. })));
    assert!(matches!(store.scrub(&want), Err(StoreError::Absent(_))));
    // A link in place of a blob is not followed.
    fs::write(dir.path().join("elsewhere"), "good bytes").unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert!(!store.has(&want) && store.read(&want, 99).is_err());
}

#[test]
fn what_changes_under_an_open_reader_is_found() {
    let (dir, store) = store(StoreLimits { total: 1 << 20, reserve: 0 });
    let want = store.put(LAYER_TAR, &vec![7; 200_000]).unwrap();
    let mut reader = store.reader(&want).unwrap();
    let mut first = [0; 1000];
    reader.read_exact(&mut first).unwrap();
    let path = dir.path().join("blobs/sha256").join(want.digest.hex());
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(150_000)).unwrap();
    file.write_all(b"evil").unwrap();
    assert!(matches!(reader.finish(), Err(StoreError::Damaged { .. })));
}

#[test]
fn limits_hold_and_gc_keeps_what_it_is_told() {
    let (_dir, store) = store(small());
    let a = store.put(LAYER_TAR, &[1; 400]).unwrap();
    let b = store.put(LAYER_TAR, &[2; 400]).unwrap();
    let c = Descriptor::of(LAYER_TAR, &[3; 400]);
    let error = store.writer(&c).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(store.missing([&a, &b, &c]), [&c]);
    assert_eq!(store.gc(&BTreeSet::from([b.digest])).unwrap().1, 400);
    assert!(!store.has(&a) && store.has(&b));
    store.put(LAYER_TAR, &[3; 400]).unwrap();

    let greedy = Store { limits: StoreLimits { total: u64::MAX, reserve: u64::MAX }, ..store };
    assert!(matches!(greedy.writer(&a), Err(StoreError::Full { .. })));
}
