//! Errors: `RegistryError` for who opens the registry, `ApiError` for who talks to it.

use std::{io, path::PathBuf};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pitlane_release::digest::Digest;

/// The registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Another process has this folder open.
    #[error("{} is in use by another registry: stop that one, or choose another folder", .0.display())]
    InUse(PathBuf),
    /// The folder holds something else than an OCI layout.
    #[error("{} is not a version 1.0.0 OCI layout: choose an empty folder", .0.display())]
    NotALayout(PathBuf),
    /// The push token cannot be one.
    #[error("the push token {0}; write a random one of 32 or more characters into its file")]
    BadToken(&'static str),
    /// The tokens file says something that is not understood.
    #[error("the registry's tokens file cannot be used: {0}")]
    BadTokens(String),
    /// Garbage is being collected already.
    #[error("garbage is being collected already: wait for that, then ask again")]
    Collecting,
    /// The list of what must stay is not known, so nothing was removed.
    #[error("what must stay is not known, so nothing was removed: {0}")]
    Kept(String),
    /// A manifest cannot be read, so what it needs is not known.
    #[error(
        "{repository}@{digest} cannot be read, so nothing was removed: push it again, or delete it"
    )]
    Unreadable {
        /// The repository that has it.
        repository: String,
        /// Which manifest.
        digest: Digest,
    },
    /// The disk failed us.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl RegistryError {
    pub(super) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

/// An answer of the distribution specification's error form: status, code, and what to do next.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn with(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(super) fn name_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message)
    }

    pub(super) fn name_unknown(repo: &str) -> Self {
        let message = format!("no repository `{repo}` here: check the name, or push to it first");
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message)
    }

    pub(super) fn digest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(super) fn blob_unknown(digest: &Digest) -> Self {
        let message = format!("no blob {digest} here: push it first");
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message)
    }

    pub(super) fn manifest_unknown(repo: &str, reference: &str) -> Self {
        let message =
            format!("`{repo}` has no manifest {reference}: list its tags, or push it first");
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
    }

    pub(super) fn manifest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub(super) fn manifest_refers_to_unknown(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", message)
    }

    pub(super) fn size_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    }

    pub(super) fn upload_unknown(id: &str) -> Self {
        let message = format!(
            "no upload `{id}` here (finished, expired or from before a restart): start again"
        );
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message)
    }

    pub(super) fn upload_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn upload_busy() -> Self {
        let message = "another request is writing to this upload: wait for it, then ask for the upload's status";
        Self::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn range(message: impl Into<String>) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn stalled(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", message)
            .with(header::CONNECTION, "close")
    }

    pub(super) fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
            .with(header::RETRY_AFTER, "1")
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    pub(super) fn quota(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", message)
    }

    pub(super) fn unauthorized(message: impl Into<String>, challenge: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
            .with(header::WWW_AUTHENTICATE, challenge)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(super) fn bad_query(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
    }

    pub(super) fn not_found() -> Self {
        let message = "no such address: this is an OCI registry, its API starts at /v2/";
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", message)
    }

    /// The disk failed: logged here with its cause, which stays out of the answer.
    pub(super) fn storage(what: &str, error: &io::Error) -> Self {
        tracing::error!(what, %error, "registry storage failed");
        let full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full {
            return Self::quota("the registry's disk is full: make room there and try again");
        }
        let message = "the registry's disk failed: see the registry's log, then try again";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "errors": [{ "code": self.code, "message": self.message, "detail": null }]
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        response
    }
}
