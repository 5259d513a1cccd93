//! Manifests: exact bytes in, exact bytes out, by tag or digest; nothing is kept that names what
//! is not here.

use std::{io, sync::Arc};

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderName, StatusCode, header},
    response::Response,
};
use pitlane_release::digest::Digest;

use super::{
    Registry,
    blobs::{self, CONTENT_DIGEST, finish},
    disk::Move,
    error::ApiError,
    links::Link,
    manifest::{self, Parsed},
    names::{Reference, Repo, Tag},
    quota::Reservation,
    routes::Ask,
    store::{blob_path, blocking, touch},
    upload::Pace,
    uploading::hold,
};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// GET and HEAD.
pub(super) async fn get(
    registry: Arc<Registry>,
    repo: Repo,
    reference: Reference,
    ask: &Ask,
) -> Result<Response, ApiError> {
    let (head, writes) = (ask.is_head(), ask.writes);
    let pass = if head && writes { Some(registry.gate.pass().await) } else { None };
    let found = blocking(move || {
        let link = find(&registry, &repo, &reference)?;
        if pass.is_some() {
            // A client that finds it here does not push it.
            registry.gate.note([&link.entry.digest]);
            touch(&registry.links.manifest_path(&repo, &link.entry.digest));
        }
        if head {
            return Ok((link, Vec::new()));
        }
        let unknown = || unknown(&registry, &repo, &reference);
        let digest = link.entry.digest;
        let (mut file, size) =
            registry.store.open(&digest).map_err(|e| failed(&e))?.ok_or_else(unknown)?;
        let bytes = blobs::read_to(&mut file, size).map_err(|e| failed(&e))?;
        Ok((link, bytes))
    });
    let (Link { entry, .. }, bytes) = found.await?;
    let length = if head { entry.size } else { bytes.len() as u64 };
    let builder = Response::builder();
    if blobs::matches(ask, &entry.digest) {
        return blobs::reply(
            builder.status(StatusCode::NOT_MODIFIED),
            &entry.digest,
            Body::empty(),
        );
    }
    let builder = builder
        .header(header::CONTENT_LENGTH, length)
        .header(header::CONTENT_TYPE, &entry.media_type);
    blobs::reply(builder, &entry.digest, Body::from(bytes))
}

/// The repository's record of what a reference names.
pub(super) fn find(
    registry: &Registry,
    repo: &Repo,
    reference: &Reference,
) -> Result<Link, ApiError> {
    let digest = match reference {
        Reference::Digest(digest) => Some(*digest),
        Reference::Tag(tag) => registry.links.tag(repo, tag).map_err(|e| failed(&e))?,
    };
    let link = digest.map(|digest| registry.links.manifest(repo, &digest)).transpose();
    link.map_err(|e| failed(&e))?.flatten().ok_or_else(|| unknown(registry, repo, reference))
}

fn unknown(registry: &Registry, repo: &Repo, reference: &Reference) -> ApiError {
    if !registry.links.exists(repo) {
        return ApiError::name_unknown(repo.as_str());
    }
    let text = match reference {
        Reference::Tag(tag) => format!("tagged `{tag}`"),
        Reference::Digest(digest) => digest.to_string(),
    };
    ApiError::manifest_unknown(repo.as_str(), &text)
}

/// PUT: checks, then commits the manifest, its link, its place among the referrers and its tag.
pub(super) async fn put(
    registry: Arc<Registry>,
    repo: Repo,
    reference: Reference,
    ask: &Ask,
    body: &mut BodyDataStream,
) -> Result<Response, ApiError> {
    let bytes = receive(&registry, ask, body).await?;
    let content_type = ask.header(header::CONTENT_TYPE);
    let parsed = manifest::parse(content_type, &bytes)?;
    let digest = parsed.entry.digest;
    let tag = match reference {
        Reference::Tag(tag) => Some(tag),
        Reference::Digest(want) if want == digest => None,
        Reference::Digest(want) => {
            return Err(ApiError::digest_invalid(format!(
                "the manifest's digest is {digest}, not {want}: send the bytes that you hashed"
            )));
        }
    };
    let subject = parsed.subject;
    let named: Vec<Digest> = parsed.blobs.iter().map(|(blob, _)| *blob).collect();
    let pass = registry.gate.pass().await;
    registry.gate.note(named.iter().chain(&subject).chain([&digest]));
    registry.gate.note(parsed.children.iter().map(|(child, _)| child));
    registry.store.durable(&named).await;

    let (worker, name, anywhere) = (Arc::clone(&registry), repo.clone(), ask.reads_all);
    // The pass goes with the work, which goes on when the client does not wait for it.
    let work = move || {
        let put = Put { repo: &name, tag: tag.as_ref(), anywhere };
        prepare(&worker, &put, parsed, &bytes).map(|prepared| (prepared, pass))
    };
    let (Prepared { moves, reservation, share }, pass) = blocking(work).await?;
    if !moves.is_empty() {
        let (done, committed) = tokio::sync::oneshot::channel();
        // Also when the client is gone by then: what is committed is counted.
        let answer = Box::new(move |result: io::Result<()>| {
            if result.is_ok() {
                reservation.keep();
                share.keep();
            }
            drop(pass);
            let _ = done.send(result);
        });
        registry.store.committer.submit(moves, answer);
        let committed =
            committed.await.unwrap_or_else(|_| Err(io::Error::other("the registry is closing")));
        committed.map_err(|e| ApiError::storage("keep a manifest", &e))?;
        registry.layout.touch();
    }
    let mut builder = Response::builder()
        .status(StatusCode::CREATED)
        .header(header::LOCATION, format!("/v2/{repo}/manifests/{digest}"))
        .header(CONTENT_DIGEST, digest.to_string())
        .header(header::CONTENT_LENGTH, 0);
    if let Some(subject) = subject {
        builder = builder.header(OCI_SUBJECT, subject.to_string());
    }
    finish(builder, Body::empty())
}

