//! Simple signing: the payload of cosign's `.sig` tags.
//!
//! Source: `containers/image` docs `containers-signature(5)`, sigstore/cosign
//! `specs/SIGNATURE_SPEC.md`. One payload names one manifest; it is what was signed.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Media type of a payload as a layer of a `.sig` manifest.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// `critical.type` of cosign's payloads.
pub const COSIGN_TYPE: &str = "cosign container image signature";
/// Largest payload read (bytes); cosign writes some 250 and what people add with `-a`.
pub const MAX_PAYLOAD: u64 = 64 * 1024;
/// The tag suffix of signatures: `sha256-<hex>.sig`.
pub const SIG: &str = "sig";
/// The tag suffix of attestations: `sha256-<hex>.att`.
pub const ATT: &str = "att";

/// The tag under which old signatures or attestations of a manifest lie.
pub fn tag(digest: &Digest, suffix: &str) -> String {
    format!("sha256-{}.{suffix}", digest.hex())
}

/// A payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimpleSigning {
    /// What must be understood.
    pub critical: Critical,
    /// Whatever the signer added; nothing follows from it.
    #[serde(default)]
    pub optional: Option<serde_json::Value>,
}

/// What must be understood: a field that is not known makes the payload unusable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Critical {
    /// The name under which it was signed.
    pub identity: SimpleIdentity,
    /// The manifest.
    pub image: SimpleImage,
    /// [`COSIGN_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
}

/// The name under which an image was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SimpleIdentity {
    /// A repository, or a reference in it. Not compared: mirrors keep signatures.
    pub docker_reference: String,
}

/// The manifest that was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SimpleImage {
    /// Its digest.
    pub docker_manifest_digest: Digest,
}

impl SimpleSigning {
    /// The payload that cosign writes for a manifest in a repository.
    pub fn of(repository: &crate::Repository, digest: Digest) -> Self {
        Self {
            critical: Critical {
                identity: SimpleIdentity { docker_reference: repository.to_string() },
                image: SimpleImage { docker_manifest_digest: digest },
                kind: COSIGN_TYPE.into(),
            },
            optional: None,
        }
    }

    /// Reads a payload. Trust it only when its signature was verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let payload: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match payload.critical.kind.as_str() {
            COSIGN_TYPE => Ok(payload),
            other => Err(format!("its type is `{other:.80}`, want `{COSIGN_TYPE}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads() {
        let digest = Digest::of("manifest");
        let ours = SimpleSigning::of(&"r.example/car".parse().unwrap(), digest);
        let text = serde_json::to_string(&ours).unwrap();
        assert_eq!(SimpleSigning::parse(text.as_bytes()).unwrap(), ours);
        for (from, to) in [
            ("cosign container", "atomic container"),
            ("sha256:", "sha512:"),
            ("\"critical\":{", "\"critical\":{\"more\":1,"),
            ("docker-manifest-digest", "digest"),
            ("\"type\":", "\"type\":\"a\",\"type\":"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text);
            assert!(SimpleSigning::parse(bad.as_bytes()).is_err(), "{to}");
        }
    }
}
