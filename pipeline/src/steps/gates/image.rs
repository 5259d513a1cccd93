//! The root file system of a gate's image: pulled by digest, unpacked once, kept.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use pitlane_fetch::{Registry, RegistryOptions, Source};
use pitlane_release::{
    Digest, PinnedImage, Platform,
    oci::{self, Descriptor},
};
use sha2::{Digest as _, Sha256};

use crate::{
    assemble::{Blob, Place},
    unpack::{Devices, Rules, unpack},
};

/// Largest image (bytes, unpacked, and each layer as it is pulled). A gate needs no devices.
const RULES: Rules = Rules { bytes: 8 * 1024 * 1024 * 1024, devices: Devices::LeftOut };

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
    let mut blobs = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        blobs.push(pull(&source, image, layer, making.path().join(number.to_string())).await?);
    }
    let to = root.clone();
    tokio::task::spawn_blocking(move || unpack(&blobs, &to, RULES)).await??;
    // The gate is another user.
    open(&root)?;
    match fs::rename(&root, &kept) {
        // Another run was faster.
        Err(_) if kept.is_dir() => Ok(kept),
        moved => moved.map(|()| kept).context("keeping the image"),
    }
}

/// Docker's names are other words for the same.
fn plain_type(media_type: &str) -> anyhow::Result<&'static str> {
    match media_type {
        oci::LAYER_TAR => Ok(oci::LAYER_TAR),
        oci::LAYER_GZIP | oci::DOCKER_LAYER_GZIP => Ok(oci::LAYER_GZIP),
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

/// Pulls a layer into a file.
async fn pull(
    source: &Source,
    image: &PinnedImage,
    layer: &Descriptor,
    path: PathBuf,
) -> anyhow::Result<Blob> {
    let media_type = plain_type(&layer.media_type)?;
    ensure!(layer.size <= RULES.bytes, "layer {} has {} bytes", layer.digest, layer.size);
    let mut file = fs::File::create_new(&path)?;
    let mut hash = Sha256::new();
    let mut sink = |bytes: &[u8]| {
        hash.update(bytes);
        file.write_all(bytes)
    };
    source.stream(&image.repository, layer, 0, &mut sink).await?;
    let found = hex::encode(hash.finalize());
    ensure!(found == layer.digest.hex(), "layer {}: its bytes are sha256:{found}", layer.digest);
    let descriptor = Descriptor::new(media_type, layer.digest, layer.size);
    Ok(Blob { descriptor, place: Place::File { path } })
}

fn open(root: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).context("the image's root")
}
