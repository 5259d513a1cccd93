//! The root file system of a gate's image: pulled by digest, unpacked once, kept.

use std::{
    fs,
    io::{Read, Seek as _, SeekFrom, Write as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use pitlane_fetch::{Registry, RegistryOptions, Source};
use pitlane_release::{
    Digest, PinnedImage, Platform,
    oci::{self, Descriptor},
};
use sha2::{Digest as _, Sha256};

/// Largest image (bytes, unpacked), and most entries.
const MAX_BYTES: u64 = 8 * 1024 * 1024 * 1024;
const MAX_ENTRIES: u64 = 500_000;

/// The unpacked image, below `cache`.
pub(super) async fn root(image: &PinnedImage, cache: &Path) -> anyhow::Result<PathBuf> {
    let kept = cache.join(image.digest.hex());
    if kept.is_dir() {
        return Ok(kept);
    }
    fs::create_dir_all(cache)?;
    let host = image.repository.registry().to_owned();
    let plain_http = if pitlane_fetch::registry::is_loopback(&host) { vec![host] } else { vec![] };
    let source = Registry::new(RegistryOptions { plain_http, credentials: None })?;
    let source = Source::Registry(source);
    let layers = layers(&source, image).await?;
    let making = tempfile::tempdir_in(cache)?;
    let root = making.path().join("root");
    fs::create_dir(&root)?;
    let mut left = Left { bytes: MAX_BYTES, entries: MAX_ENTRIES };
    for layer in &layers {
        let mut file = tempfile::tempfile_in(making.path())?;
        pull(&source, image, layer, &mut file).await?;
        let (gzip, at) = (is_gzip(&layer.media_type)?, root.clone());
        left = tokio::task::spawn_blocking(move || {
            if gzip {
                unpack(flate2::read::MultiGzDecoder::new(file), &at, left)
            } else {
                unpack(file, &at, left)
            }
        })
        .await?
        .with_context(|| format!("layer {}", layer.digest))?;
    }
    // The gate is another user.
    open(&root)?;
    match fs::rename(&root, &kept) {
        // Another run was faster.
        Err(_) if kept.is_dir() => Ok(kept),
        moved => moved.map(|()| kept).context("keeping the image"),
    }
}

fn is_gzip(media_type: &str) -> anyhow::Result<bool> {
    match media_type {
        oci::LAYER_TAR => Ok(false),
        oci::LAYER_GZIP | oci::DOCKER_LAYER_GZIP => Ok(true),
        other => bail!("a layer is `{other}`; tar and gzip are read"),
    }
}

/// The layers for this machine, by way of an index or not; every document by its digest.
async fn layers(source: &Source, image: &PinnedImage) -> anyhow::Result<Vec<Descriptor>> {
    let fetch = async |digest: Digest| {
        let bytes = source.manifest(&image.repository, &digest.to_string()).await?;
        ensure!(Digest::of(&bytes) == digest, "the registry gave other bytes for {digest}");
        anyhow::Ok(bytes)
    };
    let mut bytes = fetch(image.digest).await?;
    if let Ok(index) = oci::parse_index(&bytes) {
        let platform = Platform::host().context("this machine is neither amd64 nor arm64")?;
        let child = index.child(platform);
        let child = child.with_context(|| format!("the image has nothing for {platform}"))?;
        bytes = fetch(child.digest).await?;
    }
    Ok(oci::parse_manifest(&bytes)?.layers)
}

async fn pull(
    source: &Source,
    image: &PinnedImage,
    layer: &Descriptor,
    file: &mut fs::File,
) -> anyhow::Result<()> {
    ensure!(layer.size <= MAX_BYTES, "layer {} has {} bytes", layer.digest, layer.size);
    let mut hash = Sha256::new();
    let mut sink = |bytes: &[u8]| {
        hash.update(bytes);
        file.write_all(bytes)
    };
    source.stream(&image.repository, layer, 0, &mut sink).await?;
    let found = hex::encode(hash.finalize());
    ensure!(found == layer.digest.hex(), "layer {}: its bytes are sha256:{found}", layer.digest);
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

/// How much more an image may have.
#[derive(Clone, Copy)]
struct Left {
    bytes: u64,
    entries: u64,
}

/// Unpacks a layer over those below it: files, folders and links; no owners, no set-id bits, no
/// devices. The archive's reader refuses what leads out of the root.
fn unpack(layer: impl Read, root: &Path, mut left: Left) -> anyhow::Result<Left> {
    let mut archive = tar::Archive::new(layer);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let used = entry.size();
        left.entries = left.entries.checked_sub(1).context("the image has too many files")?;
        left.bytes = left.bytes.checked_sub(used).context("the image is too large")?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
        if let Some(gone) = name.strip_prefix(".wh.") {
            whiteout(root, &path, gone)?;
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link() {
            entry.set_preserve_permissions(false);
            entry.set_preserve_mtime(false);
            let inside = entry.unpack_in(root).with_context(|| path.display().to_string())?;
            ensure!(inside, "{}: leads out of the image", path.display());
        }
    }
    Ok(left)
}

/// What a layer takes away (OCI image spec, "Whiteouts").
fn whiteout(root: &Path, path: &Path, gone: &str) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    ensure!(parent.components().all(plain), "{}: leads out of the image", path.display());
    let folder = root.join(parent);
    // Through no link: what it shows may be elsewhere.
    let Ok(real) = folder.canonicalize() else { return Ok(()) };
    ensure!(real.starts_with(root.canonicalize()?), "{}: leads out", path.display());
    let names = match gone {
        ".wh..opq" => fs::read_dir(&real)?.map(|e| Ok(e?.path())).collect::<anyhow::Result<_>>()?,
        name if Path::new(name).components().all(|p| matches!(p, Component::Normal(_))) => {
            vec![real.join(name)]
        }
        _ => bail!("{}: takes nothing away", path.display()),
    };
    for at in names {
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&at)?,
            Ok(_) => fs::remove_file(&at)?,
            Err(_) => {}
        }
    }
    Ok(())
}

