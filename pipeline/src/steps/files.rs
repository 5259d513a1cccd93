//! The files of a run that later steps still need, and those that nobody needs any more.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{
    assemble::{Assembled, Blob, Place},
    build,
    checkout::Checkout,
    config::Pipeline,
    lane::{Outputs, Step},
};

/// Whether a file that an unfinished run still needs is gone, or was cut short: a run that comes
/// from another machine, or whose folder was cleaned.
pub(super) fn lost(dir: &Path, done: &Outputs) -> bool {
    if done.is_empty() || done.contains_key(&Step::Push) {
        // After the push everything is in the registry, in the journal, or a kept document.
        return false;
    }
    if !dir.exists() {
        return true;
    }
    let checkout: Option<Checkout> = output(done, Step::Checkout);
    let mut needed: Vec<PathBuf> = Vec::new();
    if let Some(checkout) = checkout {
        let Checkout { model, context, code, .. } = checkout;
        needed.push(model);
        // The candidate is made of them; then they have done their duty.
        if !done.contains_key(&Step::Assemble) {
            needed.extend(context);
            needed.extend(code.into_values());
        }
    }
    let converted = done.get(&Step::Model).is_some_and(|facts| !facts["conversion"].is_null());
    if converted {
        needed.push(dir.join("model.onnx"));
    }
    let assembled: Option<Assembled> = output(done, Step::Assemble);
    let images = assembled.iter().flat_map(|assembled| assembled.images.values());
    let blobs_gone = images.flat_map(|image| &image.layers).any(gone);
    blobs_gone || needed.iter().any(|path| !path.exists())
}

/// Whether a blob's file is missing or has another length. A framed one is as long as its file and
/// what is around it.
fn gone(blob: &Blob) -> bool {
    match &blob.place {
        Place::File { path } => {
            std::fs::metadata(path).map_or(true, |meta| meta.len() != blob.descriptor.size)
        }
        Place::Framed { path, .. } => !path.exists(),
        Place::Inline { .. } => false,
    }
}

fn output<T: for<'de> Deserialize<'de>>(done: &Outputs, step: Step) -> Option<T> {
    serde_json::from_value(done.get(&step)?.clone()).ok()
}

/// Removes what was built once it is in the registry: an image's layers take gigabytes.
pub(super) fn sweep(dir: &Path) {
    for name in ["image", "context", "code"] {
        let path = dir.join(name);
        if let Err(error) = std::fs::remove_dir_all(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "what was pushed could not be removed");
        }
    }
}

/// Looks at everything that images are made of, for `pitlane config check`.
pub async fn look(pipeline: &Pipeline) -> anyhow::Result<()> {
    let spec = &pipeline.spec;
    if let Some(base) = &spec.base {
        for platform in &spec.platforms {
            crate::assemble::base::read(&base.layout, *platform)?;
        }
    }
    if let Some(build) = &spec.build {
        build::reachable(build, &spec.platforms).await?;
    }
    if let Some(convert) = &spec.model.convert {
        let engine = convert.engine.connect().await?;
        engine.has_base(&convert.image()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_begins_anew_when_a_file_that_it_needs_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        let file = |name: &str| dir.join(name);
        let digest = pitlane_release::Digest::of("x").to_string();
        let blob = |place: serde_json::Value| json!({ "descriptor": { "mediaType": "m", "digest": digest, "size": 1 }, "place": place });
        let at = |name: &str| blob(json!({ "kind": "file", "path": file(name) }));
        let inline = || blob(json!({ "kind": "inline", "data": "eA==" }));
        let parameters = json!({ "context": ".", "dockerfile": "D", "network": "none", "cache": false,
            "engine": "e", "bases": {} });
        let dockerfile =
            json!({ "dockerfile": digest, "context": digest, "parameters": parameters });
        let mut done = Outputs::from([
            (
                Step::Checkout,
                json!({ "commit": "1".repeat(40), "tagObject": null, "committedAt": "x", "card": "",
                    "model": file("model.original"), "context": file("context"),
                    "code": { "net": file("code/net.py") } }),
            ),
            (Step::Model, json!({ "conversion": { "framework": "keras" } })),
        ]);
        let make = || {
            for name in ["context", "code", "image"] {
                std::fs::create_dir_all(file(name)).unwrap();
            }
            for name in ["model.original", "model.onnx", "code/net.py", "image/layer"] {
                std::fs::write(file(name), b"x").unwrap();
            }
        };
        assert!(!lost(&dir, &Outputs::new()), "nothing is done yet");
        assert!(lost(&dir, &done), "the folder is gone");
        make();
        assert!(!lost(&dir, &done));
        let without = |name: &str, done: &Outputs| {
            make();
            let path = file(name);
            if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            }
            .unwrap();
            let found = lost(&dir, done);
            make();
            found
        };
        for name in ["model.original", "model.onnx", "context", "code"] {
            assert!(without(name, &done), "{name}");
        }
        let image = json!({ "manifest": inline(), "config": inline(), "layers": [at("image/layer")],
            "dockerfile": dockerfile });
        let assembled = json!({ "index": inline(), "images": { "linux/amd64": image },
            "model": digest, "modelLayer": digest });
        let read: Assembled = serde_json::from_value(assembled.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), assembled, "the journal keeps all of it");
        done.insert(Step::Assemble, assembled);
        assert!(without("image", &done));
        assert!(!without("context", &done), "it is in the image");
        std::fs::write(file("image/layer"), b"cut short?").unwrap();
        assert!(lost(&dir, &done), "a layer of another length");
        done.insert(Step::Push, json!(null));
        sweep(&dir);
        assert!(!file("image").exists() && file("model.onnx").exists());
        sweep(&dir);
        assert!(!lost(&dir, &done), "it is in the registry");
    }
}
