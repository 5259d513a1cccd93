//! The `.sig` tags of a release, for readers that know no bundles.

use anyhow::{Context as _, bail};
use pitlane_fetch::FetchError;
use pitlane_release::{
    Digest,
    oci::{CONFIG, MAX_CONFIG},
    simple::{self, SIMPLE_SIGNING},
};

use super::Context;
use crate::{
    assemble::Blob,
    sign::sigtag::{self, SigTag},
};

/// How often a tag is read and written when others write it, too. Registries have no
/// compare-and-swap, so what was written is read back.
const TRIES: usize = 4;

impl Context<'_> {
    /// Adds this pipeline's signature to the `.sig` tag of a manifest, unless it is there.
    pub(super) async fn sig_tag(&self, subject: &Digest) -> anyhow::Result<()> {
        let (pusher, signer) = (&self.ready.pusher, &self.ready.signer);
        let tag = simple::tag(subject, simple::SIG);
        let payload = sigtag::payload(pusher.repository(), subject)?;
        let shown = format!("{}:{tag}", pusher.repository());
        let public = signer.public().context("a `.sig` tag is signed with a key")?;
        let _one = pusher.alone().await;
        let mut signature = None;
        for _ in 0..TRIES {
            let found = self.read_sig_tag(&tag).await;
            let found = found.with_context(|| format!("{shown} cannot be added to; look at it"))?;
            if found.has(&payload, |theirs| public.verifies(&payload, theirs)) {
                return Ok(());
            }
            let ours = match &signature {
                Some(signature) => signature,
                None => signature.insert(signer.sign(&payload)?),
            };
            let next = found.with(&payload, ours).context(shown.clone())?;
            let config = Blob::inline(CONFIG, &next.config);
            let payload = Blob::inline(SIMPLE_SIGNING, &payload);
            tokio::try_join!(pusher.blob(&config), pusher.blob(&payload))?;
            pusher.manifest(&next.manifest, next.media_type, Some(&tag)).await?;
        }
        bail!("{shown} is written by others at the same time; try again when they are done")
    }

    async fn read_sig_tag(&self, tag: &str) -> anyhow::Result<SigTag> {
        let pusher = &self.ready.pusher;
        let manifest = match pusher.source.manifest(pusher.repository(), tag).await {
            Ok(manifest) => manifest,
            Err(FetchError::NotFound { .. }) => return Ok(SigTag::default()),
            Err(error) => return Err(error.into()),
        };
        let config = sigtag::config_of(&manifest)?.digest;
        let config = pusher.source.blob(pusher.repository(), &config, MAX_CONFIG).await?;
        SigTag::read(&manifest, &config)
    }
}
