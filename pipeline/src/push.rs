//! The pushing side of a registry: blobs, manifests, and referrers.
//!
//! Everything is asked for before it is sent, so that a release uploads the new model and a few
//! small documents and nothing else.

use std::io::Read as _;

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use oci_client::{
    Reference,
    client::{Client, ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    secrets::RegistryAuth,
};
use pitlane_fetch::{Credentials, FetchError, RegistryOptions, Source};
use pitlane_release::{
    Digest, Repository,
    bundle::BUNDLE,
    oci::{Descriptor, EMPTY, INDEX, ImageIndex, ImageManifest, MANIFEST, parse_referrers},
};
use reqwest::header::HeaderValue;

use crate::{
    assemble::Blob,
    config::{self, Registry},
};

/// How much of a large blob is read and sent at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks that may wait for the network: bounds the memory of an upload.
const CHUNKS_AHEAD: usize = 4;
/// The empty config of artifacts (OCI image spec, "Guidance for an Empty Descriptor").
const EMPTY_BYTES: &[u8] = b"{}";

/// Writes to one repository, and reads it back.
pub struct Pusher {
    client: Client,
    /// The reading side: the same fetcher that cars use.
    pub source: Source,
    repository: Repository,
    native_referrers: std::sync::OnceLock<bool>,
    listing: tokio::sync::Mutex<()>,
    uploaded: std::sync::atomic::AtomicU64,
}

impl std::fmt::Debug for Pusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pusher({})", self.repository)
    }
}

