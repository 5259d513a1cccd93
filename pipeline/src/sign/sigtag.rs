//! cosign's `.sig` tags: signatures for readers that know no bundles (skopeo, podman, CRI-O).
//!
//! A tag `sha256-<hex>.sig` names a manifest with one layer per signature: the layer is the
//! signed payload ("simple signing"), its annotation the signature. Who signs adds a layer; what
//! others put there stays. Source: sigstore/cosign `specs/SIGNATURE_SPEC.md`.

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_release::{
    Digest, Repository,
    oci::{CONFIG, DOCKER_MANIFEST, Descriptor, MANIFEST, MAX_MANIFEST},
    simple::{SIMPLE_SIGNING, SimpleSigning},
};
use serde_json::{Value, json};

/// The annotation that holds a signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The date in a config that says nothing.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What is signed: that this manifest is this repository's.
pub fn payload(repository: &Repository, digest: &Digest) -> anyhow::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&SimpleSigning::of(repository, *digest))?)
}

/// What stands under a `.sig` tag. Kept as JSON, so that fields which nobody here knows stay.
#[derive(Clone, Debug)]
pub struct SigTag {
    manifest: Value,
    config: Value,
    media_type: &'static str,
}

impl Default for SigTag {
    /// No signatures yet.
    fn default() -> Self {
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": [] });
        let config = json!({
            "architecture": "", "os": "", "created": NEVER, "config": {}, "history": [],
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        Self { manifest, config, media_type: MANIFEST }
    }
}

/// A `.sig` tag as it is pushed.
#[derive(Debug)]
pub struct Written {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Its media type.
    pub media_type: &'static str,
    /// Its config.
    pub config: Vec<u8>,
}

/// The config that a manifest names.
pub fn config_of(manifest: &[u8]) -> anyhow::Result<Descriptor> {
    let value: Value = serde_json::from_slice(manifest).context("not JSON")?;
    serde_json::from_value(value["config"].clone()).context("it names no config")
}

impl SigTag {
    /// Reads what is there; refuses what could not be added to without losing something.
    pub fn read(manifest: &[u8], config: &[u8]) -> anyhow::Result<Self> {
        let manifest: Value = serde_json::from_slice(manifest).context("not JSON")?;
        let media_type = match manifest["mediaType"].as_str() {
            None | Some(MANIFEST) => MANIFEST,
            Some(DOCKER_MANIFEST) => DOCKER_MANIFEST,
            Some(other) => bail!("it is `{other}`, want an image manifest"),
        };
        let config: Value = serde_json::from_slice(config).context("its config is not JSON")?;
        let (layers, ids) = (&manifest["layers"], &config["rootfs"]["diff_ids"]);
        let count = |list: &Value| list.as_array().map(Vec::len);
        ensure!(count(layers).is_some(), "it has no layers");
        ensure!(count(layers) == count(ids), "its config does not list its layers");
        Ok(Self { manifest, config, media_type })
    }

    /// Whether a payload has a signature that `verifies`.
    pub fn has(&self, payload: &[u8], verifies: impl Fn(&[u8]) -> bool) -> bool {
        let digest = Digest::of(payload).to_string();
        self.manifest["layers"].as_array().into_iter().flatten().any(|layer| {
            let signature = layer["annotations"][SIGNATURE].as_str().unwrap_or_default();
            layer["digest"] == digest.as_str()
                && STANDARD.decode(signature).is_ok_and(|signature| verifies(&signature))
        })
    }

    /// Adds a signature to those that are there.
    pub fn with(mut self, payload: &[u8], signature: &[u8]) -> anyhow::Result<Written> {
        let mut layer = Descriptor::of(SIMPLE_SIGNING, payload);
        layer.annotations.insert(SIGNATURE.into(), STANDARD.encode(signature));
        push(&mut self.manifest["layers"], serde_json::to_value(&layer)?)?;
        push(&mut self.config["rootfs"]["diff_ids"], layer.digest.to_string().into())?;
        if self.config["history"].is_array() {
            push(&mut self.config["history"], json!({ "created": NEVER }))?;
        }
        let config = serde_json::to_vec(&self.config)?;
        let kind = self.manifest["config"]["mediaType"].as_str().unwrap_or(CONFIG).to_owned();
        self.manifest["config"] = serde_json::to_value(Descriptor::of(&kind, &config))?;
        let manifest = serde_json::to_vec(&self.manifest)?;
        let size = manifest.len() as u64;
        ensure!(size <= MAX_MANIFEST, "it would have {size} bytes, registries take {MAX_MANIFEST}");
        Ok(Written { manifest, media_type: self.media_type, config })
    }
}

fn push(list: &mut Value, item: Value) -> anyhow::Result<()> {
    list.as_array_mut().context("not a list")?.push(item);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "sha256:27a6d1cefdeb053704fc2cb695b59129ec5f2362ab4b93bcbe910ac0b9bd1d7d";

    fn repository() -> Repository {
        "127.0.0.1:35999/o/p256".parse().unwrap()
    }

    #[test]
    fn the_payload_is_byte_for_byte_what_cosign_signs() {
        let digest: Digest = IMAGE.parse().unwrap();
        // Digest and size that cosign 3.1.1 wrote for this image in this repository.
        let theirs = "sha256:eff0ba56e6499d0a094dbe785a328ed5f6b2e8c5338193047da33973a4e2413e";
        let ours = payload(&repository(), &digest).unwrap();
        assert_eq!((Digest::of(&ours).to_string().as_str(), ours.len()), (theirs, 238));
        let tag = pitlane_release::simple::tag(&digest, "sig");
        assert_eq!(tag, format!("{}.sig", IMAGE.replace(':', "-")));
    }

    #[test]
    fn a_signature_is_added_and_nothing_of_others_is_lost() {
        let payload = payload(&repository(), &IMAGE.parse().unwrap()).unwrap();
        let first = SigTag::default().with(&payload, b"theirs").unwrap();
        let mut foreign: Value = serde_json::from_slice(&first.manifest).unwrap();
        foreign["annotations"] = json!({ "org.example/kept": "yes" });
        foreign["layers"][0]["annotations"]["dev.sigstore.cosign/bundle"] = "{}".into();
        foreign["layers"][0]["urls"] = json!(["https://example.org"]);
        let found = SigTag::read(foreign.to_string().as_bytes(), &first.config).unwrap();
        assert!(found.has(&payload, |s| s == b"theirs"));
        assert!(!found.has(&payload, |s| s == b"ours"));
        assert!(!found.has(b"another payload", |_| true));
        let both = found.with(&payload, b"ours").unwrap();
        let read: Value = serde_json::from_slice(&both.manifest).unwrap();
        assert_eq!(read["annotations"], foreign["annotations"]);
        assert_eq!(read["layers"][0], foreign["layers"][0]);
        let again = SigTag::read(&both.manifest, &both.config).unwrap();
        assert!(again.has(&payload, |s| s == b"theirs") && again.has(&payload, |s| s == b"ours"));
        assert_eq!(config_of(&both.manifest).unwrap().digest, Digest::of(&both.config));
        let config: Value = serde_json::from_slice(&both.config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
        assert_eq!(config["history"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_added_to_is_refused() {
        let good = SigTag::default().with(b"{}", b"s").unwrap();
        let index = json!({ "mediaType": pitlane_release::oci::INDEX, "manifests": [] });
        let bare = json!({ "mediaType": MANIFEST });
        for (manifest, config, want) in [
            (index.to_string(), "{}", "want an image manifest"),
            (bare.to_string(), "{}", "no layers"),
            ("[".into(), "{}", "not JSON"),
            (String::from_utf8(good.manifest).unwrap(), "{}", "does not list"),
        ] {
            let error = SigTag::read(manifest.as_bytes(), config.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(want), "{manifest}: {error}");
        }
    }
}
