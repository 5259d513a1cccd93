//! Uploads a blob: asked for first, mounted where that is possible, else sent in one piece, and
//! gone on with from where the registry says that it broke.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pitlane_fetch::FetchError;
use pitlane_release::oci::Descriptor;
use reqwest::{Method, StatusCode, Url, header};

use crate::{
    Content, PushError, content,
    http::{Answer, Ask, Http, Once},
    retry,
};

/// An upload during which nothing moves for so long has failed.
const STALL: Duration = Duration::from_mins(2);

/// One blob on its way.
pub(crate) struct Upload<'a> {
    pub(crate) http: &'a Http,
    pub(crate) content: &'a dyn Content,
    /// Repositories of the same registry that may have it.
    pub(crate) mount_from: &'a [String],
    /// Largest piece that one request carries; everything in one without.
    pub(crate) chunk: Option<u64>,
}

/// How an attempt to send ended.
enum Sent {
    /// The registry has all of it.
    Whole,
    /// It may go on from where it is.
    Broken(FetchError, Option<Duration>),
}

impl Upload<'_> {
    fn what(&self) -> String {
        format!("blob {}", self.content.descriptor().digest)
    }

    /// Uploads unless it is there; gives the bytes sent.
    pub(crate) async fn run(&self) -> Result<u64, PushError> {
        if self.there().await? {
            return Ok(0);
        }
        let size = self.content.descriptor().size;
        let Some(mut location) = self.begin().await? else {
            self.arrived().await?;
            return Ok(0);
        };
        let (mut offset, mut tried) = (0, 0);
        loop {
            tried += 1;
            let (source, asked) = match self.send(&mut location, offset).await? {
                Sent::Whole => {
                    self.arrived().await?;
                    return Ok(size);
                }
                Sent::Broken(source, asked) => (source, asked),
            };
            let what = self.what();
            let Some(pause) = self.http.retry().pause(tried, asked, fastrand::f64()) else {
                return Err(PushError::Network { what, tries: tried, source });
            };
            tracing::debug!(%what, tried, ?pause, "upload broke off: {source}");
            tokio::time::sleep(pause).await;
            match self.standing(&location).await? {
                Some((at, url)) if at > 0 && at <= size => (offset, location) = (at, url),
                // It knows the upload no more: finished, and only the answer was lost, or gone.
                None if self.there().await? => return Ok(size),
                // Or it has none of it, which cannot be told from one byte.
                before => {
                    if let Some((_, url)) = before {
                        self.give_up(url).await;
                    }
                    offset = 0;
                    match self.begin().await? {
                        Some(url) => location = url,
                        None => return Ok(size),
                    }
                }
            }
        }
    }

    /// Whether the repository has it, with this size.
    async fn there(&self) -> Result<bool, PushError> {
        let Descriptor { digest, size, .. } = *self.content.descriptor();
        let url = self.http.url(&format!("blobs/{digest}"));
        let ask = Ask::new(Method::HEAD, url, &self.what());
        let answer = match self.http.send(&ask).await {
            // From where the registry would have it read: there it is.
            Err(PushError::Elsewhere { .. }) => return Ok(true),
            other => other?,
        };
        match answer.status {
            StatusCode::OK => {
                let length = answer.header(header::CONTENT_LENGTH).and_then(|l| l.parse().ok());
                if length.is_some_and(|length: u64| length != size) {
                    return Err(PushError::Altered {
                        place: self.http.place().to_owned(),
                        what: format!("{} of {size} bytes", self.what()),
                        found: format!("{} bytes", length.unwrap_or(0)),
                    });
                }
                Ok(true)
            }
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.http.refused(&self.what(), &answer)),
        }
    }

    /// Whoever says that it took a blob must have it.
    async fn arrived(&self) -> Result<(), PushError> {
        if self.there().await? {
            return Ok(());
        }
        Err(PushError::Altered {
            place: self.http.place().to_owned(),
            what: self.what(),
            found: "nothing".into(),
        })
    }

    /// Starts an upload, or mounts the blob: then there is none.
    async fn begin(&self) -> Result<Option<Url>, PushError> {
        let what = self.what();
        let mut started = None;
        // One try without a mount when there is nothing to mount from.
        let sources: Vec<Option<&String>> = match self.mount_from {
            [] => vec![None],
            some => some.iter().map(Some).collect(),
        };
        for from in sources {
            if let Some(before) = started.take() {
                self.give_up(before).await;
            }
            let mut ask = Ask::new(Method::POST, self.http.url("blobs/uploads/"), &what);
            if let Some(from) = from {
                let digest = self.content.descriptor().digest.to_string();
                ask.url.query_pairs_mut().append_pair("mount", &digest).append_pair("from", from);
                ask.also.push(from.clone());
            }
            ask.headers.push((header::CONTENT_LENGTH, "0".into()));
            let answer = self.http.send(&ask).await?;
            match answer.status {
                StatusCode::CREATED if from.is_some() => return Ok(None),
                StatusCode::ACCEPTED => started = Some(self.location(&answer)?),
                _ => return Err(self.http.refused(&what, &answer)),
            }
        }
        Ok(started)
    }

    /// Lets go of an upload that a failed mount has started.
    async fn give_up(&self, location: Url) {
        let ask = Ask::new(Method::DELETE, location, &self.what());
        if let Err(error) = self.http.send(&ask).await {
            tracing::debug!("an upload was left behind: {error}");
        }
    }

    fn location(&self, answer: &Answer) -> Result<Url, PushError> {
        let location = answer.header(header::LOCATION).ok_or_else(|| PushError::Answer {
            place: self.http.place().to_owned(),
            what: self.what(),
            why: "no Location".into(),
        })?;
        self.http.own(location, &self.what())
    }

    /// How far the registry says that it is; `None` when it knows nothing of the upload.
    async fn standing(&self, location: &Url) -> Result<Option<(u64, Url)>, PushError> {
        let ask = Ask::new(Method::GET, location.clone(), &self.what());
        let answer = self.http.send(&ask).await?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let url = match answer.header(header::LOCATION) {
            Some(_) => self.location(&answer)?,
            None => location.clone(),
        };
        Ok(received(answer.header(header::RANGE)).map(|at| (at, url)))
    }

    /// Sends everything from an offset on.
    async fn send(&self, location: &mut Url, offset: u64) -> Result<Sent, PushError> {
        let Descriptor { digest, size, .. } = *self.content.descriptor();
        let mut at = offset;
        let chunk = self.chunk.unwrap_or(u64::MAX).max(1);
        // The rest fits into the request that ends the upload, if nothing was sent before.
        let whole = at == 0 && size <= chunk;
        while !whole && at < size {
            let end = size.min(at.saturating_add(chunk));
            let mut ask = Ask::new(Method::PATCH, location.clone(), &self.what());
            ask.headers.push((header::CONTENT_RANGE, format!("{at}-{}", end - 1)));
            let answer = match self.stream(&mut ask, at, end).await? {
                Ok(answer) => answer,
                Err(broken) => return Ok(broken),
            };
            match answer.status {
                StatusCode::ACCEPTED => *location = self.location(&answer)?,
                // It is elsewhere than we thought: asked for its standing, it says where.
                StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Ok(Sent::Broken(self.http.status(&ask, answer.status), None));
                }
                _ => return Err(self.http.refused(&self.what(), &answer)),
            }
            at = end;
        }
        let mut url = location.clone();
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let mut ask = Ask::new(Method::PUT, url, &self.what());
        let end = if whole { size } else { at };
        let answer = match self.stream(&mut ask, if whole { 0 } else { at }, end).await? {
            Ok(answer) => answer,
            Err(broken) => return Ok(broken),
        };
        match answer.status {
            StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(Sent::Whole),
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => {
                Ok(Sent::Broken(self.http.status(&ask, answer.status), None))
            }
            _ => Err(self.http.refused(&self.what(), &answer)),
        }
    }

    /// One request with the bytes from `from` to `to`.
    async fn stream(
        &self,
        ask: &mut Ask,
        from: u64,
        to: u64,
    ) -> Result<Result<Answer, Sent>, PushError> {
        ask.headers.push((header::CONTENT_TYPE, "application/octet-stream".into()));
        ask.headers.push((header::CONTENT_LENGTH, (to - from).to_string()));
        let scopes = self.http.scopes(&[]);
        let unreachable =
            |why: String| FetchError::Unreachable { place: self.http.place().to_owned(), why };
        for fresh in [false, true] {
            let moved = Arc::new(AtomicU64::new(0));
            let body = content::body(self.content, from, to, Arc::clone(&moved));
            let body = body.map_err(|source| PushError::File { what: self.what(), source })?;
            let request = async {
                let answer = self.http.start(ask, &scopes, body).await?;
                if answer.status() == StatusCode::UNAUTHORIZED && !fresh {
                    self.http.log_in(answer.headers(), &scopes).await.map_err(Once::Final)?;
                    return Ok(None);
                }
                self.http.read(ask, answer).await.map(Some)
            };
            let answer = tokio::select! {
                answer = request => answer,
                () = stalled(&moved) => {
                    Err(Once::Broken(format!("nothing moved for {} s", STALL.as_secs())))
                }
            };
            match answer {
                // The challenge took the place of the answer: send it again, logged in.
                Ok(None) => {}
                Ok(Some(answer)) if retry::may_pass(answer.status.as_u16()) => {
                    let asked = retry::asked(answer.header(header::RETRY_AFTER));
                    return Ok(Err(Sent::Broken(self.http.status(ask, answer.status), asked)));
                }
                Ok(Some(answer)) => return Ok(Ok(answer)),
                Err(Once::Broken(why)) => return Ok(Err(Sent::Broken(unreachable(why), None))),
                Err(Once::Final(error)) => return Err(error),
            }
        }
        unreachable!("the second turn returns")
    }
}

/// Ends when nothing has moved for too long.
async fn stalled(moved: &AtomicU64) {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(STALL).await;
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

/// The offset after a `Range` of received bytes. `0-0` is how registries write that there are none.
fn received(range: Option<&str>) -> Option<u64> {
    let text = range?.trim();
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    let (first, last) = text.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    match (first, last) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::received;

    #[test]
    fn offsets() {
        for (range, want) in [
            (Some("0-0"), Some(0)),
            (Some("0-99"), Some(100)),
            (Some("bytes=0-99"), Some(100)),
            (Some("5-99"), None),
            (Some("0-18446744073709551615"), None),
            (Some("0--1"), None),
            (Some("x"), None),
            (Some(""), None),
            (None, None),
        ] {
            assert_eq!(received(range), want, "{range:?}");
        }
    }
}
