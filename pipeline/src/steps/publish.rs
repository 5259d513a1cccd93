//! Push, check, promote: what the registry and the GitOps repository get, and when.

use std::sync::Arc;

use pitlane_fetch::FetchError;
use pitlane_gitops::{Candidate, Known, Promoted, Promoter};
use pitlane_release::{
    Digest, Floor, ImageRef, Platform, Question, admit,
    oci::{INDEX, MANIFEST},
    statement::Release,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Context, counted::Counted, failed, now};
use crate::{
    assemble::Assembled,
    forge::Forges,
    lane::{Step, StepError},
};

/// What was pushed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pushed {
    index: Digest,
    bytes_uploaded: u64,
}

impl Context<'_> {
    pub(super) async fn push(&self) -> anyhow::Result<Pushed> {
        let assembled: Assembled = self.output(Step::Assemble)?;
        let pusher = &self.ready.pusher;
        let before = pusher.uploaded();
        let mut seen = std::collections::BTreeSet::new();
        let blobs = assembled.images.values().flat_map(|i| i.layers.iter().chain([&i.config]));
        let new = blobs.filter(|blob| seen.insert(blob.descriptor.digest));
        let new: Vec<_> = new.collect();
        let total = new.iter().map(|blob| blob.descriptor.size).sum();
        let telling = Arc::new(self.lane.progress.begin(&self.job.run, Step::Push, total));
        let sent = new.into_iter().map(|blob| async {
            let counted = Counted::new(blob, Arc::clone(&telling));
            pusher.content(&counted).await?;
            counted.arrived();
            anyhow::Ok(())
        });
        futures_util::future::try_join_all(sent).await?;
        let manifests = assembled
            .images
            .values()
            .map(|image| async { pusher.manifest(&read(&image.manifest)?, MANIFEST, None).await });
        futures_util::future::try_join_all(manifests).await?;
        let index = pusher.manifest(&read(&assembled.index)?, INDEX, None).await?;
        Ok(Pushed { index, bytes_uploaded: pusher.uploaded() - before })
    }

    /// Reads the release's documents back (manifests, configs, statement, evidence; the layers were
    /// hashed by the registry that took them) and lets the car's own policy decide; only then
    /// writes the tags that cars and people look at.
    pub(super) async fn check(&self) -> Result<Value, StepError> {
        let fail = |error: anyhow::Error| failed(Step::Check, &error);
        let sealed: super::vouch::Signed = self.output(Step::Sign).map_err(fail)?;
        let release = &sealed.release;
        let repository = self.ready.pusher.repository().clone();
        let image = ImageRef {
            repository: repository.clone(),
            tag: Some(release.source.tag.to_string()),
            digest: Some(release.index),
        };
        // By the statement of this run, read back: the one that cars look at is still the old one.
        let manifest = self.own_statement(release).await.map_err(fail)?;
        let (source, repository_ref) = (&self.ready.pusher.source, &repository);
        let statement = pitlane_fetch::gather::bundle_of(source, repository_ref, &manifest).await;
        let statement = statement.map_err(|error| fail(error.into()))?;
        let made = release.platforms.keys().map(|platform| async {
            let found = self.admit(&image, *platform, release, statement.clone()).await?;
            Ok::<_, StepError>((platform.to_string(), found))
        });
        let checks = futures_util::future::try_join_all(made).await?;
        let checks: serde_json::Map<String, Value> = checks.into_iter().collect();
        // Where cars look: by the index, and by each platform's manifest.
        let pusher = &self.ready.pusher;
        for digest in std::iter::once(&release.index).chain(release.platforms.values()) {
            let newest = pitlane_fetch::statement_tag(digest);
            pusher.manifest(&manifest, MANIFEST, Some(&newest)).await.map_err(fail)?;
        }
        self.write_tag(release).await.map_err(fail)?;
        Ok(json!({ "image": repository.pin(release.index), "checks": checks }))
    }

    async fn admit(
        &self,
        image: &ImageRef,
        platform: Platform,
        release: &Release,
        statement: Vec<Vec<u8>>,
    ) -> Result<Value, StepError> {
        let fail = |error: anyhow::Error| failed(Step::Check, &error);
        let (source, policy) = (&self.ready.pusher.source, &self.ready.policy);
        let evidence =
            pitlane_fetch::gather::gather_for(source, policy, image, platform, Some(statement))
                .await;
        let evidence = evidence.map_err(|error| fail(error.into()))?;
        // No older statement may answer for this one.
        let floor = Floor(release.counter.get());
        let question = Question { image, platform, floor, now: now() };
        let verdict = admit(policy, &question, &evidence);
        match verdict.answer {
            Ok(_) => serde_json::to_value(verdict.checks).map_err(|e| fail(e.into())),
            Err(refusal) => {
                let policy = &policy.name;
                let why = format!("policy `{policy}` refuses it on {platform}: {refusal}");
                Err(StepError::new(refusal.code(), why, refusal.hint()).refusal())
            }
        }
    }

    /// The manifest that carries this run's statement, read back from the registry.
    async fn own_statement(&self, release: &Release) -> anyhow::Result<Vec<u8>> {
        let (source, kind) = (&release.source.repository, &release.car_kind);
        let tag = pitlane_fetch::counter_tag(source, kind, release.counter.get());
        let pusher = &self.ready.pusher;
        Ok(pusher.source.manifest(pusher.repository(), &tag).await?)
    }

    /// The tag is the last thing written; one that exists is never moved unless it may.
    async fn write_tag(&self, release: &Release) -> anyhow::Result<()> {
        let pusher = &self.ready.pusher;
        let repository = pusher.repository();
        let tag = release.source.tag.as_str();
        match pusher.source.manifest(repository, tag).await {
            Ok(bytes) if Digest::of(&bytes) == release.index => return Ok(()),
            Ok(bytes)
                if !self.ready.pipeline.spec.source.allow_moved_tags && !self.job.rollback =>
            {
                let why = format!(
                    "{repository}:{tag} is already {}, this release would make it {}",
                    Digest::of(&bytes),
                    release.index
                );
                let hint = "tags are for ever; push a new one, or set `allowMovedTags`";
                return Err(StepError::new("tag-exists", why, hint).refusal().into());
            }
            Ok(_) | Err(FetchError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let index = pusher.source.manifest(repository, &release.index.to_string()).await?;
        pusher.manifest(&index, INDEX, Some(tag)).await?;
        Ok(())
    }

    /// Takes the release as far through the environments as it may go without anybody's word.
    pub(super) async fn promote(&self) -> anyhow::Result<Option<Promoted>> {
        let Some(config) = &self.ready.pipeline.spec.promote else { return Ok(None) };
        let sealed: super::vouch::Signed = self.output(Step::Sign)?;
        let repository = self.ready.pusher.repository();
        let mut candidate = Candidate::of(&sealed.release, repository, &self.job.run);
        candidate.rollback = self.job.rollback;
        let link = self.lane.github.as_deref();
        let forge = link.map_or(Forges::Plain, |link| link.forge(&config.url));
        let promoter = Promoter { config, forge: &forge, dir: self.dir };
        let progress = promoter.advance(&[candidate], &Known::default()).await?;
        Ok(Some(Promoted::of(progress)?))
    }
}

fn read(blob: &crate::assemble::Blob) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut blob.open()?, &mut bytes)?;
    Ok(bytes)
}
