//! Attest, sign: what is said about a release, sealed once, attached where it belongs.

use jiff::Timestamp;
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
    lane::Step,
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
        let created = now();
        let started = std::fs::metadata(self.dir)?.modified().ok();
        let started = started.and_then(|t| Timestamp::try_from(t).ok()).unwrap_or(created);
        let mut sealed = vec![(
            PROVENANCE,
            self.once("provenance.json", || signer.seal(&facts.provenance(started, created)))?,
        )];
        if let Some(proof) = proof {
            let platform = proving_platform()?;
            let lap = || signer.seal(&facts.lap(&proof, platform)?);
            sealed.push((LAP, self.once("lap.json", lap)?));
        }
        let mut evidence = Vec::new();
        for (kind, bundle) in sealed {
            for image in assembled.images.values() {
                self.attach(&bundle, kind, &image.manifest.descriptor, None).await?;
            }
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
        for (number, descriptor) in std::iter::once(index).chain(manifests).enumerate() {
            let signature = attest::signature(&descriptor.digest);
            let seal = || self.ready.signer.seal(&signature);
            let bundle = self.once(&format!("signature-{number}.json"), seal)?;
            self.attach(&bundle, COSIGN_SIGN, descriptor, None).await?;
        }
        let sealed = self.seal(|| facts.release(evidence, now()))?;
        self.publish_statement(&sealed, index).await
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

    /// Attaches the statement to the index, under the tag that cars look at and under one that
    /// carries its counter.
    pub(super) async fn publish_statement(
        &self,
        sealed: &Sealed,
        index: &Descriptor,
    ) -> anyhow::Result<Signed> {
        let release = sealed.statement.predicate.clone();
        let by_counter = format!("release-{}", release.counter);
        let by_index = pitlane_fetch::statement_tag(&index.digest);
        for tag in [by_counter, by_index] {
            self.attach(&sealed.bundle, RELEASE, index, Some(&tag)).await?;
        }
        Ok(Signed { release, statement: Digest::of(&sealed.bundle) })
    }

    async fn attach(
        &self,
        bundle: &[u8],
        kind: &str,
        subject: &Descriptor,
        tag: Option<&str>,
    ) -> anyhow::Result<()> {
        // The note's time must be the same when the step is run again.
        let modified = std::fs::metadata(self.dir.join("created"));
        let created = match modified.and_then(|meta| meta.modified()) {
            Ok(time) => Timestamp::try_from(time)?,
            Err(_) => {
                std::fs::write(self.dir.join("created"), b"")?;
                now()
            }
        };
        let created = Timestamp::from_second(created.as_second())?;
        self.ready.pusher.attach(bundle, kind, subject, created, tag).await
    }
}
