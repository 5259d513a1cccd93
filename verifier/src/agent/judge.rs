//! One wish: from the GitOps commit to a candidate in the slots, or a refusal in the diary.

use std::time::Instant;

use anyhow::Context as _;
use pitlane_fetch::{FetchError, gather};
use pitlane_release::{Evidence, ImageRef, Question, Refusal, Verified, admit, oci::Descriptor};

use super::{Agent, Decision, evidence_file, gitops};
use crate::device::slots::NotTaken;

/// How a wish came out.
enum Outcome {
    /// It becomes the candidate.
    Taken(Box<Verified>, Evidence),
    /// It is here already.
    Known,
    /// It is refused.
    Refused(Decision),
}

impl Agent {
    /// Looks at the GitOps repository, and at what it wishes for if that is new. Whatever goes
    /// wrong here leaves alone what drives.
    pub(super) async fn look(&mut self) {
        let config = self.config.gitops.clone();
        let dir = self.config.state.clone();
        let head = match gitops::head(&config, &dir).await {
            Ok(head) if self.settled.as_ref() == Some(&head) => return,
            Ok(head) => head,
            Err(error) => return self.no_answer("", "", &error),
        };
        let wish = match gitops::desired(&config, &dir).await {
            Ok(wish) => wish,
            Err(error) => return self.no_answer(&head, "", &error),
        };
        let began = Instant::now();
        let image = wish.image.to_string();
        match self.consider(&wish).await {
            Ok(Outcome::Known) => self.settled = Some(wish.commit),
            Ok(Outcome::Refused(mut decision)) => {
                // Not settled: a new statement over the same image (a rollback) may come without
                // a new commit, so the same wish is looked at again.
                decision.ms = began.elapsed().as_secs_f64() * 1000.0;
                self.diary.note(decision);
            }
            Ok(Outcome::Taken(verified, evidence)) => match self.take(&verified, &evidence).await {
                Ok(()) => self.settled = Some(wish.commit),
                Err(error) => self.no_answer(&wish.commit, &image, &error),
            },
            Err(error) => self.no_answer(&wish.commit, &image, &error),
        }
    }

    fn no_answer(&mut self, commit: &str, image: &str, error: &anyhow::Error) {
        let message = format!("could not decide: {error:#}");
        self.diary.note(Decision::new(commit, image, "error", message));
    }

    async fn consider(&mut self, wish: &gitops::Desired) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let image = ImageRef {
            repository: wish.image.repository.clone(),
            tag: None,
            digest: Some(wish.image.digest),
        };
        let evidence = gather(&self.source, &self.policy, &image, self.platform).await?;
        let now = self.state.now(jiff::Timestamp::now());
        let question =
            Question { image: &image, platform: self.platform, floor: self.state.floor, now };
        let verdict = admit(&self.policy, &question, &evidence);
        let shown = wish.image.to_string();
        let refused =
            |refusal: &Refusal| Outcome::Refused(Decision::refused(&wish.commit, &shown, refusal));
        let verified = match &verdict.answer {
            Ok(verified) => verified.clone(),
            Err(refusal) => return Ok(refused(refusal)),
        };
        let (Some(counter), Some(statement)) = (verified.counter(), verified.statement()) else {
            // Only a policy with `drive:` orders releases, and only an order can be held.
            anyhow::bail!("the car's policy has no `drive:` section; add one (docs/policy.md)");
        };
        let mut trial = self.state.clone();
        match trial.offer(verified.image().clone(), counter, *statement) {
            Ok(()) => {}
            Err(NotTaken::Known(_)) => return Ok(Outcome::Known),
            Err(NotTaken::BelowFloor { offered, floor }) => {
                return Ok(refused(&Refusal::Rollback(offered, floor)));
            }
            Err(other) => {
                let message = other.to_string();
                let decision = Decision::new(&wish.commit, &shown, "not-taken", message);
                return Ok(Outcome::Refused(decision));
            }
        }
        let judged_ms = began.elapsed().as_secs_f64() * 1000.0;
        if let Some(refusal) = self.fetch(&verified).await? {
            return Ok(refused(&refusal));
        }
        let message = format!("release {counter} by `{}`", verified.authority());
        let mut decision = Decision::new(&wish.commit, &shown, "admitted", message);
        decision.ms = judged_ms;
        decision.checks = verdict.checks.iter().map(|check| check.check.to_owned()).collect();
        self.diary.note(decision);
        Ok(Outcome::Taken(Box::new(verified), evidence))
    }

    /// Fetches what the verified manifest names into the store. A blob that is not what was
    /// signed is a refusal; one that does not come is an error.
    pub(super) async fn fetch(&self, verified: &Verified) -> anyhow::Result<Option<Refusal>> {
        let manifest = verified.manifest();
        let wanted: Vec<Descriptor> =
            std::iter::once(&manifest.config).chain(&manifest.layers).cloned().collect();
        for (number, descriptor) in wanted.iter().enumerate() {
            if self.store.has(descriptor) {
                continue;
            }
            let digest = descriptor.digest;
            let altered = || Refusal::Altered {
                what: if number == 0 { "config" } else { "layer" },
                want: digest,
            };
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

    /// Makes it the candidate and lets it drive in place of what drives now.
    async fn take(&mut self, verified: &Verified, evidence: &Evidence) -> anyhow::Result<()> {
        let (Some(counter), Some(statement)) = (verified.counter(), verified.statement()) else {
            anyhow::bail!("the release has no statement");
        };
        evidence_file::save(&self.evidence_dir(), statement, evidence)?;
        self.state.offer(verified.image().clone(), counter, *statement)?;
        self.state.observe(jiff::Timestamp::now());
        self.file.save(&self.state)?;
        self.halt(true);
        self.rest_until = Instant::now();
        self.start_next().await
    }
}
