//! One wish: from the GitOps commit to verified blobs in the store, or to a refusal. Runs beside
//! the watch over the car and changes nothing but the store.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use pitlane_fetch::{FetchError, Source, gather};
use pitlane_release::{
    Evidence, ImageRef, Platform, Policy, Question, Refusal, Verified, admit, oci::Descriptor,
};
use tokio::time::timeout;

use super::{Decision, config::GitOps, gitops};
use crate::device::{
    slots::{NotTaken, State},
    store::Store,
};

/// Longest the gathering of evidence may take: some small documents.
const GATHER_TIMEOUT: Duration = Duration::from_mins(2);
/// Longest the download of an image may take; what is there already is not fetched again.
const FETCH_TIMEOUT: Duration = Duration::from_hours(1);

/// What looks for wishes.
#[derive(Debug)]
pub(super) struct Scout {
    pub(super) gitops: GitOps,
    pub(super) dir: PathBuf,
    pub(super) source: Source,
    pub(super) policy: Policy,
    pub(super) store: Store,
    pub(super) platform: Platform,
}

/// What it found.
#[derive(Debug)]
pub(super) enum Looked {
    /// Nothing new.
    Nothing,
    /// This commit's wish is what the car has.
    Settled(String),
    /// A refusal or an error. Not settled: a new statement over the same image (a rollback) may
    /// come without a new commit, so the same wish is looked at again.
    Noted(Decision),
    /// It is admitted, and all its blobs are in the store.
    Admitted {
        commit: String,
        verified: Box<Verified>,
        evidence: Box<Evidence>,
        decision: Decision,
    },
}

impl Scout {
    /// Looks at the GitOps repository, and at what it wishes for if that is new.
    pub(super) async fn look(&self, state: State, settled: Option<String>) -> Looked {
        let error = |commit: &str, image: &str, error: &anyhow::Error| {
            let message = format!("could not decide: {error:#}");
            Looked::Noted(Decision::new(commit, image, "error", message))
        };
        let head = match gitops::head(&self.gitops, &self.dir).await {
            Ok(head) if settled.as_ref() == Some(&head) => return Looked::Nothing,
            Ok(head) => head,
            Err(why) => return error("", "", &why),
        };
        let wish = match gitops::desired(&self.gitops, &self.dir).await {
            Ok(wish) => wish,
            Err(why) => return error(&head, "", &why),
        };
        match self.consider(&wish, state).await {
            Ok(looked) => looked,
            Err(why) => error(&wish.commit, &wish.image.to_string(), &why),
        }
    }

    async fn consider(&self, wish: &gitops::Desired, mut state: State) -> anyhow::Result<Looked> {
        let began = Instant::now();
        let shown = wish.image.to_string();
        let ms = || began.elapsed().as_secs_f64() * 1000.0;
        let refused = |refusal: &Refusal| {
            let mut decision = Decision::refused(&wish.commit, &shown, refusal);
            decision.ms = ms();
            Ok(Looked::Noted(decision))
        };
        let image = ImageRef {
            repository: wish.image.repository.clone(),
            tag: None,
            digest: Some(wish.image.digest),
        };
        // Before anything is fetched: who controls the GitOps repository alone must not be able
        // to send this car to any host.
        if !self.policy.covers(&image) {
            return refused(&Refusal::NoPolicy);
        }
        let gathered = gather(&self.source, &self.policy, &image, self.platform);
        let evidence = timeout(GATHER_TIMEOUT, gathered)
            .await
            .with_context(|| format!("the evidence took longer than {GATHER_TIMEOUT:?}"))??;
        let now = state.now(jiff::Timestamp::now());
        let question = Question { image: &image, platform: self.platform, floor: state.floor, now };
        let verdict = admit(&self.policy, &question, &evidence);
        let verified = match &verdict.answer {
            Ok(verified) => verified.clone(),
            Err(refusal) => return refused(refusal),
        };
        let (Some(counter), Some(statement)) = (verified.counter(), verified.statement()) else {
            anyhow::bail!("it was admitted without a release statement");
        };
        match state.offer(verified.image().clone(), counter, *statement) {
            Ok(()) => {}
            Err(NotTaken::Known(_)) => return Ok(Looked::Settled(wish.commit.clone())),
            Err(NotTaken::BelowFloor { offered, floor }) => {
                return refused(&Refusal::Rollback(offered, floor));
            }
            Err(other) => {
                let message = other.to_string();
                let decision = Decision::new(&wish.commit, &shown, "not-taken", message);
                return Ok(Looked::Noted(decision));
            }
        }
        let message = format!("release {counter} by `{}`", verified.authority());
        let mut decision = Decision::new(&wish.commit, &shown, "admitted", message);
        decision.ms = ms();
        decision.checks = verdict.checks.iter().map(|check| check.check.to_owned()).collect();
        if let Some(refusal) = self.fetch(&verified).await? {
            return refused(&refusal);
        }
        Ok(Looked::Admitted {
            commit: wish.commit.clone(),
            verified: Box::new(verified),
            evidence: Box::new(evidence),
            decision,
        })
    }

    /// Fetches what the verified manifest names into the store. A blob that is not what was
    /// signed is a refusal; one that does not come is an error.
    pub(super) async fn fetch(&self, verified: &Verified) -> anyhow::Result<Option<Refusal>> {
        timeout(FETCH_TIMEOUT, self.fetch_all(verified))
            .await
            .with_context(|| format!("the image took longer than {FETCH_TIMEOUT:?}"))?
    }

    async fn fetch_all(&self, verified: &Verified) -> anyhow::Result<Option<Refusal>> {
        let manifest = verified.manifest();
        let wanted: Vec<(&'static str, &Descriptor)> =
            std::iter::once(("config", &manifest.config))
                .chain(manifest.layers.iter().map(|layer| ("layer", layer)))
                .collect();
        for (what, descriptor) in wanted {
            if self.store.has(descriptor) {
                continue;
            }
            let altered = || Refusal::Altered { what, want: descriptor.digest };
            let mut writer = self.store.writer(descriptor)?;
            let mut sink = |bytes: &[u8]| std::io::Write::write_all(&mut writer, bytes);
            let repository = &verified.image().repository;
            match self.source.stream(repository, descriptor, 0, &mut sink).await {
                Ok(()) => {}
                Err(FetchError::TooLarge { .. }) => return Ok(Some(altered())),
                Err(error) => return Err(error).context("fetching the image"),
            }
            match writer.commit() {
                Ok(()) => {}
                Err(error) if error.refetch() => return Ok(Some(altered())),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}
