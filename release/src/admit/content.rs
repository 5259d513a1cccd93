//! Step 5: the manifest and config that were served are the signed ones, fit each other and the
//! machine, and carry the released model.

use super::{Notes, Step};
use crate::{
    Digest, Platform,
    evidence::Evidence,
    oci::{self, Descriptor, ImageConfig, ImageManifest},
    refusal::Refusal,
    statement::Release,
};

/// Content that was checked.
pub(super) struct Content {
    pub(super) digest: Digest,
    pub(super) manifest: ImageManifest,
    pub(super) config: ImageConfig,
    pub(super) config_bytes: Vec<u8>,
}

pub(super) fn check(
    platform: Platform,
    evidence: &Evidence,
    release: Option<&Release>,
    notes: &mut Notes,
) -> Step<Content> {
    let want = manifest_digest(platform, evidence, release)?;
    let altered = |what, want| Refusal::Altered { what, want };
    let unusable = |error: oci::OciError| Refusal::Unusable(error.to_string());

    let bytes = match &evidence.manifest {
        Some(bytes) if Digest::of(bytes) == want => bytes,
        _ => return Err(("manifest", altered("manifest", want))),
    };
    let manifest = oci::parse_manifest(bytes).map_err(|e| ("manifest", unusable(e)))?;
    notes.pass("manifest", format!("{want} for {platform}"));

    let descriptor = &manifest.config;
    let config_bytes = match &evidence.config {
        Some(bytes)
            if Digest::of(bytes) == descriptor.digest && bytes.len() as u64 == descriptor.size =>
        {
            bytes.clone()
        }
        _ => return Err(("config", altered("config", descriptor.digest))),
    };
    let config = oci::parse_config(&config_bytes).map_err(|e| ("config", unusable(e)))?;
    let found = format!("{}/{}", config.os, config.architecture);
    if found.parse() != Ok(platform) {
        let found = format!("its config says {found}");
        return Err(("platform", Refusal::WrongPlatform(platform, found)));
    }
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        let why = format!(
            "{} layers, but {} diffIDs",
            manifest.layers.len(),
            config.rootfs.diff_ids.len()
        );
        return Err(("config", Refusal::Unusable(why)));
    }
    notes.pass("config", descriptor.digest.to_string());

    if let Some(release) = release {
        if !manifest.layers.iter().any(|layer| layer.digest == release.model.layer) {
            return Err(("model", Refusal::ModelMismatch));
        }
        notes.pass("model", format!("{} in layer {}", release.model.digest, release.model.layer));
    }
    Ok(Content { digest: want, manifest, config, config_bytes })
}

/// Which manifest must be the platform's: the index's child, and the statement's word for it.
fn manifest_digest(
    platform: Platform,
    evidence: &Evidence,
    release: Option<&Release>,
) -> Step<Digest> {
    let top = evidence.requested.digest;
    let child = match oci::parse_index(&evidence.top) {
        Ok(index) => {
            if release.is_some_and(|release| release.index != top) {
                return Err(("manifest", Refusal::OtherImage));
            }
            index.child(platform).map(|child: &Descriptor| child.digest).ok_or_else(|| {
                let found = format!("the index has {} others", index.manifests.len());
                ("platform", Refusal::WrongPlatform(platform, found))
            })?
        }
        Err(_) => top,
    };
    match release.map(|release| release.platforms.get(&platform)) {
        Some(Some(want)) if *want != child => {
            // The index is signed, so this is a statement that contradicts its own index, or a
            // platform manifest of another machine was asked for.
            let found = format!("{child} is not the {platform} image of this release");
            Err(("platform", Refusal::WrongPlatform(platform, found)))
        }
        Some(None) => Err(("platform", Refusal::WrongPlatform(platform, "none".into()))),
        _ => Ok(child),
    }
}
