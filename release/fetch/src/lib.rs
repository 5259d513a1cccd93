//! Gathers the evidence of a release: read-only, bounded, from a registry or an OCI layout.
//!
//! This is the most exposed I/O of the whole lane, so there is one of it, used by the pipeline's
//! check step and by the car. It decides nothing: bytes are handed to the admission core as they
//! came. Every answer is capped in bytes, count and time; digests are what is asked for, tags
//! only where a person typed one.
//!
//! - [`Source`]: a registry ([`registry`]) or a directory ([`layout`])
//! - [`Challenge`]: how a registry wants to be logged in to
//! - [`git`]: a hardened git command, for sources and GitOps repositories
//! - [`Names`]: the keys and trusted roots that a policy only names, and the policy with them
//! - [`gather`](mod@gather): from an image's name to its [`pitlane_release::Evidence`]

mod auth;
mod challenge;
mod error;
pub mod gather;
pub mod git;
pub mod layout;
mod legacy;
pub mod names;
pub mod registry;

pub use challenge::Challenge;
pub use error::FetchError;
pub use gather::gather;
pub use layout::Layout;
pub use names::{Names, PolicyFileError};
pub use registry::{Credentials, Registry, RegistryOptions};

use pitlane_release::{CarKind, Digest, RepoName, Repository, oci::Descriptor};

/// Most referrers looked at when an image has no release statement under its own tag.
pub const MAX_REFERRERS: usize = 64;

/// Where images and their evidence are read from.
#[derive(Debug)]
pub enum Source {
    /// A registry over HTTP.
    Registry(Registry),
    /// An OCI image layout in a directory: a USB stick, a mirror, a test.
    Layout(Layout),
}

impl Source {
    /// The bytes of a manifest or index, by digest (`sha256:…`) or tag.
    ///
    /// # Errors
    /// `NotFound`, or anything that keeps us from knowing.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Vec<u8>, FetchError> {
        match self {
            Self::Registry(registry) => registry.manifest(repository, reference).await,
            Self::Layout(layout) => layout.manifest(repository, reference),
        }
    }

    /// A small blob, whole, at most `cap` bytes.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        cap: u64,
    ) -> Result<Vec<u8>, FetchError> {
        match self {
            Self::Registry(registry) => registry.blob(repository, digest, cap).await,
            Self::Layout(layout) => layout.blob(digest, cap),
        }
    }

    /// Streams a blob into `sink`, at most `descriptor.size` bytes, starting at `from`.
    /// The caller hashes; bytes already given to the sink stay when it fails.
    pub async fn stream(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from: u64,
        sink: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> Result<(), FetchError> {
        match self {
            Self::Registry(registry) => registry.stream(repository, descriptor, from, sink).await,
            Self::Layout(layout) => layout.stream(descriptor, from, sink),
        }
    }

    /// What claims to speak of this digest: by the referrers API, else by the fallback tag.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, FetchError> {
        match self {
            Self::Registry(registry) => registry.referrers(repository, digest).await,
            Self::Layout(layout) => layout.referrers(digest),
        }
    }

    /// The manifest with a manifest's old signatures (`sig`) or attestations (`att`).
    pub(crate) async fn legacy(
        &self,
        repository: &Repository,
        digest: &Digest,
        suffix: &str,
    ) -> Result<Vec<u8>, FetchError> {
        let tag = pitlane_release::simple::tag(digest, suffix);
        match self {
            Self::Registry(registry) => registry.manifest(repository, &tag).await,
            Self::Layout(layout) => layout.legacy(repository, &tag, suffix),
        }
    }

    /// The tags of a repository, at most `max`.
    pub async fn tags(
        &self,
        repository: &Repository,
        max: usize,
    ) -> Result<Vec<String>, FetchError> {
        match self {
            Self::Registry(registry) => registry.tags(repository, max).await,
            Self::Layout(layout) => layout.tags(max),
        }
    }
}

/// The tag that points at the newest release statement of an index. One fixed name, so that no
/// crowd of other referrers can hide it; it begins with `_`, which no git tag that is a release
/// does.
pub fn statement_tag(index: &Digest) -> String {
    format!("_release-{}", index.hex())
}

/// The tag of the statement with this counter, among those of one kind of one source: several
/// may share a registry repository.
pub fn counter_tag(source: &RepoName, kind: &CarKind, counter: u64) -> String {
    format!("{}{counter}", counter_prefix(source, kind))
}

/// What the counter tags of one kind of one source begin with.
pub fn counter_prefix(source: &RepoName, kind: &CarKind) -> String {
    let name = Digest::of(format!("{source}\n{kind}")).hex();
    format!("_counter-{}-", &name[..16])
}