fn open(root: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).context("the image's root")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, text) in entries {
            let mut header = tar::Header::new_ustar();
            let name = &mut header.as_ustar_mut().unwrap().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            let data = if kind.is_file() { text.as_bytes() } else { b"" };
            if !kind.is_file() && !text.is_empty() {
                header.set_link_name(text).unwrap();
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    const FULL: Left = Left { bytes: 1 << 20, entries: 100 };

    #[test]
    fn layers_are_put_over_each_other() {
        use std::os::unix::fs::PermissionsExt as _;
        use tar::EntryType as Type;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let below = archive(&[
            ("bin", Type::Directory, ""),
            ("bin/tool", Type::Regular, "one"),
            ("bin/old", Type::Regular, "old"),
            ("etc", Type::Directory, ""),
            ("etc/a", Type::Regular, "a"),
            ("dev", Type::Char, ""),
        ]);
        unpack(&below[..], root, FULL).unwrap();
        let over = archive(&[
            ("bin/.wh.old", Type::Regular, ""),
            ("etc/.wh..wh..opq", Type::Regular, ""),
            ("etc/b", Type::Regular, "b"),
            ("bin/tool", Type::Regular, "two"),
            ("bin/sh", Type::Symlink, "tool"),
        ]);
        unpack(&over[..], root, FULL).unwrap();
        assert_eq!(fs::read(root.join("bin/sh")).unwrap(), b"two");
        for gone in ["bin/old", "etc/a", "dev"] {
            assert!(!root.join(gone).exists(), "{gone}");
        }
        let mode = fs::metadata(root.join("bin/tool")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7000, 0, "no set-id bits");
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        use tar::EntryType as Type;
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), "x").unwrap();
        let out = outside.to_str().unwrap();
        for bad in [
            vec![("../x", Type::Regular, "evil")],
            vec![("a", Type::Symlink, out), ("a/x", Type::Regular, "evil")],
            vec![("a", Type::Symlink, out), ("a/.wh.keep", Type::Regular, "")],
            vec![("a", Type::Symlink, out), ("a/.wh..wh..opq", Type::Regular, "")],
            vec![("../outside/.wh.keep", Type::Regular, "")],
            vec![("a", Type::Link, "../outside/keep")],
        ] {
            fs::remove_dir_all(&root).unwrap();
            fs::create_dir(&root).unwrap();
            let refused = unpack(&archive(&bad)[..], &root, FULL);
            assert!(refused.is_err(), "{bad:?}");
            let left: Vec<_> = fs::read_dir(&outside).unwrap().collect();
            assert_eq!(left.len(), 1, "{bad:?}");
        }
        let one = archive(&[("a", Type::Regular, "12345")]);
        assert!(unpack(&one[..], &root, Left { bytes: 4, entries: 9 }).is_err());
        assert!(unpack(&one[..], &root, Left { bytes: 9, entries: 0 }).is_err());
    }
}
