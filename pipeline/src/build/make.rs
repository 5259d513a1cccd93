//! From a context and a model to images: each platform on its engine, engines beside each other.

use std::{collections::BTreeMap, io::Write as _, path::Path};

use futures_util::future::try_join_all;
use pitlane_builder::{self as builder, Builder, Event};
use pitlane_release::{Platform, provenance::DockerfileParameters};

use super::{Build, Reach, fault, lay, look};
use crate::{
    assemble::{
        Assembled, Blob, Built, Origin,
        image::{Runtime, annotations, runtime_layer, together},
        layer::model_layer,
        origin::{FromDockerfile, Program},
    },
    engine::EngineAt,
    lane::StepError,
};

/// What images are made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The operator's word.
    pub build: &'a Build,
    /// Platforms to build.
    pub platforms: &'a [Platform],
    /// The context, as the commit has it.
    pub context: &'a Path,
    /// The model file.
    pub model: &'a Path,
    /// The card's bytes.
    pub card: &'a [u8],
    /// Notes that go into manifests and configs: source, revision, version.
    pub notes: &'a BTreeMap<String, String>,
    /// RFC 3339 time of the commit.
    pub created: &'a str,
    /// Where the layers go; what an earlier, killed build left there is removed.
    pub blobs: &'a Path,
    /// Where the engine's words are kept, a file for each platform.
    pub logs: &'a Path,
    /// Where packed runtimes are kept between releases.
    pub cache: &'a Path,
    /// The run: builds are called by it in the engine.
    pub run: &'a str,
}

/// Builds the images. Dropping the future stops the builds.
pub async fn assemble(inputs: &Inputs<'_>) -> Result<Assembled, StepError> {
    let build = inputs.build;
    build.look().map_err(|error| file(&error))?;
    if inputs.blobs.exists() {
        std::fs::remove_dir_all(inputs.blobs).map_err(|error| file(&error.into()))?;
    }
    std::fs::create_dir_all(inputs.blobs).map_err(|error| file(&error.into()))?;
    let (model_blob, model) = {
        let (path, card) = (inputs.model.to_owned(), inputs.card.to_owned());
        blocking(move || Ok(model_layer(&path, &card)?)).await?
    };
    let notes = annotations(inputs.notes, inputs.created, &model);
    // One connection for each engine; an engine builds one image after the other.
    let mut engines: Vec<(&EngineAt, Vec<Platform>)> = Vec::new();
    for platform in inputs.platforms {
        let at = build.engine_of(*platform);
        match engines.iter_mut().find(|(known, _)| *known == at) {
            Some((_, platforms)) => platforms.push(*platform),
            None => engines.push((at, vec![*platform])),
        }
    }
    let made = try_join_all(engines.into_iter().map(|(at, platforms)| {
        let (model_blob, notes) = (&model_blob, &notes);
        async move {
            let engine = at.connect().await?;
            let mut images = Vec::new();
            for platform in platforms {
                images.push((platform, one(inputs, &engine, platform, model_blob, notes).await?));
            }
            Ok::<_, StepError>(images)
        }
    }));
    let images = made.await?.into_iter().flatten().collect();
    together(images, &notes, &model_blob, model).map_err(|error| file(&error))
}

