//! The model on top of a built image, as the layer that all platforms share; below it the operator's
//! runtime, where the Dockerfile brings none.

use std::collections::BTreeMap;

use pitlane_builder as builder;
use pitlane_release::oci::{self, CONFIG, Descriptor};

use crate::assemble::{
    Blob, Place,
    image::{RUNTIME, Runtime, laid, manifest},
};

/// What is laid on a built image.
pub(super) struct Top<'a> {
    pub(super) model: &'a Blob,
    pub(super) runtime: Option<&'a Runtime>,
    /// RFC 3339 time of the commit.
    pub(super) created: &'a str,
    /// Annotations and labels, with the model's digest.
    pub(super) notes: &'a BTreeMap<String, String>,
}

/// An image that is ready to be pushed.
pub(super) struct Laid {
    pub(super) manifest: Blob,
    pub(super) config: Blob,
    pub(super) layers: Vec<Blob>,
}

/// Makes config and manifest anew over the engine's layers and ours.
pub(super) fn on(
    image: &builder::Built,
    mut layers: Vec<Blob>,
    top: &Top<'_>,
) -> anyhow::Result<Laid> {
    let mut config = oci::parse_config(&image.config.bytes)?;
    if let Some(runtime) = top.runtime {
        layers.push(runtime.blob.clone());
        config.rootfs.diff_ids.push(runtime.diff_id);
        config.history.push(laid("runtime", top.created));
    }
    layers.push(top.model.clone());
    config.rootfs.diff_ids.push(top.model.descriptor.digest);
    config.history.push(laid("model", top.created));
    config.created = Some(top.created.to_owned());
    let start = &mut config.config;
    // What the Dockerfile says of its start stands; one that says nothing starts the runtime.
    if start.entrypoint.is_none() && start.cmd.is_none() && top.runtime.is_some() {
        start.entrypoint = Some(vec![RUNTIME.into()]);
        start.cmd = Some(["drive", "--model", "/models/pilot.onnx"].map(str::to_owned).into());
    }
    start.labels.get_or_insert_default().extend(top.notes.clone());
    let config = Blob::inline(CONFIG, &serde_json::to_vec(&config)?);
    let manifest = manifest(&config, &layers, top.notes)?;
    Ok(Laid { manifest, config, layers })
}

/// An engine's layer as a blob to push.
pub(super) fn blob(layer: &builder::Layer) -> Blob {
    let Descriptor { media_type, digest, size, .. } = &layer.descriptor;
    Blob {
        descriptor: Descriptor::new(media_type, *digest, *size),
        place: Place::File { path: layer.path.clone() },
    }
}
