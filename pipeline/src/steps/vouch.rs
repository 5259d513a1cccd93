//! Attest, sign: what is said about a release, sealed once, attached where it belongs.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use pitlane_release::{
    Digest, ModelCard,
    facts::MODEL,
    golden::GOLDEN,
    lap::LAP,
    oci::Descriptor,
    provenance::PROVENANCE,
    statement::{COSIGN_SIGN, EvidenceRef, RELEASE, Release, ReleaseStatement},
};
use serde::{Deserialize, Serialize};

use super::{
    Context, Sealed,
    gates::{Gated, Predicate},
    make::proving_platform,
    now,
};
use crate::{
    assemble::Assembled,
    attest::{self, Facts},
    checkout::Checkout,
    config::Attest,
    lane::{Step, StepError},
    model::ModelFacts,
    model_signing::{self, MODEL_SIGNATURE},
    prove::Proof,
    sbom::CYCLONEDX,
};

/// What the sign step leaves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Signed {
    pub(super) release: Release,
    pub(super) statement: Digest,
}

/// A sealed statement and where it is attached.
struct Evidence {
    kind: String,
    bundle: Vec<u8>,
    subjects: Vec<Descriptor>,
}

impl Context<'_> {
    pub(super) async fn attest(&self) -> anyhow::Result<Vec<EvidenceRef>> {
        let checkout: Checkout = self.output(Step::Checkout)?;
        let assembled: Assembled = self.output(Step::Assemble)?;
        let proof: Option<Proof> = self.output(Step::Prove)?;
        let facts = Facts {
            pipeline: &self.ready.pipeline,
            job: self.job,
            checkout: &checkout,
            assembled: &assembled,
        };
        let sealed = self.evidence(&facts, proof.as_ref()).await?;
        // Each subject takes its evidence in order, beside the others.
        let mut by_subject: BTreeMap<Digest, (&Descriptor, Vec<&Evidence>)> = BTreeMap::new();
        for one in &sealed {
            for subject in &one.subjects {
                let entry = by_subject.entry(subject.digest).or_insert((subject, Vec::new()));
                entry.1.push(one);
            }
        }
        let attached = by_subject.into_values().map(|(subject, all)| async move {
            for one in all {
                self.attach(&one.bundle, &one.kind, subject, &[]).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(attached).await?;
        let named = sealed.into_iter().map(|one| EvidenceRef {
            predicate_type: one.kind.clone(),
            digest: Digest::of(&one.bundle),
            size: one.bundle.len() as u64,
        });
        Ok(named.collect())
    }

    /// Everything that the pipeline file wants said, sealed, with the manifests it is attached to.
    async fn evidence(
        &self,
        facts: &Facts<'_>,
        proof: Option<&Proof>,
    ) -> anyhow::Result<Vec<Evidence>> {
        let (signer, assembled) = (&self.ready.signer, facts.assembled);
        let (started, finished) = (self.began().await?, now());
        let wanted = &self.ready.pipeline.spec.sign.attest;
        let platforms: Vec<Descriptor> =
            assembled.images.values().map(|image| image.manifest.descriptor.clone()).collect();
        let mut sealed = Vec::new();
        if wanted.contains(&Attest::Provenance) {
            let model: ModelFacts = self.output(Step::Model)?;
            let seal = || signer.seal(&facts.provenance(&model, started, finished));
            let bundle = self.once("provenance.json", signer, seal).await?;
            sealed.push(Evidence {
                kind: PROVENANCE.to_owned(),
                bundle,
                subjects: platforms.clone(),
            });
        }
        if let Some(proof) = proof.filter(|_| wanted.contains(&Attest::Laps)) {
            let platform = proving_platform()?;
            let signer = self.ready.lap_signer();
            let seal = || signer.seal(&facts.lap(proof, platform)?);
            let bundle = self.once("lap.json", signer, seal).await?;
            sealed.push(Evidence { kind: LAP.to_owned(), bundle, subjects: platforms.clone() });
        }
        if let Some(golden) = proof.and_then(|proof| proof.golden.as_ref())
            && wanted.contains(&Attest::Golden)
        {
            let bundle =
                self.once("golden.json", signer, || signer.seal(&facts.golden(golden))).await?;
            sealed.push(Evidence { kind: GOLDEN.to_owned(), bundle, subjects: platforms.clone() });
        }
        if wanted.contains(&Attest::Gates)
            && let Some(gated) = self.output::<Option<Gated>>(Step::Gates)?
        {
            for name in gated.gates.iter().flat_map(|gate| &gate.documents) {
                let missing = || anyhow::bail!("{name}: what a gate said was not kept");
                let kept: Predicate = serde_json::from_slice(&self.keep(name, missing).await?)?;
                let Predicate { predicate_type: kind, predicate } = kept;
                let statement = facts.gate(&kind, predicate);
                let bundle = self.once(name, signer, || signer.seal(&statement)).await?;
                sealed.push(Evidence { kind, bundle, subjects: platforms.clone() });
            }
        }
        let card = || ModelCard::parse(&facts.checkout.card);
        if wanted.contains(&Attest::Model) {
            let (card, model): (ModelCard, ModelFacts) = (card()?, self.output(Step::Model)?);
            let seal = || signer.seal(&facts.model(card.clone(), model.clone()));
            let bundle = self.once("model.json", signer, seal).await?;
            sealed.push(Evidence { kind: MODEL.to_owned(), bundle, subjects: platforms.clone() });
        }
        if wanted.contains(&Attest::Sbom) {
            let (card, model): (ModelCard, ModelFacts) = (card()?, self.output(Step::Model)?);
            for (platform, image) in &assembled.images {
                let seal = || signer.seal(&facts.sbom(*platform, &card, &model, started)?);
                let name = format!("sbom-{}.json", platform.architecture());
                let bundle = self.once(&name, signer, seal).await?;
                let subjects = vec![image.manifest.descriptor.clone()];
                sealed.push(Evidence { kind: CYCLONEDX.to_owned(), bundle, subjects });
            }
        }
        if wanted.contains(&Attest::ModelSignature) {
            let seal = || {
                let bundle = signer.seal(&facts.model_signature(&card()?))?;
                match signer.public() {
                    Some(key) => model_signing::with_hint(&bundle, key),
                    None => Ok(bundle),
                }
            };
            let bundle = self.once("model.sig", signer, seal).await?;
            // It speaks of the files, whatever image they are in.
            let subjects = vec![assembled.index.descriptor.clone()];
            sealed.push(Evidence { kind: MODEL_SIGNATURE.to_owned(), bundle, subjects });
        }
        Ok(sealed)
    }

    pub(super) async fn sign(&self) -> anyhow::Result<Signed> {
        let checkout: Checkout = self.output(Step::Checkout)?;
        let assembled: Assembled = self.output(Step::Assemble)?;
        let evidence: Vec<EvidenceRef> = self.output(Step::Attest)?;
        let facts = Facts {
            pipeline: &self.ready.pipeline,
            job: self.job,
            checkout: &checkout,
            assembled: &assembled,
        };
        let index = &assembled.index.descriptor;
        let manifests = assembled.images.values().map(|image| &image.manifest.descriptor);
        let sealed = self.seal(|| facts.release(evidence, now())).await?;
        let platforms = try_join_all(
            (1..).zip(manifests).map(|(number, manifest)| self.attach_signature(number, manifest)),
        );
        let index = async {
            self.attach_signature(0, index).await?;
            self.publish_statement(&sealed, index).await
        };
        Ok(tokio::try_join!(index, platforms)?.0)
    }

    /// Signs a manifest as cosign does.
    async fn attach_signature(&self, number: usize, subject: &Descriptor) -> anyhow::Result<()> {
        let signature = attest::signature(&subject.digest);
        let signer = &self.ready.signer;
        let seal = || signer.seal(&signature);
        let bundle = self.once(&format!("signature-{number}.json"), signer, seal).await?;
        self.attach(&bundle, COSIGN_SIGN, subject, &[]).await?;
        match self.ready.pipeline.spec.sign.sig_tags {
            true => self.sig_tag(&subject.digest).await,
            false => Ok(()),
        }
    }

    /// Seals a release statement once; the one that was sealed before is found again.
    pub(super) async fn seal(
        &self,
        make: impl FnOnce() -> anyhow::Result<ReleaseStatement>,
    ) -> anyhow::Result<Sealed> {
        let signer = &self.ready.signer;
        let bundle = self.once("release.json", signer, || signer.seal(&make()?)).await?;
        let parsed = pitlane_release::bundle::Bundle::parse(&bundle)?;
        let statement = ReleaseStatement::read(parsed.untrusted_payload())?;
        Ok(Sealed { statement, bundle })
    }

    /// Attaches the statement to the index, under a tag that carries its counter. The tag that
    /// cars look at is written after the check.
    pub(super) async fn publish_statement(
        &self,
        sealed: &Sealed,
        index: &Descriptor,
    ) -> anyhow::Result<Signed> {
        let release = sealed.statement.predicate.clone();
        let (source, kind) = (&release.source.repository, &release.car_kind);
        let tag = pitlane_fetch::counter_tag(source, kind, release.counter.get());
        self.counter_is_free(&tag, sealed).await?;
        self.attach(&sealed.bundle, RELEASE, index, &[&tag]).await?;
        Ok(Signed { release, statement: Digest::of(&sealed.bundle) })
    }

    /// A counter is used once: cars refuse two statements with one counter.
    async fn counter_is_free(&self, tag: &str, sealed: &Sealed) -> anyhow::Result<()> {
        let pusher = &self.ready.pusher;
        let there = match pusher.source.manifest(pusher.repository(), tag).await {
            Ok(bytes) => pitlane_release::oci::parse_manifest(&bytes)?,
            Err(pitlane_fetch::FetchError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mine = Digest::of(&sealed.bundle);
        if there.layers.iter().any(|layer| layer.digest == mine) {
            return Ok(());
        }
        let counter = sealed.statement.predicate.counter;
        let why =
            format!("counter {counter} is taken by another release in {}", pusher.repository());
        let hint = "push a new tag; the service goes on above the registry's highest counter";
        Err(StepError::new("counter-taken", why, hint).refusal().into())
    }

    async fn attach(
        &self,
        bundle: &[u8],
        kind: &str,
        subject: &Descriptor,
        tags: &[&str],
    ) -> anyhow::Result<()> {
        // The note's time must be the same when the step is run again.
        let created = self.began().await?;
        self.ready.pusher.attach(bundle, kind, subject, created, tags).await
    }
}
