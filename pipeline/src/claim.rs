//! What a release says of itself, believed only as far as a policy's authorities have signed it: the
//! release statement, and the evidence that it names.
//!
//! For commands that look at a release after it was made. They do not judge whether a car may
//! drive it: an expired release can still be built again.

use anyhow::Context as _;
use pitlane_fetch::{FetchError, Source, gather::bundle_of, statement_tag};
use pitlane_release::{
    Digest, ImageRef, PinnedImage, Policy, Refusal,
    admit::{signed_payload, signed_releases},
    bundle::MAX_BUNDLE,
    statement::{Release, Statement},
};
use serde::de::DeserializeOwned;

use crate::lane::StepError;

/// A release by its newest signed statement.
#[derive(Debug)]
pub struct Claim<'a> {
    source: &'a Source,
    policy: &'a Policy,
    /// The image, by digest.
    pub image: PinnedImage,
    /// What the statement says.
    pub release: Release,
    /// Who signed it.
    pub authority: String,
}

/// A refusal as the answer of a command.
pub fn refuse(refusal: &Refusal) -> anyhow::Error {
    StepError::new(refusal.code(), refusal, refusal.hint()).refusal().into()
}

impl<'a> Claim<'a> {
    /// Fetches the newest statement about an image that the policy's keys signed.
    pub async fn of(
        source: &'a Source,
        policy: &'a Policy,
        image: &ImageRef,
    ) -> anyhow::Result<Self> {
        if !policy.covers(image) {
            return Err(refuse(&Refusal::NoPolicy));
        }
        let repository = &image.repository;
        let digest = if let Some(digest) = image.digest {
            digest
        } else {
            let tag = image.tag.as_deref().unwrap_or("latest");
            Digest::of(source.manifest(repository, tag).await?)
        };
        let found = match source.manifest(repository, &statement_tag(&digest)).await {
            Ok(manifest) => bundle_of(source, repository, &manifest).await?,
            Err(FetchError::NotFound { .. }) => return Err(refuse(&Refusal::Unsigned)),
            Err(error) => return Err(error.into()),
        };
        let signed = signed_releases(policy, &found).into_iter();
        let about = signed.filter(|signed| signed.statement.is_about(&digest));
        let newest = about.max_by_key(|signed| signed.statement.predicate.counter);
        let signed = newest.ok_or_else(|| refuse(&Refusal::WrongSigner))?;
        let (release, authority) = (signed.statement.predicate, signed.authority.to_owned());
        Ok(Self { source, policy, image: repository.pin(digest), release, authority })
    }

    /// The statements of this type that the release names: bundle and content. Each must be the
    /// bytes that were named, signed by an authority of the policy.
    pub async fn evidence<P: DeserializeOwned>(
        &self,
        kind: &str,
        what: &'static str,
    ) -> anyhow::Result<Vec<(Vec<u8>, Statement<P>)>> {
        let mut found = Vec::new();
        for named in self.release.evidence.iter().filter(|named| named.predicate_type == kind) {
            let cap = named.size.min(MAX_BUNDLE);
            let bytes = self.source.blob(&self.image.repository, &named.digest, cap).await;
            let bytes = bytes.with_context(|| format!("the {what} that the release names"))?;
            if Digest::of(&bytes) != named.digest {
                let want = named.digest;
                return Err(refuse(&Refusal::Altered { what: "evidence", want }));
            }
            let statement = opened(&bytes, self.policy, kind).map_err(|why| refuse(&why))?;
            found.push((bytes, statement));
        }
        if found.is_empty() {
            return Err(refuse(&Refusal::NoEvidence(what)));
        }
        Ok(found)
    }

    /// A manifest of the release, as it was signed.
    pub async fn manifest(&self, digest: &Digest) -> anyhow::Result<Vec<u8>> {
        let bytes = self.source.manifest(&self.image.repository, &digest.to_string()).await?;
        if Digest::of(&bytes) != *digest {
            return Err(refuse(&Refusal::Altered { what: "manifest", want: *digest }));
        }
        Ok(bytes)
    }
}

fn opened<P: DeserializeOwned>(
    bytes: &[u8],
    policy: &Policy,
    kind: &str,
) -> Result<Statement<P>, Refusal> {
    let altered = |why: String| Refusal::AlteredStatement(why);
    let payload = signed_payload(&policy.authorities, bytes)?;
    Statement::parse(&payload, kind).map_err(|error| altered(error.to_string()))
}
