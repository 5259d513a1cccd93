//! Attest, sign: what is said about a release, sealed once, attached where it belongs.

use futures_util::future::try_join_all;
use pitlane_release::{
    Digest,
    lap::LAP,
    oci::Descriptor,
    provenance::PROVENANCE,
    statement::{COSIGN_SIGN, EvidenceRef, RELEASE, Release, ReleaseStatement},
};
use serde::{Deserialize, Serialize};

use super::{Context, Sealed, make::proving_platform, now};
use crate::{
    assemble::Assembled,
    attest::{self, Facts},
    checkout::Checkout,
    config::Attest,
    lane::{Step, StepError},
    prove::Proof,
};

/// What the sign step leaves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Signed {
    pub(super) release: Release,
    pub(super) statement: Digest,
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
        let signer = &self.ready.signer;
        let (started, finished) = (self.began()?, now());
        let wanted = &self.ready.pipeline.spec.sign.attest;
        let mut sealed = Vec::new();
        if wanted.contains(&Attest::Provenance) {
            let provenance = || signer.seal(&facts.provenance(started, finished));
            sealed.push((PROVENANCE, self.once("provenance.json", provenance)?));
        }
        if let Some(proof) = proof.filter(|_| wanted.contains(&Attest::Laps)) {
            let platform = proving_platform()?;
            let lap = || self.ready.lap_signer().seal(&facts.lap(&proof, platform)?);
            sealed.push((LAP, self.once("lap.json", lap)?));
        }
        let mut evidence = Vec::new();
        let attached = assembled.images.values().map(|image| async {
            for (kind, bundle) in &sealed {
                self.attach(bundle, kind, &image.manifest.descriptor, &[]).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(attached).await?;
        for (kind, bundle) in sealed {
            evidence.push(EvidenceRef {
                predicate_type: kind.to_owned(),
                digest: Digest::of(&bundle),
                size: bundle.len() as u64,
            });
        }
        Ok(evidence)
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
        let sealed = self.seal(|| facts.release(evidence, now()))?;
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
        let seal = || self.ready.signer.seal(&signature);
        let bundle = self.once(&format!("signature-{number}.json"), seal)?;
        self.attach(&bundle, COSIGN_SIGN, subject, &[]).await?;
        match self.ready.pipeline.spec.sign.sig_tags {
            true => self.sig_tag(&subject.digest).await,
            false => Ok(()),
        }
    }

    /// Seals a release statement once; the one that was sealed before is found again.
    pub(super) fn seal(
        &self,
        make: impl FnOnce() -> anyhow::Result<ReleaseStatement>,
    ) -> anyhow::Result<Sealed> {
        let bundle = self.once("release.json", || self.ready.signer.seal(&make()?))?;
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
        let created = self.began()?;
        self.ready.pusher.attach(bundle, kind, subject, created, tags).await
    }
}
