//! `Evidence`: everything that was gathered about an image. Nothing in it is trusted.
//!
//! Bytes are kept as they came, also when they do not match the digest they were asked for:
//! the admission core re-hashes everything itself, so that a swapped document becomes a named
//! refusal and not a fetching problem.

use std::collections::BTreeMap;

use crate::{Digest, PinnedImage, Platform};

/// What was found about one image.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The image asked for; a tag was resolved to this digest.
    pub requested: PinnedImage,
    /// The bytes that the digest named: an index or an image manifest.
    pub top: Vec<u8>,
    /// The manifest of the wanted platform; the same as `top` when that is no index.
    pub manifest: Option<Vec<u8>>,
    /// The image config that the manifest names.
    pub config: Option<Vec<u8>>,
    /// Bundles found at the requested image: signatures, attestations, junk.
    pub bundles: Vec<Vec<u8>>,
    /// Layers of cosign's `.sig` and `.att` tags of the requested image.
    pub legacy: Vec<LegacyLayer>,
    /// Bundles that may hold a release statement.
    pub statements: Vec<Vec<u8>>,
    /// What the statements name, by the digest asked for.
    pub named: BTreeMap<Digest, Vec<u8>>,
}

/// A layer of a `.sig` or `.att` manifest: the signature is beside it, in annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyLayer {
    /// The layer's media type.
    pub media_type: String,
    /// Its bytes: a simple-signing payload or a DSSE envelope.
    pub payload: Vec<u8>,
    /// Its annotations: signature, certificate, chain, log entry, timestamp.
    pub annotations: BTreeMap<String, String>,
}

/// What is asked of the admission core.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The name under which people know the image (policies match names).
    pub image: &'a crate::ImageRef,
    /// The machine it shall run on.
    pub platform: Platform,
    /// What this car has already confirmed.
    pub floor: crate::Floor,
    /// The time now.
    pub now: jiff::Timestamp,
}
