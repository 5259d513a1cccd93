//! Downloads: blobs by digest, whole or in part, streamed from the disk.
//!
//! Who may read every repository gets a blob that is here under any name, and needs no second
//! push. Others get those that the repository they ask holds.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, StatusCode, header, response::Builder},
    response::Response,
};
use futures_util::stream;
use pitlane_release::digest::Digest;

use super::{
    Registry,
    disk::{flush, if_exists},
    error::ApiError,
    names::Repo,
    range::{self, Wanted},
    routes::Ask,
    store::{blocking, touch},
};

/// What one read takes from the disk: large enough that its switch of threads does not show.
const PIECE: u64 = 256 * 1024;

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// GET and HEAD of a blob.
pub(super) async fn get(
    registry: Arc<Registry>,
    repo: Repo,
    digest: Digest,
    ask: &Ask,
) -> Result<Response, ApiError> {
    if !ask.reads_all {
        let (registry, repo) = (Arc::clone(&registry), repo.clone());
        let held = move || registry.links.has_blob(&repo, &digest).map_err(|e| failed(&e));
        if !blocking(held).await? {
            return Err(ApiError::blob_unknown(&digest));
        }
    }
    if matches(ask, &digest) {
        return reply(Response::builder().status(StatusCode::NOT_MODIFIED), &digest, Body::empty());
    }
    if ask.is_head() {
        // Who may push asks before a push, and will not send what is here.
        let pass = if ask.writes { Some(registry.gate.pass().await) } else { None };
        let size = move || {
            if pass.is_some() {
                registry.gate.note([&digest]);
                registry.store.touch(&digest);
                touch(&registry.links.blob_path(&repo, &digest));
            }
            registry.store.size(&digest).map_err(|e| failed(&e))
        };
        let size = blocking(size).await?.ok_or_else(|| ApiError::blob_unknown(&digest))?;
        return reply(content(size), &digest, Body::empty());
    }
    // A client that goes on with another version of the same address: there is none by digest.
    let same = ask.header(header::IF_RANGE).is_none_or(|tag| tag == etag(&digest));
    let range = ask.header(header::RANGE).filter(|_| same).map(str::to_owned);
    let opened = blocking(move || {
        let found = registry.store.open(&digest).map_err(|e| failed(&e))?;
        let (mut file, size) = found.ok_or_else(|| ApiError::blob_unknown(&digest))?;
        let wanted = range::wanted(range.as_deref(), size);
        let (start, end) = match wanted {
            Wanted::All => (0, size),
            Wanted::Part { start, end } => (start, end),
            Wanted::Unsatisfiable => (0, 0),
        };
        if start > 0 {
            file.seek(SeekFrom::Start(start)).map_err(|e| failed(&e))?;
        }
        // Most blobs of a release are small: one read, no stream.
        let first = read(&mut file, end - start).map_err(|e| failed(&e))?;
        Ok((file, size, wanted, start, end, first))
    });
    let (file, size, wanted, start, end, first) = opened.await?;
    let builder = match wanted {
        Wanted::All => content(size),
        Wanted::Part { .. } => content(end - start)
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1)),
        Wanted::Unsatisfiable => {
            return Err(ApiError::range(format!(
                "the blob has {size} bytes: ask for a range inside"
            ))
            .with(header::CONTENT_RANGE, &format!("bytes */{size}")));
        }
    };
    let left = end - start - first.len() as u64;
    let body = if left == 0 { Body::from(first) } else { stream_rest(first, file, left) };
    reply(builder, &digest, body)
}

/// DELETE of a blob: only one that no manifest of the repository needs. The bytes go with the last
/// repository that holds them.
pub(super) async fn delete(
    registry: Arc<Registry>,
    repo: Repo,
    digest: Digest,
    ask: &Ask,
) -> Result<Response, ApiError> {
    let anywhere = ask.reads_all;
    blocking(move || {
        let (links, store) = (&registry.links, &registry.store);
        let _alone = registry.gate.alone();
        let size = store.size(&digest).map_err(|e| failed(&e))?;
        let held = links.has_blob(&repo, &digest).map_err(|e| failed(&e))?;
        let Some(size) = size.filter(|_| held || anywhere) else {
            return Err(ApiError::blob_unknown(&digest));
        };
        for by in links.manifests(&repo).map_err(|e| failed(&e))? {
            if by == digest || needs(&registry, &repo, &by, &digest)? {
                return Err(ApiError::denied(format!(
                    "{digest} is in use by {repo}@{by}: delete that manifest first"
                )));
            }
        }
        if held {
            let path = links.blob_path(&repo, &digest);
            if_exists(fs::remove_file(&path)).map_err(|e| failed(&e))?;
            path.parent().map_or(Ok(()), flush).map_err(|e| failed(&e))?;
            registry.shares.of(&repo).release(size);
        }
        for other in links.places().map_err(|e| failed(&e))? {
            let held = links.has_blob(&other, &digest).map_err(|e| failed(&e))?;
            if held || links.manifest(&other, &digest).map_err(|e| failed(&e))?.is_some() {
                return Ok(());
            }
        }
        store.remove(&digest).map_err(|e| failed(&e)).map(|_| ())
    })
    .await?;
    accepted()
}

fn needs(registry: &Registry, repo: &Repo, by: &Digest, blob: &Digest) -> Result<bool, ApiError> {
    let parsed = registry.parsed(repo, by).map_err(|e| failed(&e))?;
    Ok(parsed.is_some_and(|parsed| parsed.blobs.iter().any(|(digest, _)| digest == blob)))
}

/// 202 without a body.
pub(super) fn accepted() -> Result<Response, ApiError> {
    finish(
        Response::builder().status(StatusCode::ACCEPTED).header(header::CONTENT_LENGTH, 0),
        Body::empty(),
    )
}

pub(super) fn finish(builder: Builder, body: Body) -> Result<Response, ApiError> {
    builder.body(body).map_err(|e| ApiError::storage("answer", &io::Error::other(e)))
}

/// Whether the client has this already (`If-None-Match`).
pub(super) fn matches(ask: &Ask, digest: &Digest) -> bool {
    let etag = etag(digest);
    ask.header(header::IF_NONE_MATCH)
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == etag))
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

fn content(size: u64) -> Builder {
    Response::builder()
        .header(header::CONTENT_LENGTH, size)
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
        .header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))
}

pub(super) fn reply(builder: Builder, digest: &Digest, body: Body) -> Result<Response, ApiError> {
    finish(
        builder.header(CONTENT_DIGEST, digest.to_string()).header(header::ETAG, etag(digest)),
        body,
    )
}

fn stream_rest(first: Bytes, file: File, left: u64) -> Body {
    let pieces = stream::unfold((Some(first), Some((file, left))), |(first, rest)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, rest)));
        }
        let (mut file, left) = rest.filter(|(_, left)| *left > 0)?;
        let work = move || {
            let bytes = read(&mut file, left)?;
            if bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            Ok((file, bytes))
        };
        match tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok((file, bytes)) => {
                let left = left - bytes.len() as u64;
                Some((Ok(bytes), (None, Some((file, left)))))
            }
            // An error in the stream breaks the connection, so the client sees that bytes miss.
            Err(error) => Some((Err(error), (None, None))),
        }
    });
    Body::from_stream(pieces)
}

/// The next piece, at most `left` bytes.
fn read(file: &mut File, left: u64) -> io::Result<Bytes> {
    read_to(file, left.min(PIECE)).map(Bytes::from)
}

/// `size` bytes, fewer at the end of the file.
pub(super) fn read_to(file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn failed(error: &io::Error) -> ApiError {
    ApiError::storage("read a blob", error)
}
