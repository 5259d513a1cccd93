//! A rollback: a new statement with a higher counter over a release that is already there.

use anyhow::Context as _;
use pitlane_release::{
    ImageRef,
    admit::signed_releases,
    oci::{Descriptor, INDEX},
    statement::ReleaseStatement,
};
use serde_json::Value;

use super::{Context, json, now};
use crate::{
    attest,
    lane::{Step, StepError},
    push::Pusher,
};

impl Context<'_> {
    /// Steps that make something have nothing to do; the rest goes the usual way.
    pub(super) async fn rollback(&self, step: Step) -> anyhow::Result<Value> {
        match step {
            Step::Sign => json(self.renew().await),
            Step::Check => Ok(self.check().await?),
            Step::Promote => json(self.promote().await),
            _ => Ok(Value::Null),
        }
    }

    async fn renew(&self) -> anyhow::Result<super::vouch::Signed> {
        let old = statement_of(self.ready, &self.job.tag).await?;
        // The registry's tag is only a hint; the old statement itself must be about this tag.
        let (release, spec) = (&old.predicate, &self.ready.pipeline.spec);
        if release.source.tag.as_str() != self.job.tag
            || release.source.repository != spec.source.repository
            || release.car_kind != spec.car_kind
        {
            let why = format!(
                "the registry's tag {} names release {} of {} for {} cars",
                self.job.tag, release.source.tag, release.source.repository, release.car_kind
            );
            let hint = "somebody moved the tag in the registry; release the commit again";
            return Err(StepError::new("tag-moved", why, hint).refusal().into());
        }
        let index = old.predicate.index;
        let source = &self.ready.pusher.source;
        let bytes = source.manifest(self.ready.pusher.repository(), &index.to_string()).await?;
        let pipeline = &self.ready.pipeline;
        let sealed = self.seal(|| attest::renewed(&old, pipeline, self.job, now())).await?;
        self.publish_statement(&sealed, &Descriptor::of(INDEX, &bytes)).await
    }
}

/// The newest release statement of a tag, signed by this pipeline's own key.
async fn statement_of(ready: &super::Ready, tag: &str) -> anyhow::Result<ReleaseStatement> {
    let repository = ready.pusher.repository();
    let image: ImageRef = format!("{repository}:{tag}").parse()?;
    let platform = ready.pipeline.spec.platforms[0];
    let source = &ready.pusher.source;
    let evidence = pitlane_fetch::gather(source, &ready.policy, &image, platform)
        .await
        .with_context(|| format!("{image}: no such release; `pitlane runs list` shows them"))?;
    let bundles = [evidence.statements, evidence.bundles].concat();
    signed_releases(&ready.policy, &bundles)
        .into_iter()
        .map(|signed| signed.statement)
        .filter(|statement| statement.is_about(&evidence.requested.digest))
        .max_by_key(|statement| statement.predicate.counter)
        .with_context(|| format!("{image} has no release statement of this pipeline's key"))
}

/// The highest counter that this pipeline's key has signed in the registry, for one-shot
/// releases. Tags are only a hint where to look: what counts is a signed statement.
pub async fn highest_counter(ready: &super::Ready) -> anyhow::Result<u64> {
    /// Most tags listed.
    const MAX_TAGS: usize = 100_000;
    /// Most unsigned claims looked at before the registry is called hostile.
    const MAX_CLAIMS: usize = 100;
    let pusher: &Pusher = &ready.pusher;
    let tags = pusher.source.tags(pusher.repository(), MAX_TAGS).await?;
    let spec = &ready.pipeline.spec;
    let prefix = pitlane_fetch::counter_prefix(&spec.source.repository, &spec.car_kind);
    let claim = |tag: &String| tag.strip_prefix(&prefix)?.parse::<u64>().ok();
    let mut claims: Vec<u64> = tags.iter().filter_map(claim).collect();
    claims.sort_unstable_by(|a, b| b.cmp(a));
    let none = claims.is_empty();
    for claim in claims.into_iter().take(MAX_CLAIMS) {
        let tag = format!("{prefix}{claim}");
        let manifest = pusher.source.manifest(pusher.repository(), &tag).await?;
        let Ok(manifest) = pitlane_release::oci::parse_manifest(&manifest) else { continue };
        let Some(layer) = manifest.layers.first() else { continue };
        let cap = pitlane_release::bundle::MAX_BUNDLE;
        let bundle = pusher.source.blob(pusher.repository(), &layer.digest, cap).await?;
        let mine = signed_releases(&ready.policy, &[bundle]).into_iter().find(|signed| {
            let release = &signed.statement.predicate;
            release.counter.get() == claim
                && release.source.repository == spec.source.repository
                && release.car_kind == spec.car_kind
        });
        if let Some(signed) = mine {
            return Ok(signed.statement.predicate.counter.get());
        }
    }
    anyhow::ensure!(
        none,
        "{} has {prefix}… tags, but none with a statement of this key; name the next --counter",
        pusher.repository()
    );
    Ok(0)
}