async fn receive(
    registry: &Registry,
    ask: &Ask,
    body: &mut BodyDataStream,
) -> Result<Vec<u8>, ApiError> {
    let max = registry.limits.manifest_bytes;
    let too_large = || {
        ApiError::too_large(format!(
            "manifests may have {max} bytes: move what is large into a blob"
        ))
    };
    let announced = ask.header(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|size| size > max) {
        return Err(too_large());
    }
    let mut pace = Pace::new(registry.limits.body_stall);
    let mut bytes = Vec::new();
    while let Some(piece) = pace.next(body).await? {
        if pace.received > max {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Where a manifest goes.
struct Put<'a> {
    repo: &'a Repo,
    tag: Option<&'a Tag>,
    /// Whether its blobs may come from any repository.
    anywhere: bool,
}

/// What is to be committed, and what it will take.
struct Prepared {
    moves: Vec<Move>,
    reservation: Reservation,
    share: Reservation,
}

/// Checks that everything named is here, and writes temporary files for what is new. The order of
/// the moves keeps every prefix of them consistent: the tag comes last.
fn prepare(
    registry: &Registry,
    put: &Put<'_>,
    parsed: Parsed,
    bytes: &[u8],
) -> Result<Prepared, ApiError> {
    let Put { repo, tag, anywhere } = *put;
    let Parsed { blobs, children, subject, entry } = parsed;
    let (digest, links, store) = (entry.digest, &registry.links, &registry.store);
    for (blob, size) in &blobs {
        let held = anywhere || links.has_blob(repo, blob).map_err(|e| failed(&e))?;
        let here = if held { store.size(blob).map_err(|e| failed(&e))? } else { None };
        check_size(&format!("blob {blob}"), here, *size)?;
    }
    for (child, size) in children {
        let here = links.manifest(repo, &child).map_err(|e| failed(&e))?;
        check_size(&format!("manifest {repo}@{child}"), here.map(|link| link.entry.size), size)?;
    }
    for (blob, size) in &blobs {
        hold(registry, repo, blob, *size)?;
    }

    let mut moves = Vec::new();
    let mut reservation = Reservation::none(&store.quota);
    let mut share = Reservation::none(&registry.shares.of(repo));
    let mut add = |to, bytes: &[u8]| -> Result<(), ApiError> {
        let from =
            store.write_temporary(bytes).map_err(|e| ApiError::storage("write a manifest", &e))?;
        moves.push(Move { from, to });
        Ok(())
    };
    // Also when the copy here was altered on the disk.
    if !same_bytes(registry, &digest, bytes)? {
        reservation.add(entry.size)?;
        add(blob_path(store.root(), &digest), bytes)?;
    }
    if links.manifest(repo, &digest).map_err(|e| failed(&e))?.is_some() {
        touch(&links.manifest_path(repo, &digest));
    } else {
        share.add(entry.size)?;
        if let Some(subject) = &subject {
            add(links.referrer_path(repo, subject, &digest), &encode(&entry)?)?;
        }
        add(links.manifest_path(repo, &digest), &encode(&Link { entry, subject })?)?;
    }
    if let Some(tag) = tag {
        let now = links.tag(repo, tag).map_err(|e| failed(&e))?;
        if now != Some(digest) {
            add(links.tag_path(repo, tag), format!("{digest}\n").as_bytes())?;
        }
    }
    Ok(Prepared { moves, reservation, share })
}

fn same_bytes(registry: &Registry, digest: &Digest, bytes: &[u8]) -> Result<bool, ApiError> {
    let found = registry.store.open(digest).map_err(|e| failed(&e))?;
    let Some((mut file, size)) = found.filter(|(_, size)| *size == bytes.len() as u64) else {
        return Ok(false);
    };
    Ok(blobs::read_to(&mut file, size).map_err(|e| failed(&e))? == bytes)
}

fn encode(value: &impl serde::Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|e| ApiError::storage("encode a link", &io::Error::other(e)))
}

fn check_size(what: &str, here: Option<u64>, want: u64) -> Result<(), ApiError> {
    match here {
        None => Err(ApiError::manifest_refers_to_unknown(format!(
            "the manifest names {what}, which is not here: push it first"
        ))),
        Some(size) if size != want => Err(ApiError::manifest_invalid(format!(
            "the manifest says that {what} has {want} bytes, it has {size}: correct the size"
        ))),
        Some(_) => Ok(()),
    }
}

fn failed(error: &io::Error) -> ApiError {
    ApiError::storage("use a repository's links", error)
}