impl Pusher {
    /// A pusher for the pipeline's registry.
    pub async fn new(registry: &Registry) -> anyhow::Result<Self> {
        let credentials = match &registry.password_file {
            Some(file) => Some(Credentials {
                user: registry.user.clone().unwrap_or_else(|| "pitlane".into()),
                password: config::read_secret(file)?.to_string(),
            }),
            None => None,
        };
        let host = registry.repository.registry().to_owned();
        let plain = registry.plain_http || pitlane_fetch::registry::is_loopback(&host);
        let options = RegistryOptions {
            plain_http: if plain { vec![host.clone()] } else { vec![] },
            credentials: credentials.clone(),
        };
        let protocol = if plain {
            ClientProtocol::HttpsExcept(vec![host.clone()])
        } else {
            ClientProtocol::Https
        };
        let client = Client::try_from(ClientConfig {
            protocol,
            use_monolithic_push: true,
            connect_timeout: Some(std::time::Duration::from_secs(10)),
            read_timeout: Some(std::time::Duration::from_mins(2)),
            user_agent: concat!("pitlane/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        })?;
        // Only when there is something to log in with: the client asks `/v2/` before every
        // request of an anonymous session otherwise.
        if let Some(Credentials { user, password }) = credentials {
            client.store_auth_if_needed(&host, &RegistryAuth::Basic(user, password)).await;
        }
        Ok(Self {
            client,
            source: Source::Registry(pitlane_fetch::Registry::new(options)?),
            repository: registry.repository.clone(),
            native_referrers: std::sync::OnceLock::new(),
            listing: tokio::sync::Mutex::default(),
            uploaded: 0.into(),
        })
    }

    /// The repository it writes to.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Bytes of blobs and manifests sent so far.
    pub fn uploaded(&self) -> u64 {
        self.uploaded.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn reference(&self, digest: &Digest) -> Reference {
        let (registry, path) = (self.repository.registry(), self.repository.path());
        Reference::with_digest(registry.into(), path.into(), digest.to_string())
    }

    fn tagged(&self, tag: &str) -> Reference {
        let (registry, path) = (self.repository.registry(), self.repository.path());
        Reference::with_tag(registry.into(), path.into(), tag.into())
    }

    fn count(&self, bytes: u64) {
        self.uploaded.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    /// Uploads a blob unless the repository has it.
    pub async fn blob(&self, blob: &Blob) -> anyhow::Result<()> {
        let Descriptor { digest, size, .. } = blob.descriptor;
        let reference = self.reference(&digest);
        let context = || format!("pushing blob {digest} to {}", self.repository);
        if self.client.blob_exists(&reference, &digest.to_string()).await.with_context(context)? {
            return Ok(());
        }
        let stream = futures_util::stream::unfold(read_ahead(blob)?, |mut parts| async {
            parts.recv().await.map(|part| (part, parts))
        });
        self.client
            .push_blob_stream(&reference, stream, &digest.to_string(), Some(size))
            .await
            .with_context(context)?;
        self.count(size);
        Ok(())
    }

    /// Puts a manifest or index under its digest, or under a tag as well.
    pub async fn manifest(
        &self,
        bytes: &[u8],
        kind: &'static str,
        tag: Option<&str>,
    ) -> anyhow::Result<Digest> {
        let digest = Digest::of(bytes);
        let reference = match tag {
            Some(tag) => self.tagged(tag),
            None => self.reference(&digest),
        };
        self.client
            .push_manifest_raw(&reference, bytes.to_vec(), HeaderValue::from_static(kind))
            .await
            .with_context(|| format!("pushing manifest {reference}"))?;
        self.count(bytes.len() as u64);
        Ok(digest)
    }

    /// Attaches a bundle to a manifest as a referrer, under tags of its own as well if there are
    /// any. Pushing the same bundle again changes nothing.
    ///
    /// One subject at a time: registries without a list of referrers have one in a tag, which is
    /// read, changed and written.
    pub async fn attach(
        &self,
        bundle: &[u8],
        predicate_type: &str,
        subject: &Descriptor,
        created: Timestamp,
        tags: &[&str],
    ) -> anyhow::Result<()> {
        let blob = Blob::inline(BUNDLE, bundle);
        let config = Blob::inline(EMPTY, EMPTY_BYTES);
        tokio::try_join!(self.blob(&config), self.blob(&blob))?;
        let manifest = ImageManifest {
            schema_version: 2,
            media_type: Some(MANIFEST.into()),
            artifact_type: Some(BUNDLE.into()),
            config: config.descriptor,
            layers: vec![blob.descriptor],
            subject: Some(Descriptor::new(&subject.media_type, subject.digest, subject.size)),
            annotations: [
                ("dev.sigstore.bundle.content", "dsse-envelope".to_owned()),
                ("dev.sigstore.bundle.predicateType", predicate_type.to_owned()),
                ("org.opencontainers.image.created", created.to_string()),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        };
        let bytes = serde_json::to_vec(&manifest)?;
        // A manifest that is put under a tag is there under its digest, too.
        if tags.is_empty() {
            self.manifest(&bytes, MANIFEST, None).await?;
        }
        for tag in tags {
            self.manifest(&bytes, MANIFEST, Some(tag)).await?;
        }
        let mut entry = Descriptor::of(MANIFEST, &bytes);
        entry.artifact_type = Some(BUNDLE.into());
        entry.annotations = manifest.annotations;
        self.list(&subject.digest, entry).await
    }

    /// Nobody else of this process changes a list in the repository while this is held: lists in
    /// tags are read, changed and written.
    pub async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.listing.lock().await
    }

    /// Makes sure that the referrer is listed: by the registry itself, or in the fallback tag.
    async fn list(&self, subject: &Digest, entry: Descriptor) -> anyhow::Result<()> {
        if self.native_referrers.get() == Some(&true) {
            return Ok(());
        }
        let _one = self.alone().await;
        let known = |list: &[Descriptor]| list.iter().any(|found| found.digest == entry.digest);
        let tag = format!("sha256-{}", subject.hex());
        let mut listed = match self.source.manifest(&self.repository, &tag).await {
            // Whole, not cut to what a verifier looks at: nothing of others may get lost.
            Ok(bytes) => parse_referrers(&bytes)?,
            Err(FetchError::NotFound { .. }) => {
                // Listed without a fallback tag: the registry does it by itself from now on.
                if known(&self.source.referrers(&self.repository, subject).await?) {
                    let _ = self.native_referrers.set(true);
                    return Ok(());
                }
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        if known(&listed) {
            return Ok(());
        }
        listed.push(entry);
        let index = ImageIndex {
            schema_version: 2,
            media_type: Some(INDEX.into()),
            manifests: listed,
            annotations: std::collections::BTreeMap::new(),
        };
        self.manifest(&serde_json::to_vec(&index)?, INDEX, Some(&tag)).await?;
        Ok(())
    }
}

/// Reads a blob on a thread of its own, a few chunks ahead of the network.
fn read_ahead(
    blob: &Blob,
) -> std::io::Result<tokio::sync::mpsc::Receiver<Result<Bytes, OciDistributionError>>> {
    let mut reader = blob.open()?;
    let (send, receive) = tokio::sync::mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut part = Vec::with_capacity(CHUNK);
            let part = match reader.by_ref().take(CHUNK as u64).read_to_end(&mut part) {
                Ok(0) => return,
                Ok(_) => Ok(Bytes::from(part)),
                Err(error) => Err(OciDistributionError::IoError(error)),
            };
            let failed = part.is_err();
            if send.blocking_send(part).is_err() || failed {
                return;
            }
        }
    });
    Ok(receive)
}
