//! The pushing side of a registry, as the pipeline's steps use it: blobs of images under
//! construction, manifests, bundles that refer to them.
//!
//! How registries are written to is the matter of the crate `pitlane-push`; here are the pipeline
//! file's registry, its secret, and the form of a bundle's manifest.

use std::io::Read;

use jiff::Timestamp;
use pitlane_fetch::{Credentials, RegistryOptions, Source};
use pitlane_push::{Client, Content, Login, Logins, Options};
use pitlane_release::{
    Digest, Repository,
    bundle::BUNDLE,
    oci::{Descriptor, EMPTY, ImageManifest, MANIFEST},
};
use tokio::sync::OwnedMutexGuard;

use crate::{
    assemble::Blob,
    config::{self, Registry},
};

/// The empty config of artifacts (OCI image spec, "Guidance for an Empty Descriptor").
const EMPTY_BYTES: &[u8] = b"{}";

impl Content for Blob {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> std::io::Result<Box<dyn Read + Send>> {
        Self::open(self)
    }
}

/// Writes to one repository, and reads it back.
#[derive(Debug)]
pub struct Pusher {
    client: Client,
    /// The reading side: the same fetcher that cars use.
    pub source: Source,
}

impl Pusher {
    /// A pusher for the pipeline's registry. Without a password file of its own, the login is the
    /// one that Docker's configuration or one of its credential helpers has for the registry.
    pub async fn new(registry: &Registry) -> anyhow::Result<Self> {
        let repository = &registry.repository;
        let login = match &registry.password_file {
            Some(file) => Some(Login::Password {
                user: registry.user.clone().unwrap_or_else(|| "pitlane".into()),
                password: config::read_secret(file)?,
            }),
            None => match Logins::usual()? {
                Some(logins) => logins.find(repository).await?,
                None => None,
            },
        };
        let host = repository.registry().to_owned();
        let plain = registry.plain_http || pitlane_fetch::registry::is_loopback(&host);
        let credentials = match &login {
            Some(Login::Password { user, password }) => {
                Some(Credentials { user: user.clone(), password: password.to_string() })
            }
            _ => None,
        };
        let plain_http = if plain { vec![host] } else { vec![] };
        let source = pitlane_fetch::Registry::new(RegistryOptions { plain_http, credentials })?;
        let options = Options { plain_http: plain, login, ..Options::default() };
        let client = Client::new(repository.clone(), options)?;
        Ok(Self { client, source: Source::Registry(source) })
    }

    /// The repository it writes to.
    pub const fn repository(&self) -> &Repository {
        self.client.repository()
    }

    /// Bytes of blobs and manifests sent so far.
    pub fn uploaded(&self) -> u64 {
        self.client.uploaded()
    }

    /// Uploads a blob unless the repository has it.
    pub async fn blob(&self, blob: &Blob) -> anyhow::Result<()> {
        self.content(blob).await
    }

    /// The same for anything that can be read.
    pub async fn content(&self, content: &dyn Content) -> anyhow::Result<()> {
        Ok(self.client.blob(content).await?)
    }

    /// Puts a manifest or index under its digest, and reads it back; then under a tag as well.
    pub async fn manifest(
        &self,
        bytes: &[u8],
        kind: &'static str,
        tag: Option<&str>,
    ) -> anyhow::Result<Digest> {
        Ok(self.client.manifest(bytes, kind, tag).await?)
    }

    /// Attaches a bundle to a manifest as a referrer, under tags of its own as well if there are
    /// any. Pushing the same bundle again changes nothing.
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
        let mut entry = Descriptor::of(MANIFEST, &bytes);
        entry.artifact_type = Some(BUNDLE.into());
        entry.annotations = manifest.annotations;
        self.client.refer(&bytes, &entry, &subject.digest, tags).await?;
        Ok(())
    }

    /// Nobody else of this program changes a list in the repository while this is held: lists in
    /// tags are read, changed and written.
    pub async fn alone(&self) -> OwnedMutexGuard<()> {
        self.client.alone().await
    }
}
