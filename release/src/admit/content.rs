//! Step 5: the manifest and config that were served are the signed ones, fit each other and the
//! machine, and carry the released model.

use super::{Notes, Step, failed};
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
        _ => return Err(failed("manifest", want.to_string(), altered("manifest", want))),
    };
    let manifest = oci::parse_manifest(bytes)
        .map_err(|e| failed("manifest", "an image manifest", unusable(e)))?;
    notes.pass("manifest", format!("the signed {want}"), format!("{want} for {platform}"));

    let descriptor = &manifest.config;
    let config_bytes = match &evidence.config {
        Some(bytes)
            if Digest::of(bytes) == descriptor.digest && bytes.len() as u64 == descriptor.size =>
        {
            bytes.clone()
        }
        _ => {
            let want = descriptor.digest;
            return Err(failed("config", want.to_string(), altered("config", want)));
        }
    };
    let config = oci::parse_config(&config_bytes)
        .map_err(|e| failed("config", "an image config", unusable(e)))?;
    let found = format!("{}/{}", config.os, config.architecture);
    if found.parse() != Ok(platform) {
        let found = format!("its config says {found}");
        let refusal = Refusal::WrongPlatform(platform, found);
        return Err(failed("platform", platform.to_string(), refusal));
    }
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        let why = format!(
            "{} layers, but {} diffIDs",
            manifest.layers.len(),
            config.rootfs.diff_ids.len()
        );
        return Err(failed("config", "one diffID for each layer", Refusal::Unusable(why)));
    }
    let found = descriptor.digest.to_string();
    notes.pass("config", format!("the manifest's {found}"), found);

    if let Some(release) = release {
        if !manifest.layers.iter().any(|layer| layer.digest == release.model.layer) {
            let wanted = format!("layer {}", release.model.layer);
            return Err(failed("model", wanted, Refusal::ModelMismatch));
        }
        let found = format!("{} in layer {}", release.model.digest, release.model.layer);
        notes.pass("model", "the released model among the layers", found);
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
                let wanted = "the index that the statement names";
                return Err(failed("manifest", wanted, Refusal::OtherImage));
            }
            index.child(platform).map(|child: &Descriptor| child.digest).ok_or_else(|| {
                let found = format!("the index has {} others", index.manifests.len());
                failed("platform", platform.to_string(), Refusal::WrongPlatform(platform, found))
            })?
        }
        Err(_) => top,
    };
    match release.map(|release| release.platforms.get(&platform)) {
        Some(Some(want)) if *want != child => {
            // The index is signed, so this is a statement that contradicts its own index, or a
            // platform manifest of another machine was asked for.
            let found = format!("{child} is not the {platform} image of this release");
            let refusal = Refusal::WrongPlatform(platform, found);
            Err(failed("platform", want.to_string(), refusal))
        }
        Some(None) => {
            let refusal = Refusal::WrongPlatform(platform, "none".into());
            Err(failed("platform", platform.to_string(), refusal))
        }
        _ => Ok(child),
    }
}
