//! What refers to a manifest: listed by the registry, or in a tag of its own where it lists
//! nothing.
//!
//! The tag `sha256-<hex>` names an index of the referrers (distribution specification, "Referrers
//! tag schema"). Changing it is reading and writing without a lock between programs: within this
//! one a lock by repository keeps order; against others the entry is looked for after it was
//! written, and once more when everybody who had read the list before has written it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use pitlane_release::{
    Digest,
    oci::{Descriptor, INDEX, MAX_MANIFEST},
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{Client, PushError, http::Ask};

/// How often a list is written before that is given up.
const TRIES: u32 = 12;
/// Who read a list before our write has written it after this.
const SETTLE: Duration = Duration::from_millis(500);
/// First pause after a lost write; with chance, so that two do not meet again.
const PAUSE: Duration = Duration::from_millis(40);
/// Repositories whose locks are kept.
const MAX_LOCKS: usize = 1024;

/// An entry that was written to a fallback tag, and when.
#[derive(Debug)]
pub(crate) struct Pending {
    subject: Digest,
    entry: Value,
    written: Instant,
}

impl Client {
    /// Puts a manifest that refers to `subject`, makes sure that it is listed there, and gives it
    /// tags. `entry` is how the list shows it.
    pub async fn refer(
        &self,
        manifest: &[u8],
        entry: &Descriptor,
        subject: &Digest,
        tags: &[&str],
    ) -> Result<Digest, PushError> {
        let taken = self.put(manifest, &entry.media_type).await?;
        if taken.listed {
            let _ = self.native.set(true);
        }
        self.list(subject, entry).await?;
        if !tags.is_empty() {
            self.settle().await?;
        }
        for tag in tags {
            self.tag(manifest, &entry.media_type, tag).await?;
        }
        Ok(taken.digest)
    }

