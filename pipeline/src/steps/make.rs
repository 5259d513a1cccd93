//! Checkout, model, assemble, prove: from a tag to a candidate that has driven.

use std::path::PathBuf;

use anyhow::Context as _;
use pitlane_github::GitEnv;
use pitlane_release::{ModelCard, Platform};
use serde_json::Value;

use super::{Context, failed};
use crate::{
    assemble::{self, Assembled, Inputs, Origin, image::RUNTIME, layer::read_whole},
    build,
    checkout::{self, Checkout, Extras, Folder, LfsAt, Modules},
    config::{Attest, Spec},
    convert,
    lane::{Step, StepError},
    model::{self, ModelFacts},
    prove::{Prove, prove},
    unpack::{Devices, Rules, unpack},
};

/// A candidate is unpacked as cars do it.
const CANDIDATE: Rules = Rules { bytes: 32 << 30, devices: Devices::Refused };

impl Context<'_> {
    pub(super) async fn checkout(&self) -> anyhow::Result<Checkout> {
        let spec = &self.ready.pipeline.spec;
        let tag = self.job.tag.parse()?;
        let (path, card) = (&spec.model.path, spec.model.card_path());
        let url = &spec.source.url;
        let login = match self.lane.github.as_deref() {
            Some(link) => link.login(&spec.source.repository, url).await?,
            None => None,
        };
        let extras = extras(spec, login.as_ref());
        let found = match &self.job.local {
            Some(files) => {
                let commit = self.job.commit.as_deref();
                checkout::local(url, &tag, files, commit, &card, self.dir, &extras).await?
            }
            None => checkout::checkout(url, &tag, path, &card, self.dir, &extras).await?,
        };
        if let Some(announced) = &self.job.commit
            && announced != found.commit.as_str()
        {
            let why = format!(
                "tag {tag} was announced at {announced}, the repository has it at {}",
                found.commit
            );
            let hint = "somebody moved the tag; make a new tag, tags are for ever";
            return Err(StepError::new("tag-moved", why, hint).refusal().into());
        }
        let signed = spec.source.signed_tags;
        match self.lane.github.as_deref().filter(|link| link.has(&spec.source.repository)) {
            // A file's commit is on the operator's word, and may have no tag at all.
            _ if self.job.local.is_some() && !signed => {}
            Some(link) => {
                link.vouches(&spec.source.repository, &tag, &found.commit, signed).await?;
            }
            None if signed => {
                let why = "`source.signedTags` needs `github:` of the service, and a source on it";
                let hint = "only GitHub's word on a signature is known; see docs/github.md";
                return Err(StepError::new("tag-unsigned", why, hint).refusal().into());
            }
            None => {}
        }
        Ok(found)
    }

    pub(super) async fn model(&self) -> anyhow::Result<ModelFacts> {
        let checkout: Checkout = self.output(Step::Checkout)?;
        let spec = &self.ready.pipeline.spec;
        let card = ModelCard::parse(&checkout.card)
            .with_context(|| spec.model.card_path().display().to_string())?;
        let shown = spec.model.path.display().to_string();
        let contract = spec.model.contract.clone();
        let file = self.model_file(&checkout);
        let conversion = match &spec.model.convert {
            None => None,
            Some(convert) => Some(
                convert::convert(&convert::Inputs {
                    convert,
                    original: &checkout.model,
                    shown: &shown,
                    card: &card,
                    code: &checkout.code,
                    max_bytes: contract.max_bytes,
                    target: &file,
                    run: &self.job.run,
                })
                .await?,
            ),
        };
        let work = move || {
            let bytes = read_whole(&file, contract.max_bytes).with_context(|| shown.clone())?;
            model::inspect_owned(bytes.into(), &card, &contract).map_err(|refusal| {
                let why = format!("{shown}: {refusal}");
                let hint = "mend the model and push a new tag (docs/model.md)";
                StepError::new(refusal.code(), why, hint).refusal().into()
            })
        };
        let facts: anyhow::Result<ModelFacts> = tokio::task::spawn_blocking(work).await?;
        Ok(ModelFacts { conversion, ..facts? })
    }

    /// The ONNX file: what the repository has, or what the step `model` made of it.
    fn model_file(&self, checkout: &Checkout) -> PathBuf {
        match &self.ready.pipeline.spec.model.convert {
            Some(_) => self.dir.join("model.onnx"),
            None => checkout.model.clone(),
        }
    }

    pub(super) async fn assemble(&self) -> anyhow::Result<Assembled> {
        let checkout: Checkout = self.output(Step::Checkout)?;
        let spec = &self.ready.pipeline.spec;
        let annotations = assemble::image::notes(
            &spec.source.repository,
            &checkout.commit,
            &self.job.tag,
            &spec.car_kind,
        );
        let facts: ModelFacts = self.output(Step::Model)?;
        let model = self.model_file(&checkout);
        let assembled = if let Some(build) = &spec.build {
            build::assemble(&build::Inputs {
                build,
                platforms: &spec.platforms,
                context: checkout.context.as_deref().context("checkout has left no context")?,
                model: &model,
                card: checkout.card.as_bytes(),
                notes: &annotations,
                created: &checkout.committed_at,
                blobs: &self.dir.join("image"),
                logs: self.dir,
                cache: &self.lane.cache,
                run: &self.job.run,
            })
            .await?
        } else {
            let (spec, cache, model) = (spec.clone(), self.lane.cache.clone(), model.clone());
            let work = move || {
                assemble::assemble(&Inputs {
                    base: &spec.base.context("`spec.base` is missing")?.layout,
                    runtime: &spec.runtime,
                    platforms: &spec.platforms,
                    model: &model,
                    card: checkout.card.as_bytes(),
                    annotations: &annotations,
                    created: Some(&checkout.committed_at),
                    cache: &cache,
                })
            };
            tokio::task::spawn_blocking(work).await??
        };
        let (found, shown) = (assembled.model, model.display());
        anyhow::ensure!(found == facts.digest, "{shown}: {found} is not what was inspected");
        Ok(assembled)
    }

    pub(super) async fn prove(&self) -> Result<Value, StepError> {
        let fail = |error: anyhow::Error| failed(Step::Prove, &error);
        let spec = &self.ready.pipeline.spec;
        let Some(scenario) = &spec.prove else { return Ok(Value::Null) };
        let assembled: Assembled = self.output(Step::Assemble).map_err(fail)?;
        let rootfs = self.dir.join("candidate");
        self.candidate(&assembled, &rootfs).await?;
        let evidence_dir = self.dir.join("laps");
        let library = spec.build.as_ref().and_then(|build| build.onnx_runtime.to_str());
        let proof = prove(&Prove {
            rootfs: &rootfs,
            model: "/models/pilot.onnx",
            onnx_runtime: library,
            scenario,
            limits: &spec.limits,
            golden: spec.sign.attest.contains(&Attest::Golden),
            twin: self.lane.tools.twin.clone(),
            jail: self.lane.tools.jail.clone(),
            evidence_dir: &evidence_dir,
        })
        .await;
        // The unpacked candidate has done its duty; the plots and traces stay.
        let _ = std::fs::remove_dir_all(&rootfs);
        let proof = proof.map_err(|error| fail(error.into()))?;
        let failure = proof.runs.iter().find_map(|run| run.failure.as_ref());
        let failure = failure.or(proof.golden_failure.as_ref());
        if let Some(failure) = failure.filter(|_| !proof.passed) {
            let hint = "look at the plot and the trace, retrain, and push a new tag";
            return Err(StepError::new(&failure.code, &failure.message, hint).refusal());
        }
        if let Some(golden) = proof.golden.as_ref().filter(|one| one.model != assembled.model) {
            let why = anyhow::anyhow!("{} answered the golden frames", golden.model);
            return Err(fail(why.context(format!("the candidate's model is {}", assembled.model))));
        }
        serde_json::to_value(&proof).map_err(|error| fail(error.into()))
    }

    /// Unpacks the candidate for this machine.
    async fn candidate(
        &self,
        assembled: &Assembled,
        rootfs: &std::path::Path,
    ) -> Result<(), StepError> {
        let fail = |error: anyhow::Error| failed(Step::Prove, &error);
        let platform = proving_platform().map_err(fail)?;
        let image = assembled.images.get(&platform);
        let image = image
            .with_context(|| format!("to prove here, `spec.platforms` must contain {platform}"))
            .map_err(fail)?;
        if let Origin::Dockerfile { dockerfile } = &image.origin
            && dockerfile.runtime.is_none()
        {
            // Laps by another program would be evidence of the model alone, and say that the image
            // drove.
            let why = format!(
                "the image for {platform} has no {RUNTIME}, so it cannot drive in the twin"
            );
            let hint = "COPY pitlane-car there in the Dockerfile, or name it in `spec.build.runtime`; \
                        without `spec.prove` nothing is proven";
            return Err(StepError::new("prove-no-runtime", why, hint).refusal());
        }
        let (layers, root) = (image.layers.clone(), rootfs.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || unpack(&layers, &root, CANDIDATE)).await;
        let unpacked = unpacked.map_err(anyhow::Error::new).and_then(|done| done);
        unpacked.map_err(|error| fail(error.context("the candidate cannot be unpacked")))
    }
}

/// What a pipeline needs of the commit beside an ONNX model and its card.
fn extras<'a>(spec: &'a Spec, login: Option<&'a GitEnv>) -> Extras<'a> {
    let context = spec.build.as_ref().map(|build| Folder {
        path: &build.context,
        bytes: build.limits.context_mib * 1024 * 1024,
        entries: build.limits.context_entries,
    });
    let modules = match &spec.model.convert {
        Some(convert) if convert.framework == convert::Framework::Pytorch => match &convert.code {
            Some(paths) => Modules::Named(paths),
            None => Modules::Beside(&spec.model.path),
        },
        _ => Modules::None,
    };
    let authorization = login.and_then(|login| checkout::authorization(login.pairs()));
    let lfs = LfsAt { server: spec.model.lfs_url.as_deref(), authorization };
    let max_model = spec.model.contract.max_bytes;
    let original = spec.model.convert.is_some();
    let files = !spec.gates.0.is_empty();
    Extras { max_model, original, context, files, modules, lfs, login }
}

/// The platform whose image drives in the twin: this machine's.
pub(super) fn proving_platform() -> anyhow::Result<Platform> {
    Platform::host().context("releases are made for amd64 and arm64; this machine is neither")
}
