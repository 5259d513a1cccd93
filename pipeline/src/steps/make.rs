//! Checkout, model, assemble, prove: from a tag to a candidate that has driven.

use std::path::Path;

use anyhow::Context as _;
use pitlane_release::{ModelCard, Platform};
use serde_json::Value;

use super::{Context, failed};
use crate::{
    assemble::{self, Assembled, Inputs, layer::read_whole},
    checkout::{self, Checkout},
    config::Attest,
    lane::{Step, StepError},
    model::{self, ModelFacts},
    prove::{Prove, prove},
};

impl Context<'_> {
    pub(super) async fn checkout(&self) -> anyhow::Result<Checkout> {
        let spec = &self.ready.pipeline.spec;
        let tag = self.job.tag.parse()?;
        let max = spec.model.contract.max_bytes;
        let (path, card) = (&spec.model.path, spec.model.card_path());
        let url = &spec.source.url;
        let found = match &self.job.local {
            Some(files) => {
                let commit = self.job.commit.as_deref();
                checkout::local(url, &tag, files, commit, &card, max, self.dir).await?
            }
            None => {
                let link = self.lane.github.as_deref();
                let login = match link {
                    Some(link) => link.login(&spec.source.repository, url).await?,
                    None => None,
                };
                let login = login.as_ref();
                checkout::checkout(url, &tag, path, &card, max, self.dir, login).await?
            }
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
        let work = move || {
            let bytes =
                read_whole(&checkout.model, contract.max_bytes).with_context(|| shown.clone())?;
            model::inspect_owned(bytes.into(), &card, &contract).map_err(|refusal| {
                let why = format!("{shown}: {refusal}");
                let hint = "mend the model and push a new tag (docs/model.md)";
                StepError::new(refusal.code(), why, hint).refusal().into()
            })
        };
        tokio::task::spawn_blocking(work).await?
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
        let (spec, cache) = (spec.clone(), self.lane.cache.clone());
        let work = move || {
            let assembled = assemble::assemble(&Inputs {
                base: &spec.base.layout,
                runtime: &spec.runtime,
                platforms: &spec.platforms,
                model: &checkout.model,
                card: checkout.card.as_bytes(),
                annotations: &annotations,
                created: Some(&checkout.committed_at),
                cache: &cache,
            })?;
            let (found, shown) = (assembled.model, checkout.model.display());
            anyhow::ensure!(found == facts.digest, "{shown}: {found} is not what was inspected");
            Ok(assembled)
        };
        tokio::task::spawn_blocking(work).await?
    }

    pub(super) async fn prove(&self) -> Result<Value, StepError> {
        let fail = |error: anyhow::Error| failed(Step::Prove, &error);
        let spec = &self.ready.pipeline.spec;
        let Some(scenario) = &spec.prove else { return Ok(Value::Null) };
        let assembled: Assembled = self.output(Step::Assemble).map_err(fail)?;
        let rootfs = self.dir.join("candidate");
        unpack(&assembled, &rootfs).map_err(fail)?;
        let evidence_dir = self.dir.join("laps");
        let proof = prove(&Prove {
            rootfs: &rootfs,
            model: "/models/pilot.onnx",
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
}

/// The platform whose image drives in the twin: this machine's.
pub(super) fn proving_platform() -> anyhow::Result<Platform> {
    Platform::host().context("releases are made for amd64 and arm64; this machine is neither")
}

/// Unpacks the candidate for this machine. Its layers were just made here from the operator's
/// base and runtime and one model file, so a plain unpacking is enough.
fn unpack(assembled: &Assembled, rootfs: &Path) -> anyhow::Result<()> {
    if rootfs.exists() {
        std::fs::remove_dir_all(rootfs)?;
    }
    std::fs::create_dir_all(rootfs)?;
    let platform = proving_platform()?;
    let image = assembled
        .images
        .get(&platform)
        .with_context(|| format!("to prove here, `spec.platforms` must contain {platform}"))?;
    for blob in &image.layers {
        let reader = blob.open()?;
        let gzip = blob.descriptor.media_type == pitlane_release::oci::LAYER_GZIP;
        let reader: Box<dyn std::io::Read> =
            if gzip { Box::new(flate2::read::MultiGzDecoder::new(reader)) } else { reader };
        let mut archive = tar::Archive::new(reader);
        archive.set_preserve_mtime(false);
        archive.unpack(rootfs).with_context(|| format!("unpacking {}", blob.descriptor.digest))?;
    }
    Ok(())
}
