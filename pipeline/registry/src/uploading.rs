//! The upload requests: start, mount, append, finish, ask, cancel.

use std::{io, sync::Arc};

use axum::{
    body::{Body, BodyDataStream},
    http::{StatusCode, header, response::Builder},
    response::Response,
};
use pitlane_release::digest::Digest;

use super::{
    Registry,
    blobs::{CONTENT_DIGEST, finish as reply},
    error::ApiError,
    names::{Repo, UploadId, parse_digest, shown},
    quota::Reservation,
    range,
    routes::Ask,
    store::{blocking, touch},
    upload,
};

/// POST: starts an upload; with `digest` takes the whole blob at once; with `mount` answers at once
/// when the blob is here, and starts an upload when it is not.
pub(super) async fn start(
    registry: Arc<Registry>,
    repo: Repo,
    ask: &Ask,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    if let Some(text) = ask.query("digest") {
        let digest = parse_digest(text)?;
        let session = registry.uploads.private(&repo)?;
        let session = registry.uploads.receive(session, body, None).await?;
        upload::finish(session, digest, registry).await?;
        return created(&repo, &digest);
    }
    if let Some(text) = ask.query("mount") {
        let digest = parse_digest(text)?;
        let from = ask.query("from").map(Repo::parse).transpose()?;
        if mount(&registry, &repo, digest, from, ask).await? {
            return created(&repo, &digest);
        }
    }
    let id = registry.uploads.start(&repo)?;
    progress(StatusCode::ACCEPTED, &repo, &id, 0)
}

/// Takes a blob that is here into a repository, when this caller may read it: from the repository
/// that is named, from this one, or from anywhere when everything is open to the caller.
async fn mount(
    registry: &Arc<Registry>,
    repo: &Repo,
    digest: Digest,
    from: Option<Repo>,
    ask: &Ask,
) -> Result<bool, ApiError> {
    let from = from.filter(|from| ask.reads_all || registry.auth.pulls(&ask.caller, from));
    let (anywhere, repo) = (ask.reads_all, repo.clone());
    let failed = |error: io::Error| ApiError::storage("find a blob", &error);
    let pass = registry.gate.pass().await;
    let registry = Arc::clone(registry);
    blocking(move || {
        let _pass = pass;
        let (links, store) = (&registry.links, &registry.store);
        let Some(size) = store.size(&digest).map_err(failed)? else { return Ok(false) };
        if !anywhere && !links.has_blob(&repo, &digest).map_err(failed)? {
            let there = from.map(|from| links.has_blob(&from, &digest)).transpose();
            if there.map_err(failed)? != Some(true) {
                return Ok(false);
            }
        }
        registry.gate.note([&digest]);
        store.touch(&digest);
        hold(&registry, &repo, &digest, size)?;
        Ok(true)
    })
    .await
}

/// Notes that a repository holds a blob that is here already, against its share.
pub(super) fn hold(
    registry: &Registry,
    repo: &Repo,
    digest: &Digest,
    size: u64,
) -> Result<(), ApiError> {
    let failed = |error: io::Error| ApiError::storage("note a blob", &error);
    if registry.links.has_blob(repo, digest).map_err(failed)? {
        touch(&registry.links.blob_path(repo, digest));
        return Ok(());
    }
    let mut share = Reservation::none(&registry.shares.of(repo));
    share.add(size)?;
    if registry.links.link_blob(repo, digest).map_err(failed)? {
        share.keep();
    }
    Ok(())
}

/// PATCH: appends a chunk.
pub(super) async fn patch(
    registry: Arc<Registry>,
    repo: Repo,
    id: UploadId,
    ask: &Ask,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let session = registry.uploads.hold(&repo, &id).await?;
    let exact = check_range(ask, &repo, &id, session.offset())?;
    let session = registry.uploads.receive(session, body, exact).await?;
    progress(StatusCode::ACCEPTED, &repo, &id, session.offset())
}

/// PUT: appends what the body holds, if anything, and makes the upload the blob of this digest.
pub(super) async fn put(
    registry: Arc<Registry>,
    repo: Repo,
    id: UploadId,
    ask: &Ask,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let Some(text) = ask.query("digest") else {
        return Err(ApiError::digest_invalid(
            "the last request of an upload names the blob: add ?digest=sha256:..",
        ));
    };
    let digest = parse_digest(text)?;
    let session = registry.uploads.hold(&repo, &id).await?;
    let exact = check_range(ask, &repo, &id, session.offset())?;
    let session = registry.uploads.receive(session, body, exact).await?;
    registry.uploads.remove(&id);
    upload::finish(session, digest, registry).await?;
    created(&repo, &digest)
}

/// GET: how far the upload is.
pub(super) async fn status(
    registry: Arc<Registry>,
    repo: Repo,
    id: UploadId,
) -> Result<Response, ApiError> {
    let session = registry.uploads.hold(&repo, &id).await?;
    progress(StatusCode::NO_CONTENT, &repo, &id, session.offset())
}

/// DELETE: gives the upload up.
pub(super) async fn cancel(
    registry: Arc<Registry>,
    repo: Repo,
    id: UploadId,
) -> Result<Response, ApiError> {
    let _session = registry.uploads.hold(&repo, &id).await?;
    registry.uploads.remove(&id);
    reply(Response::builder().status(StatusCode::NO_CONTENT), Body::empty())
}

/// A chunk must begin where the upload ends; gives the length that it announces.
fn check_range(
    ask: &Ask,
    repo: &Repo,
    id: &UploadId,
    offset: u64,
) -> Result<Option<u64>, ApiError> {
    let Some(text) = ask.header(header::CONTENT_RANGE) else { return Ok(None) };
    let Some((first, length)) = range::chunk(text) else {
        return Err(ApiError::upload_invalid(format!(
            "Content-Range `{}` is not FIRST-LAST: send the offsets of the chunk's first and last byte",
            shown(text)
        )));
    };
    if first != offset {
        let at = location(repo, id);
        return Err(ApiError::range(format!(
            "the chunk begins at byte {first}, the upload is at {offset}: go on from there"
        ))
        .with(header::LOCATION, &at)
        .with(header::RANGE, &received(offset)));
    }
    Ok(Some(length))
}

fn location(repo: &Repo, id: &UploadId) -> String {
    format!("/v2/{repo}/blobs/uploads/{id}")
}

/// The received bytes, both ends included: nothing at all is written `0-0`, as others do.
fn received(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

fn progress(
    status: StatusCode,
    repo: &Repo,
    id: &UploadId,
    offset: u64,
) -> Result<Response, ApiError> {
    let mut builder = Response::builder()
        .status(status)
        .header(header::LOCATION, location(repo, id))
        .header(header::RANGE, received(offset))
        .header("docker-upload-uuid", id.as_str());
    if status != StatusCode::NO_CONTENT {
        builder = empty(builder);
    }
    reply(builder, Body::empty())
}

fn created(repo: &Repo, digest: &Digest) -> Result<Response, ApiError> {
    let builder = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::LOCATION, format!("/v2/{repo}/blobs/{digest}"))
        .header(CONTENT_DIGEST, digest.to_string());
    reply(empty(builder), Body::empty())
}

fn empty(builder: Builder) -> Builder {
    builder.header(header::CONTENT_LENGTH, 0)
}
