//! What a log entry says beside what its log signed.
//!
//! Inclusion proofs, checkpoints and promises are verified by the library. It reads Rekor v2's
//! index, size and root from the signed checkpoint and leaves their copies in the proof alone,
//! and finds the log's key by the four bytes in the checkpoint. Here copies must agree, and the
//! log that the entry names must be the one that signed.

use serde::Deserialize;
use sigstore_crypto::VerificationKey;
use sigstore_types::{Bundle, KindVersion, Sha256Hash, TransparencyLogEntry};

use super::{
    json,
    refusal::BundleRefusal,
    root::TrustRoot,
    wire::{Entry, Int, Wire},
};

/// What an entry has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// That it is in the log: an inclusion proof. Bundles have one.
    Inclusion,
    /// That the log promised to take it in. The old `.sig` and `.att` tags have no more.
    Promise,
}

/// Checks every entry. Nothing here makes an entry good; each line may only refuse.
pub(super) fn check(
    wire: &Wire,
    bundle: &Bundle,
    root: &TrustRoot,
    proof: Proof,
) -> Result<(), BundleRefusal> {
    let fields = &wire.verification_material.tlog_entries;
    let entries = &bundle.verification_material.tlog_entries;
    for (fields, entry) in fields.iter().zip(entries) {
        let (_, key) = log_of(entry, root)?;
        kind(entry)?;
        times(fields, entry, proof)?;
        copies(fields, entry)?;
        checkpoint(entry, key, root)?;
    }
    Ok(())
}

/// Refuses entries without a signed time of their own that were made when their log did not
/// count: the times proven by others must lie in the log's. Where there is no proven time at all (a
/// key's entry, Rekor v2), the log must not have ended.
pub(super) fn in_its_time(
    bundle: &Bundle,
    times: &[jiff::Timestamp],
    root: &TrustRoot,
) -> Result<(), BundleRefusal> {
    let entries = &bundle.verification_material.tlog_entries;
    for entry in entries.iter().filter(|entry| entry.inclusion_promise.is_none()) {
        let (id, _) = log_of(entry, root)?;
        let times = if times.is_empty() { &[jiff::Timestamp::MAX][..] } else { times };
        if let Some(time) = times.iter().find(|time| root.logs.key_at(&id, **time).is_none()) {
            return Err(BundleRefusal::Log(format!("the log's key does not count at {time}")));
        }
    }
    Ok(())
}

/// The log that the entry names.
fn log_of<'a>(
    entry: &TransparencyLogEntry,
    root: &'a TrustRoot,
) -> Result<(Sha256Hash, &'a VerificationKey), BundleRefusal> {
    let unknown = || {
        let id: String = entry.log_id.key_id.to_string().chars().take(80).collect();
        BundleRefusal::Log(format!("the trusted root has no log `{id}`"))
    };
    let id = Sha256Hash::try_from(entry.log_id.key_id.as_bytes()).map_err(|_| unknown())?;
    root.logs.key(&id).map(|key| (id, key)).ok_or_else(unknown)
}

/// The body, which the log signed, must be what the entry says it is.
fn kind(entry: &TransparencyLogEntry) -> Result<(), BundleRefusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        kind: String,
        api_version: String,
    }
    let body = entry.canonicalized_body.as_bytes();
    let fail = |error: serde_json::Error| BundleRefusal::Log(format!("its body: {error}"));
    json::check(body).map_err(fail)?;
    let head: Head = serde_json::from_slice(body).map_err(fail)?;
    let said = entry.kind_version;
    if (head.kind.as_str(), head.api_version.as_str()) != (said.kind(), said.version()) {
        let (kind, version) = (said.kind(), said.version());
        return Err(BundleRefusal::Contradiction(format!("its log entry is no {kind} {version}")));
    }
    Ok(())
}

/// An entry needs a proof: a promise alone, which bundles v0.1 allow, says only what the log
/// meant to do. A time in it needs the promise that signs it. Rekor v2 has neither promises nor
/// times (Rekor v2 client guide).
fn times(fields: &Entry, entry: &TransparencyLogEntry, proof: Proof) -> Result<(), BundleRefusal> {
    let promised = fields.inclusion_promise.is_some();
    let timed = fields.integrated_time.is_some_and(|time| time != Int(0));
    let enough = proof == Proof::Promise && promised && timed;
    if fields.inclusion_proof.is_none() && !enough {
        return Err(BundleRefusal::NotLogged("its entry has no inclusion proof".into()));
    }
    if is_v2(entry) && promised {
        return Err(BundleRefusal::Contradiction("a promise of a log that gives none".into()));
    }
    if timed && !promised {
        return Err(BundleRefusal::Time("nobody signed its integrated time".into()));
    }
    Ok(())
}

/// The proof's copies of what the checkpoint says.
fn copies(fields: &Entry, entry: &TransparencyLogEntry) -> Result<(), BundleRefusal> {
    let (Some(written), Some(proof)) = (&fields.inclusion_proof, &entry.inclusion_proof) else {
        return Ok(());
    };
    let Some(checkpoint) = proof.checkpoint.checkpoint() else {
        return Err(BundleRefusal::Log("its inclusion proof has no checkpoint".into()));
    };
    let differs = |what: &str| {
        Err(BundleRefusal::Contradiction(format!("{what} of the proof is not the checkpoint's")))
    };
    if proof.tree_size != checkpoint.tree_size() {
        return differs("the tree size");
    }
    if proof.root_hash != *checkpoint.root_hash() {
        return differs("the root hash");
    }
    // Rekor v1 has two: the index in its shard, which is proven, and one over all its shards.
    let index = fields.log_index.unwrap_or(Int(0));
    if is_v2(entry) && written.log_index.is_some_and(|copy| copy != index) {
        return differs("the index");
    }
    // A note has one blank line, before its signatures; what stands behind another is not signed.
    if proof.checkpoint.envelope().matches("\n\n").count() != 1 {
        return Err(BundleRefusal::Malformed("the checkpoint is no signed note".into()));
    }
    Ok(())
}

/// One signature of the checkpoint is the named log's. Others may be witnesses', who are not
/// asked here (C2SP signed-note: unknown and broken signatures of others are skipped).
fn checkpoint(
    entry: &TransparencyLogEntry,
    key: &VerificationKey,
    root: &TrustRoot,
) -> Result<(), BundleRefusal> {
    let Some(proof) = &entry.inclusion_proof else { return Ok(()) };
    let Some(checkpoint) = proof.checkpoint.checkpoint() else { return Ok(()) };
    let hint = entry.log_id.key_id.as_bytes().get(..4);
    // One signature, by the only log with these four bytes: the library, which wants one by any
    // log of the root, has no other to take. A second look would cost a tenth of the verdict.
    if let [only] = checkpoint.signatures()
        && hint == Some(only.key_id.as_bytes())
        && root.logs.keys_by_hint(&only.key_id, jiff::Timestamp::MAX).count() == 1
    {
        return Ok(());
    }
    let signed = checkpoint.signatures().iter().any(|signature| {
        hint == Some(signature.key_id.as_bytes())
            && key.verify(checkpoint.signed_data(), &signature.signature).is_ok()
    });
    if signed {
        Ok(())
    } else {
        Err(BundleRefusal::Log("the checkpoint is not signed by the log that it names".into()))
    }
}

fn is_v2(entry: &TransparencyLogEntry) -> bool {
    entry.kind_version == KindVersion::HashedRekordV002
}
