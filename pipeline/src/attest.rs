//! The statements of a release: provenance, laps, SBOMs, signatures, and the release statement.
//!
//! Built from the outputs of finished steps by pure functions; sealing and attaching is the
//! steps' business.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use jiff::Timestamp;
use pitlane_release::{
    Counter, Digest, ModelCard, Platform,
    facts::{AttestedModel, MODEL},
    golden::{GOLDEN, GoldenFrames},
    lap::{Drive, LAP, Lap, Resource, TestResult},
    provenance::{
        BuildDefinition, Builder, ExternalParameters, InternalParameters, PROVENANCE, Provenance,
        RunDetails, RunMetadata, SourceParameter,
    },
    statement::{
        COSIGN_SIGN, EvidenceRef, Model, Release, ReleaseStatement, Source, Statement, Subject,
    },
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    assemble::Assembled,
    checkout::Checkout,
    config::Pipeline,
    dependencies::{Made, conversion},
    lane::Job,
    model::ModelFacts,
    model_signing::{self, CARD_FILE, MODEL_FILE, ModelSignature},
    prove::Proof,
    sbom::{self, Bom, CYCLONEDX},
};

/// Where a file that was not in the commit came from: its name on the pipeline's machine.
pub const BY_FILE: &str = "file:";

/// What every statement of a run is built from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The run.
    pub job: &'a Job,
    /// What was checked out.
    pub checkout: &'a Checkout,
    /// What was assembled.
    pub assembled: &'a Assembled,
}

