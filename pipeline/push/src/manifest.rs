//! Manifests: put by digest, read back, and only then tagged.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use pitlane_release::{
    Digest,
    oci::{DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, MAX_MANIFEST},
};
use reqwest::{Method, StatusCode, header};

use crate::{
    Client, MAX_PROVEN, PushError,
    error::said,
    http::{Answer, Ask},
};

/// A registry that gives other bytes back is asked so often: a proxy may have cut them off.
const LOOKS: u32 = 3;

/// What the registry says of a manifest that it took.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) digest: Digest,
    /// Whether it says that it lists it with its subject.
    pub(crate) listed: bool,
}

impl Client {
    /// Puts a manifest or index under its digest, reads it back, and gives it a tag if there is
    /// one. What is there already is not put again.
    ///
    /// # Errors
    /// [`PushError::TagTaken`] when the tag names something else and the registry moves no tags.
    pub async fn manifest(
        &self,
        bytes: &[u8],
        kind: &str,
        tag: Option<&str>,
    ) -> Result<Digest, PushError> {
        let taken = self.put(bytes, kind).await?;
        if let Some(tag) = tag {
            self.settle().await?;
            self.tag(bytes, kind, tag).await?;
        }
        Ok(taken.digest)
    }

    /// Puts a manifest under its digest, and makes sure that it comes back as it was sent.
    pub(crate) async fn put(&self, bytes: &[u8], kind: &str) -> Result<Taken, PushError> {
        let digest = Digest::of(bytes);
        let known = self.proven.lock().is_ok_and(|proven| proven.contains(&digest));
        if known {
            return Ok(Taken { digest, listed: false });
        }
        let what = format!("manifest {digest}");
        let answer = self.write(bytes, kind, &digest.to_string()).await?;
        if answer.status != StatusCode::CREATED {
            return Err(self.http.refused(&what, &answer));
        }
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.read_back(&digest).await?;
        if let Ok(mut proven) = self.proven.lock() {
            if proven.len() >= MAX_PROVEN {
                proven.clear();
            }
            proven.insert(digest);
        }
        let listed = answer.header("oci-subject").is_some();
        Ok(Taken { digest, listed })
    }

    async fn read_back(&self, digest: &Digest) -> Result<(), PushError> {
        let mut found = "nothing".to_owned();
        for _ in 0..LOOKS {
            match self.get(&digest.to_string()).await? {
                Some(bytes) if Digest::of(&bytes) == *digest => return Ok(()),
                Some(bytes) => found = format!("{} ({} bytes)", Digest::of(&bytes), bytes.len()),
                None => {}
            }
        }
        let (place, what) = (self.http.place().to_owned(), format!("manifest {digest}"));
        Err(PushError::Altered { place, what, found })
    }

    /// Gives a manifest that is there a tag, unless the tag names it already.
    pub(crate) async fn tag(&self, bytes: &[u8], kind: &str, tag: &str) -> Result<(), PushError> {
        let want = Digest::of(bytes);
        let before = self.get(tag).await?.map(Digest::of);
        if before == Some(want) {
            return Ok(());
        }
        let answer = self.write(bytes, kind, tag).await?;
        if answer.status == StatusCode::CREATED {
            self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            return Ok(());
        }
        // Whoever was faster may have written the same.
        let have = match before {
            Some(have) => Some(have),
            None => self.get(tag).await?.map(Digest::of),
        };
        match have {
            Some(have) if have == want => Ok(()),
            Some(have) if moves_no_tags(answer.status) => Err(PushError::TagTaken {
                tag: format!("{}:{tag}", self.repository),
                have,
                want,
                said: said(&answer.body),
            }),
            _ => Err(self.http.refused(&format!("tag {tag}"), &answer)),
        }
    }

    async fn write(&self, bytes: &[u8], kind: &str, reference: &str) -> Result<Answer, PushError> {
        let url = self.http.url(&format!("manifests/{reference}"));
        let mut ask = Ask::new(Method::PUT, url, &format!("manifest {reference}"));
        ask.headers.push((header::CONTENT_TYPE, kind.to_owned()));
        ask.body = Bytes::copy_from_slice(bytes);
        self.http.send(&ask).await
    }

    /// The bytes of a manifest by digest or tag; `None` when it is not there.
    pub(crate) async fn get(&self, reference: &str) -> Result<Option<Vec<u8>>, PushError> {
        let url = self.http.url(&format!("manifests/{reference}"));
        let what = format!("manifest {reference}");
        let mut ask = Ask::new(Method::GET, url, &what);
        let kinds = [INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ");
        ask.headers.push((header::ACCEPT, kinds));
        ask.cap = usize::try_from(MAX_MANIFEST).unwrap_or(usize::MAX);
        let answer = self.http.send(&ask).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer.body)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.http.refused(&what, &answer)),
        }
    }
}

/// How registries refuse to move a tag: Harbor 412, ECR and Quay 400, others 403, 405 or 409.
fn moves_no_tags(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 403 | 405 | 409 | 412 | 422)
}