    /// Nobody else of this program changes a list of this repository while this is held: lists in
    /// tags are read, changed and written.
    pub async fn alone(&self) -> OwnedMutexGuard<()> {
        static LOCKS: OnceLock<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>> = OnceLock::new();
        let lock = {
            let all = LOCKS.get_or_init(Mutex::default);
            let mut locks = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if locks.len() >= MAX_LOCKS {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            Arc::clone(locks.entry(self.repository.to_string()).or_default())
        };
        lock.lock_owned().await
    }

    /// Looks again for every entry that this client has written to a fallback tag, and writes it
    /// again where somebody else's list came over it. Tags are written after this.
    pub async fn settle(&self) -> Result<(), PushError> {
        let pending = self.pending.lock().map(|mut all| std::mem::take(&mut *all));
        let pending = pending.unwrap_or_default();
        let Some(last) = pending.iter().map(|one| one.written).max() else { return Ok(()) };
        tokio::time::sleep((last + SETTLE).saturating_duration_since(Instant::now())).await;
        let _one = self.alone().await;
        for Pending { subject, entry, .. } in pending {
            // What is lost is written, and then has to settle once more.
            let mut tries = 1;
            while self.add(&subject, &entry).await? {
                if tries == TRIES {
                    let (place, tag) = (self.repository.to_string(), fallback_tag(&subject));
                    return Err(PushError::Contended { place, tag, tries });
                }
                tries += 1;
                tokio::time::sleep(SETTLE).await;
            }
        }
        Ok(())
    }

    /// Makes sure that a referrer is listed.
    async fn list(&self, subject: &Digest, entry: &Descriptor) -> Result<(), PushError> {
        if self.native.get() == Some(&true) {
            return Ok(());
        }
        if self.lists(subject, &entry.digest).await? {
            let _ = self.native.set(true);
            return Ok(());
        }
        let entry = serde_json::to_value(entry).map_err(|error| self.strange(subject, error))?;
        let _one = self.alone().await;
        if self.add(subject, &entry).await?
            && let Ok(mut pending) = self.pending.lock()
        {
            pending.push(Pending { subject: *subject, entry, written: Instant::now() });
        }
        Ok(())
    }

    /// Whether the registry itself lists a referrer.
    async fn lists(&self, subject: &Digest, referrer: &Digest) -> Result<bool, PushError> {
        let url = self.http.url(&format!("referrers/{subject}"));
        let mut ask = Ask::new(Method::GET, url, &format!("referrers of {subject}"));
        ask.headers.push((header::ACCEPT, INDEX.to_owned()));
        ask.cap = usize::try_from(MAX_MANIFEST).unwrap_or(usize::MAX);
        let answer = self.http.send(&ask).await?;
        if answer.status != StatusCode::OK {
            return Ok(false);
        }
        let list = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        Ok(holds(&list, &referrer.to_string()))
    }

    /// Adds an entry to the list in the fallback tag until it is found there; tells whether that
    /// took a write. For who is alone.
    async fn add(&self, subject: &Digest, entry: &Value) -> Result<bool, PushError> {
        let tag = fallback_tag(subject);
        for tried in 0..TRIES {
            let before = self.get(&tag).await?;
            let next = added(before.as_deref(), entry).map_err(|e| self.strange(subject, e))?;
            let Some(bytes) = next else { return Ok(tried > 0) };
            // Found or not is seen by the next look, right away.
            match self.tag(&bytes, INDEX, &tag).await {
                Ok(()) => {}
                // A registry may refuse the second of two writes at once.
                Err(error @ (PushError::Refused { .. } | PushError::TagTaken { .. }))
                    if tried + 1 < TRIES =>
                {
                    tracing::debug!("a list was not written: {error}");
                }
                Err(error) => return Err(error),
            }
            let doubled = PAUSE.saturating_mul(1 << tried.min(5));
            tokio::time::sleep(doubled.mul_f64(0.5 + fastrand::f64())).await;
        }
        Err(PushError::Contended { place: self.repository.to_string(), tag, tries: TRIES })
    }

    fn strange(&self, subject: &Digest, why: impl std::fmt::Display) -> PushError {
        PushError::Answer {
            place: self.http.place().to_owned(),
            what: format!("the list of what refers to {subject}"),
            why: why.to_string(),
        }
    }
}

/// A list with an entry more; `None` when it has it. As JSON, so that what others wrote stays as
/// they wrote it.
fn added(before: Option<&[u8]>, entry: &Value) -> Result<Option<Vec<u8>>, String> {
    let mut list = match before {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| error.to_string())?,
        None => json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }),
    };
    let digest = entry.get("digest").and_then(Value::as_str).unwrap_or_default();
    if holds(&list, digest) {
        return Ok(None);
    }
    let entries = list.get_mut("manifests").and_then(Value::as_array_mut);
    entries.ok_or("no list of manifests")?.push(entry.clone());
    let bytes = serde_json::to_vec(&list).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err("a full list: delete what is out of use".to_owned());
    }
    Ok(Some(bytes))
}

/// Where a registry that lists nothing has the list of a subject.
fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn holds(list: &Value, digest: &str) -> bool {
    list["manifests"].as_array().into_iter().flatten().any(|entry| entry["digest"] == digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_others() {
        let entry = json!({ "digest": "sha256:aa", "size": 1 });
        let first = added(None, &entry).unwrap().unwrap();
        assert_eq!(added(Some(&first), &entry), Ok(None));
        let theirs = br#"{"x":1,"manifests":[{"digest":7},null,{"digest":"sha256:bb","y":[]}]}"#;
        let both: Value =
            serde_json::from_slice(&added(Some(theirs), &entry).unwrap().unwrap()).unwrap();
        assert_eq!(
            both,
            json!({ "x": 1, "manifests": [{ "digest": 7 }, null, { "digest": "sha256:bb", "y": [] }, entry] })
        );
        for none in
            ["", "[]", "null", "7", "{}", r#"{"manifests":{}}"#, r#"{"manifests":null}"#, "{"]
        {
            assert!(added(Some(none.as_bytes()), &entry).is_err(), "{none}");
        }
        let full = json!({ "manifests": ["x".repeat(5 << 20)] }).to_string();
        assert!(added(Some(full.as_bytes()), &entry).unwrap_err().contains("full"));
    }
}
