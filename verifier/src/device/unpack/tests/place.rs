//! A place to unpack in, with a victim beside it, and the means to write hostile layers.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::super::{super::store::StoreLimits, *};

/// A place with a store, somewhere to unpack to, and a victim beside it.
pub(super) struct Place {
    pub(super) dir: tempfile::TempDir,
    pub(super) store: Store,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = StoreLimits { total: 1 << 30, reserve: 0 };
        let store = Store::open(&dir.path().join("store"), limits).unwrap();
        fs::create_dir(dir.path().join("victim")).unwrap();
        fs::write(dir.path().join("victim/hello"), "untouched").unwrap();
        fs::set_permissions(dir.path().join("victim"), fs::Permissions::from_mode(0o751)).unwrap();
        Self { dir, store }
    }

    /// An image of these layers; diffIDs are those of the decompressed bytes where they decompress.
    pub(super) fn image(&self, layers: &[(&str, Vec<u8>)]) -> ImageManifest {
        let mut diff_ids = Vec::new();
        let mut descriptors = Vec::new();
        for (media_type, bytes) in layers {
            let mut plain = Vec::new();
            let read = MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain);
            let gzip = media_type.ends_with("gzip");
            diff_ids.push(Digest::of(if gzip && read.is_ok() { &plain } else { bytes }));
            descriptors.push(self.store.put(media_type, bytes).unwrap());
        }
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.store.put(oci::CONFIG, &serde_json::to_vec(&config).unwrap()).unwrap();
        let manifest =
            serde_json::json!({"schemaVersion": 2, "config": config, "layers": descriptors});
        serde_json::from_value(manifest).unwrap()
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(super) fn unpack(&self, manifest: &ImageManifest) -> Result<Unpacked, UnpackError> {
        let limits = UnpackLimits { entries: 1000, bytes: 80 << 20 };
        let result = unpack(&self.store, manifest, &self.root(), limits, &[]);
        assert_eq!(self.root().exists(), result.is_ok(), "nothing is left after a failure");
        self.assert_untouched();
        result
    }

    pub(super) fn assert_untouched(&self) {
        let victim = self.dir.path().join("victim");
        let meta = fs::metadata(&victim).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o751);
        let names: Vec<_> =
            fs::read_dir(&victim).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["hello"]);
        assert_eq!(fs::read_to_string(victim.join("hello")).unwrap(), "untouched");
        assert_eq!(fs::metadata(victim.join("hello")).unwrap().nlink(), 1);
        let mut beside: Vec<_> =
            fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        beside.retain(|name| name != "root");
        beside.sort();
        assert_eq!(beside, ["store", "victim"]);
        assert!(!Path::new("/victim").exists() && !Path::new("/pitlane-evil").exists());
    }
}

/// One header with raw names, so that hostile ones can be written.
pub(super) fn header(name: &str, kind: EntryType, link: &str, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header.set_cksum();
    header
}

pub(super) const FILE: EntryType = EntryType::Regular;
pub(super) const DIR: EntryType = EntryType::Directory;
pub(super) const SYM: EntryType = EntryType::Symlink;
pub(super) const HARD: EntryType = EntryType::Link;

/// A tar of (name, kind, link target or content).
pub(super) fn tar(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let link = if matches!(*kind, SYM | HARD) { *text } else { "" };
        let body = if link.is_empty() { text.as_bytes() } else { b"" };
        let mode = if *kind == DIR { 0o755 } else { 0o644 };
        builder.append(&header(name, *kind, link, mode, body.len() as u64), body).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn pax(records: &[(&str, &str)], global: bool) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = rest + (rest + 2).to_string().len();
        writeln!(body, "{length} {key}={value}").unwrap();
    }
    let kind = if global { EntryType::XGlobalHeader } else { EntryType::XHeader };
    let mut builder = Builder::new(Vec::new());
    builder.append(&header("pax", kind, "", 0o644, body.len() as u64), &body[..]).unwrap();
    let bytes = builder.into_inner().unwrap();
    bytes[..bytes.len() - 1024].to_vec()
}

pub(super) fn refused(layers: &[(&str, Vec<u8>)]) -> (Option<String>, Rule) {
    let place = Place::new();
    match place.unpack(&place.image(layers)) {
        Err(UnpackError::Refused { entry, rule, .. }) => (entry, rule),
        other => panic!("not refused: {other:?}"),
    }
}