/// One platform's image.
async fn one(
    inputs: &Inputs<'_>,
    engine: &Builder,
    platform: Platform,
    model: &Blob,
    notes: &BTreeMap<String, String>,
) -> Result<Built, StepError> {
    let (build, arch) = (inputs.build, platform.architecture());
    let mut request = build.request(platform, inputs.context.into(), inputs.blobs.into());
    request.created = Some(inputs.created.to_owned());
    request.name = Some(format!("{}-{arch}", inputs.run));
    let log = inputs.logs.join(format!("build-{arch}.log"));
    let mut words = std::fs::File::create(&log).map_err(|error| file(&error.into()))?;
    let listen = |event: Event| {
        let line = match event {
            Event::Step { text } => {
                tracing::info!(run.id = inputs.run, %platform, step = text, "building");
                text
            }
            Event::Log { text } => text,
            Event::LogCut { max } => format!("(more than {max} bytes; the rest is not kept)"),
            Event::Packed { bytes, entries, digest } => {
                format!("context {digest}: {entries} entries, {bytes} bytes")
            }
            Event::Saving { image } => format!("reading {image} back"),
        };
        // Only for people; a full disk shows elsewhere.
        let _ = writeln!(words, "{line}");
    };
    let image = engine.build(&request, listen).await;
    let image = image.map_err(|error| fault::of(&error, platform, &log))?;
    let own = build.runtime.get(&platform).cloned();
    let (parameters, cache) = (parameters(build, platform, &image), inputs.cache.to_owned());
    let (model, notes) = (model.clone(), notes.clone());
    let created = inputs.created.to_owned();
    blocking(move || {
        let layers: Vec<Blob> = image.layers.iter().map(lay::blob).collect();
        let found = look::through(&layers)?;
        let own = own.filter(|_| found.runtime.is_none());
        let own = own.map(|binary| runtime_layer(&binary, &cache)).transpose()?;
        let top =
            lay::Top { model: &model, runtime: own.as_ref(), created: &created, notes: &notes };
        let laid = lay::on(&image, layers, &top)?;
        let dockerfile = Box::new(FromDockerfile {
            dockerfile: image.dockerfile,
            context: image.context,
            parameters,
            runtime: program(own, found.runtime),
            system: found.system,
            packages: found.packages,
        });
        let lay::Laid { manifest, config, layers } = laid;
        Ok(Built { manifest, config, layers, origin: Origin::Dockerfile { dockerfile } })
    })
    .await
}

fn program(
    own: Option<Runtime>,
    found: Option<(pitlane_release::Digest, Vec<crate::assemble::crates::Crate>)>,
) -> Option<Program> {
    let laid = own.map(|own| Program { digest: own.binary, laid: true, crates: own.crates });
    laid.or_else(|| found.map(|(digest, crates)| Program { digest, laid: false, crates }))
}

/// What the provenance says of a build.
fn parameters(build: &Build, platform: Platform, image: &builder::Built) -> DockerfileParameters {
    DockerfileParameters {
        context: build.context.to_string_lossy().into_owned(),
        dockerfile: build.dockerfile.clone(),
        target: build.target.clone(),
        args: build.args_of(platform),
        secrets: build.secrets.keys().cloned().collect(),
        network: match build.network {
            Reach::None => "none".into(),
            Reach::Default => "default".into(),
        },
        cache: build.cache,
        engine: image.engine.clone(),
        bases: image.bases.clone(),
    }
}

/// Connects to every engine, and looks for the bases there: for `pitlane config check`. Each base
/// must be on one of them; which platform starts from it shows when a Dockerfile is read.
pub async fn reachable(build: &Build, platforms: &[Platform]) -> Result<(), StepError> {
    build.look().map_err(|error| file(&error))?;
    let mut missing: BTreeMap<&str, StepError> = BTreeMap::new();
    let mut found: Vec<&str> = Vec::new();
    for platform in platforms {
        let engine = build.engine_of(*platform).connect().await?;
        for base in &build.bases {
            match engine.has_base(base).await {
                Ok(()) => found.push(base),
                Err(error) => {
                    let error = fault::of(&error, *platform, Path::new(""));
                    missing.insert(base, error);
                }
            }
        }
    }
    missing.retain(|base, _| !found.contains(base));
    missing.into_values().next().map_or(Ok(()), Err)
}

/// An error of this machine.
fn file(error: &anyhow::Error) -> StepError {
    let hint = "check `spec.build` and the disk, then `pitlane runs retry`";
    StepError::new("build-file", format!("{error:#}"), hint)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, StepError> {
    let ended = tokio::task::spawn_blocking(work).await.map_err(anyhow::Error::new);
    ended.and_then(|made| made).map_err(|error| file(&error))
}
