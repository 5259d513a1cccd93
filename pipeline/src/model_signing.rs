//! OpenSSF model signing: a signature of the model folder that the project's own tool verifies.
//!
//! Source: the format of `model_signing` 1.1 (predicate type below): one resource per file, sorted
//! by name, and as subject the SHA-256 over the raw digests in that order. The folder is the one
//! in the model layer: the model and its card.

use std::collections::BTreeMap;

use pitlane_release::{
    Digest,
    key::PublicKey,
    statement::{Statement, Subject},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Digest as _;

/// Predicate type of model signatures.
pub const MODEL_SIGNATURE: &str = "https://model_signing/signature/v1.0";
/// Name of the signature's file beside the model.
pub const SIGNATURE_FILE: &str = "model.sig";
/// Name of the model's file in the folder.
pub const MODEL_FILE: &str = "pilot.onnx";
/// Name of the card's file in the folder.
pub const CARD_FILE: &str = "pilot.yaml";

/// The predicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSignature {
    /// The files.
    pub resources: Vec<SignedFile>,
    /// How they were hashed.
    pub serialization: Serialization,
}

/// A file of the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedFile {
    /// Its path in the folder.
    pub name: String,
    /// `sha256`.
    pub algorithm: String,
    /// Its digest, hexadecimal.
    pub digest: String,
}

/// How the folder was hashed; the tool hashes it again by this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serialization {
    /// `files`: each file by its own digest.
    pub method: String,
    /// `sha256`.
    pub hash_type: String,
    /// Whether links are followed.
    pub allow_symlinks: bool,
    /// What is not signed, relative to the folder.
    pub ignore_paths: Vec<String>,
}

/// The statement that signs a folder with these files.
pub fn statement(name: &str, files: &BTreeMap<&str, Digest>) -> Statement<ModelSignature> {
    let file = |(name, digest): (&&str, &Digest)| SignedFile {
        name: (*name).to_owned(),
        algorithm: "sha256".into(),
        digest: digest.hex(),
    };
    let predicate = ModelSignature {
        // The map is sorted by name, as the format wants it.
        resources: files.iter().map(file).collect(),
        serialization: Serialization {
            method: "files".into(),
            hash_type: "sha256".into(),
            allow_symlinks: false,
            ignore_paths: vec![SIGNATURE_FILE.into()],
        },
    };
    let subject = Subject::new(Some(name.to_owned()), root(files.values()));
    Statement::new(MODEL_SIGNATURE, vec![subject], predicate)
}

/// The digest over all files.
fn root<'a>(digests: impl Iterator<Item = &'a Digest>) -> Digest {
    let mut hasher = sha2::Sha256::new();
    digests.for_each(|digest| hasher.update(digest.as_bytes()));
    Digest::from_bytes(hasher.finalize().into())
}

/// Whether a statement signs exactly these files, and its subject follows from them.
pub fn signs(statement: &Statement<ModelSignature>, files: &BTreeMap<&str, Digest>) -> bool {
    let want = self::statement("", files);
    statement.predicate.resources == want.predicate.resources
        && statement.predicate.serialization.method == "files"
        && statement.subject.len() == 1
        && statement.subject[0].sha256() == want.subject[0].sha256()
}

/// Gives a sealed bundle the key hint that the tool compares: hexadecimal SHA-256 of the PEM
/// text. The hint is outside of what is signed; bundles without a key's hint stay as they are.
pub fn with_hint(bundle: &[u8], key: &PublicKey) -> anyhow::Result<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bundle)?;
    if let Some(hint) = value.pointer_mut("/verificationMaterial/publicKey/hint") {
        *hint = Digest::of(pem(key)).hex().into();
        // The tool's own bundles carry the empty list.
        value["verificationMaterial"]["tlogEntries"] = Value::Array(Vec::new());
    }
    Ok(serde_json::to_vec(&value)?)
}

/// The PEM text as the tool's library writes it: every line ends with one newline.
fn pem(key: &PublicKey) -> String {
    key.to_pem().lines().flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests that others signed give the subject that they signed.
    #[test]
    fn the_root_digest_is_the_tools() {
        let hex = |text: &str| Digest::from_hex(text).unwrap();
        // From the project's own fixture v1.1.0-elliptic-key.
        let files = BTreeMap::from([
            ("signme-2", hex("32dcb1f8e1ae52d5963e56a6ba06ab58b424c15ed2a6b70d2feca1d089370028")),
            ("signme-1", hex("bc9a717db6064a32cbe9eae6fc40651dd6d36ef1757183f590eff2b1765d7ebc")),
        ]);
        let made = statement("v1.1.0-elliptic-key", &files);
        let want = "92745110b1ab4368471cbe31664e10174e954b113a3df333db860317b2c6dec4";
        assert_eq!(made.subject[0].digest["sha256"], want);
        let names: Vec<&str> = made.predicate.resources.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["signme-1", "signme-2"]);
    }

    #[test]
    fn a_signature_of_other_files_is_none_of_these() {
        let files = BTreeMap::from([("a", Digest::of("a")), ("b", Digest::of("b"))]);
        let good = statement("m", &files);
        assert!(signs(&good, &files));
        let fewer = BTreeMap::from([("a", Digest::of("a"))]);
        let other = BTreeMap::from([("a", Digest::of("a")), ("b", Digest::of("c"))]);
        assert!(!signs(&good, &fewer) && !signs(&good, &other));
        let mut lent = good.clone();
        lent.subject = statement("m", &other).subject;
        assert!(!signs(&lent, &files), "the subject is of other files");
        let mut more = good;
        more.subject.push(more.subject[0].clone());
        assert!(!signs(&more, &files), "two subjects");
    }
}