impl Facts<'_> {
    /// Platform → manifest.
    pub fn manifests(&self) -> BTreeMap<Platform, Digest> {
        let images = self.assembled.images.iter();
        images.map(|(platform, built)| (*platform, built.manifest.descriptor.digest)).collect()
    }

    /// The paths of model and card in the commit; `file:` and a name when they did not come from
    /// there.
    fn names(&self) -> (String, String) {
        let spec = &self.pipeline.spec.model;
        let by_file = |file: &Path| {
            format!("{BY_FILE}{}", file.file_name().unwrap_or_default().to_string_lossy())
        };
        let local = self.job.local.as_ref();
        let model = local.map(|files| by_file(&files.model));
        let card = local.and_then(|files| files.card.as_deref()).map(by_file);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        (model.unwrap_or_else(|| path(&spec.path)), card.unwrap_or_else(|| path(&spec.card_path())))
    }

    fn card_digest(&self) -> Digest {
        Digest::of(self.checkout.card.as_bytes())
    }

    fn subjects(&self) -> Vec<Subject> {
        let name = self.pipeline.spec.registry.repository.to_string();
        self.manifests().values().map(|digest| Subject::new(Some(name.clone()), *digest)).collect()
    }

    /// SLSA provenance of the platform manifests.
    pub fn provenance(
        &self,
        model_facts: &ModelFacts,
        started: Timestamp,
        finished: Timestamp,
    ) -> Statement<Provenance> {
        let spec = &self.pipeline.spec;
        let commit = self.checkout.commit.as_str().to_owned();
        let uri = match pitlane_fetch::git::is_local(&spec.source.url) {
            // A path on the pipeline's machine means nothing to anybody else.
            true => format!("git+local:{}", spec.source.repository),
            false => format!("git+{}", spec.source.url),
        };
        let mut dependencies = vec![Resource {
            name: Some("source".into()),
            uri: Some(uri.clone()),
            digest: BTreeMap::from([("gitCommit".to_owned(), commit)]),
            media_type: None,
        }];
        let mut model = Resource::named("model", self.assembled.model);
        model.media_type = Some("application/onnx".into());
        let mut card = Resource::named("card", self.card_digest());
        card.media_type = Some("application/yaml".into());
        dependencies.extend([model, card, Resource::named("pipeline", self.pipeline.digest)]);
        dependencies.extend(conversion(model_facts));
        let Made { build_type, dependencies: made, image, dockerfile } =
            Made::of(self.assembled, &self.checkout.committed_at);
        dependencies.extend(made);
        let (model, card) = self.names();
        let predicate = Provenance {
            build_definition: BuildDefinition {
                build_type: build_type.into(),
                external_parameters: ExternalParameters {
                    source: SourceParameter {
                        uri,
                        reference: format!("refs/tags/{}", self.job.tag),
                        repository: Some(spec.source.repository.clone()),
                    },
                    pipeline: self.pipeline.name.clone(),
                    model,
                    card: Some(card),
                    platforms: spec.platforms.clone(),
                },
                internal_parameters: Some(InternalParameters {
                    pipeline_digest: self.pipeline.digest,
                    car_kind: spec.car_kind.clone(),
                    image,
                    dockerfile,
                    conversion: model_facts.conversion.clone(),
                }),
                resolved_dependencies: dependencies,
            },
            run_details: RunDetails {
                builder: Builder {
                    id: spec.sign.builder.clone(),
                    version: BTreeMap::from([(
                        "pitlane".to_owned(),
                        env!("CARGO_PKG_VERSION").to_owned(),
                    )]),
                },
                metadata: RunMetadata {
                    invocation_id: self.job.run.clone(),
                    started_on: started,
                    finished_on: finished,
                },
            },
        };
        Statement::new(PROVENANCE, self.subjects(), predicate)
    }

    /// The laps, as evidence for the manifest that drove and for those with the same model.
    pub fn lap(&self, proof: &Proof, platform: Platform) -> anyhow::Result<Statement<Lap>> {
        let mut shares_model = self.manifests();
        let manifest = shares_model.remove(&platform).ok_or_else(|| {
            anyhow::anyhow!("the laps were driven on {platform}, which is not built")
        })?;
        let reports = proof.runs.iter().filter_map(|run| run.report.as_ref());
        let drives = reports
            .map(|report| serde_json::from_value::<Drive>(serde_json::to_value(report)?))
            .collect::<Result<Vec<_>, _>>()?;
        let name = |drive: &Drive| format!("{} {} from {}", drive.track, drive.light, drive.start);
        let (passed, failed): (Vec<&Drive>, Vec<&Drive>) =
            drives.iter().partition(|drive| drive.passed);
        let scenario = serde_json::to_vec(&self.pipeline.spec.prove)?;
        let mut configuration = vec![Resource::named("scenario", Digest::of(scenario))];
        configuration.extend(
            drives.iter().map(|d| Resource::named(&format!("track {}", d.track), d.track_digest)),
        );
        let predicate = Lap {
            result: if proof.passed { TestResult::Passed } else { TestResult::Failed },
            configuration,
            passed_tests: passed.iter().map(|d| name(d)).collect(),
            failed_tests: failed.iter().map(|d| name(d)).collect(),
            platform,
            manifest,
            shares_model,
            model: self.assembled.model,
            drives,
        };
        Ok(Statement::new(LAP, self.subjects(), predicate))
    }

    /// What was found in the model, and its card.
    pub fn model(&self, card: ModelCard, facts: ModelFacts) -> Statement<AttestedModel> {
        Statement::new(MODEL, self.subjects(), AttestedModel { facts, card })
    }

    /// What a gate said of the commit's files, about the images that were made of them.
    pub fn gate(&self, predicate_type: &str, predicate: Value) -> Statement<Value> {
        Statement::new(predicate_type, self.subjects(), predicate)
    }

    /// The answers that cars have to reproduce.
    pub fn golden(&self, golden: &GoldenFrames) -> Statement<GoldenFrames> {
        Statement::new(GOLDEN, self.subjects(), golden.clone())
    }

    /// The SBOM of one platform's image; it speaks of that manifest alone.
    pub fn sbom(
        &self,
        platform: Platform,
        card: &ModelCard,
        facts: &ModelFacts,
        time: Timestamp,
    ) -> anyhow::Result<Statement<Bom>> {
        let images = &self.assembled.images;
        let built =
            images.get(&platform).with_context(|| format!("{platform} was not assembled"))?;
        let repository = &self.pipeline.spec.registry.repository;
        let bom = sbom::bom(&sbom::About {
            repository,
            tag: &self.job.tag,
            platform,
            built,
            card,
            card_file: self.card_digest(),
            facts,
            time,
        });
        let subject = Subject::new(Some(repository.to_string()), built.manifest.descriptor.digest);
        Ok(Statement::new(CYCLONEDX, vec![subject], bom))
    }

    /// The OpenSSF signature of the folder in the model layer.
    pub fn model_signature(&self, card: &ModelCard) -> Statement<ModelSignature> {
        let files =
            BTreeMap::from([(MODEL_FILE, self.assembled.model), (CARD_FILE, self.card_digest())]);
        model_signing::statement(&card.name, &files)
    }

    /// The release statement over everything.
    pub fn release(
        &self,
        evidence: Vec<EvidenceRef>,
        issued_at: Timestamp,
    ) -> anyhow::Result<ReleaseStatement> {
        let spec = &self.pipeline.spec;
        let release = Release {
            car_kind: spec.car_kind.clone(),
            source: Source {
                repository: spec.source.repository.clone(),
                tag: self.job.tag.parse()?,
                commit: self.checkout.commit.clone(),
            },
            counter: counter(self.job)?,
            pipeline: self.pipeline.digest,
            model: Model { digest: self.assembled.model, layer: self.assembled.model_layer },
            index: self.assembled.index.descriptor.digest,
            platforms: self.manifests(),
            evidence,
            issued_at,
            expires_at: expiry(self.pipeline, issued_at),
            rollback_to: None,
        };
        Ok(ReleaseStatement::of(release, spec.registry.repository.as_str()))
    }
}

/// The job's counter.
pub fn counter(job: &Job) -> anyhow::Result<Counter> {
    Counter::new(job.counter)
        .ok_or_else(|| anyhow::anyhow!("counter {} is out of range (1 to 2^53 - 1)", job.counter))
}

/// A new statement over an old release: a rollback that cars accept.
pub fn renewed(
    old: &ReleaseStatement,
    pipeline: &Pipeline,
    job: &Job,
    issued_at: Timestamp,
) -> anyhow::Result<ReleaseStatement> {
    let mut release = old.predicate.clone();
    release.rollback_to = Some(old.predicate.counter);
    release.counter = counter(job)?;
    release.issued_at = issued_at;
    release.expires_at = expiry(pipeline, issued_at);
    Ok(ReleaseStatement::of(release, pipeline.spec.registry.repository.as_str()))
}

fn expiry(pipeline: &Pipeline, issued_at: Timestamp) -> Option<Timestamp> {
    let days = pipeline.spec.sign.expire_days?;
    let seconds = i64::from(days) * 24 * 3600;
    Timestamp::from_second(issued_at.as_second() + seconds).ok()
}

/// cosign's signature of one manifest.
pub fn signature(digest: &Digest) -> impl Serialize {
    json!({
        "_type": pitlane_release::statement::STATEMENT_V1,
        "subject": [{"digest": {"sha256": digest.hex()}}],
        "predicateType": COSIGN_SIGN,
        "predicate": {},
    })
}
