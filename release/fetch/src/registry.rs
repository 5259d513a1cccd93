//! Reading from a registry over HTTP (OCI distribution spec 1.1), with caps on everything.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use futures_util::StreamExt as _;
use pitlane_release::{
    Digest, Repository,
    oci::{self, Descriptor},
};
use reqwest::{StatusCode, header};

use crate::{FetchError, MAX_REFERRERS, auth};

/// Time to a connection: a registry on the other side of a bad radio link still answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer (slow-retrieval attacks end here).
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest a small document may take altogether.
const DOCUMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest list of tags or referrers read (bytes).
const MAX_LIST: u64 = 8 * 1024 * 1024;

/// Most repositories whose Authorization header is remembered; then all are asked for anew.
const MAX_TOKENS: usize = 256;

const ACCEPT_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A user name and password or token for a registry.
#[derive(Clone)]
pub struct Credentials {
    /// User name; registries with tokens take any.
    pub user: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, …)", self.user)
    }
}

/// How to talk to registries.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Registries (`host:port`) spoken to without TLS, besides those on loopback.
    pub plain_http: Vec<String>,
    /// Credentials, if reading needs any.
    pub credentials: Option<Credentials>,
}

/// A client for registries.
#[derive(Debug)]
pub struct Registry {
    plain: reqwest::Client,
    tls: std::sync::OnceLock<reqwest::Client>,
    options: RegistryOptions,
    /// Repository → the Authorization header that its registry accepted last.
    tokens: Mutex<HashMap<String, String>>,
}

/// Whether a registry is on this machine: then plain HTTP is the custom.
pub fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(reqwest::redirect::Policy::limited(4))
        .tcp_nodelay(true)
        .user_agent(concat!("pitlane/", env!("CARGO_PKG_VERSION")))
}

impl Registry {
    /// A client. Opens no connection, and reads the machine's certificates only when a registry
    /// is spoken to over TLS.
    pub fn new(options: RegistryOptions) -> Result<Self, FetchError> {
        let plain = builder().tls_certs_only([]).no_proxy().build();
        let plain = plain.map_err(|error| unreachable_at("the network", &error))?;
        Ok(Self { plain, tls: std::sync::OnceLock::new(), options, tokens: Mutex::default() })
    }

    fn client(&self, registry: &str) -> Result<(&'static str, &reqwest::Client), FetchError> {
        if is_loopback(registry) || self.options.plain_http.iter().any(|r| r == registry) {
            return Ok(("http", &self.plain));
        }
        if self.tls.get().is_none() {
            let client = builder().build().map_err(|e| unreachable_at(registry, &e))?;
            let _ = self.tls.set(client);
        }
        Ok(("https", self.tls.get().unwrap_or(&self.plain)))
    }

    /// Sends a GET, answering one authentication challenge.
    async fn get(
        &self,
        repository: &Repository,
        path: &str,
        accept: Option<&str>,
        from: u64,
    ) -> Result<reqwest::Response, FetchError> {
        let registry = repository.registry();
        let (scheme, client) = self.client(registry)?;
        let url = format!("{scheme}://{registry}/v2/{}/{path}", repository.path());
        let mut authorization =
            self.tokens.lock().ok().and_then(|tokens| tokens.get(repository.as_str()).cloned());
        for attempt in 0..2 {
            let mut request = client.get(&url);
            if let Some(accept) = accept {
                request = request.header(header::ACCEPT, accept);
            }
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            if let Some(value) = &authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            let answer = request.send().await.map_err(|e| unreachable_at(registry, &e))?;
            if answer.status() != StatusCode::UNAUTHORIZED || attempt > 0 {
                return Ok(answer);
            }
            let challenge = answer.headers().get(header::WWW_AUTHENTICATE);
            let challenge = challenge.and_then(|value| value.to_str().ok()).unwrap_or("");
            let credentials = self.options.credentials.as_ref();
            let Some(value) =
                auth::answer(client, scheme, challenge, repository, credentials).await?
            else {
                return Ok(answer);
            };
            if let Ok(mut tokens) = self.tokens.lock() {
                if tokens.len() >= MAX_TOKENS {
                    tokens.clear();
                }
                tokens.insert(repository.to_string(), value.clone());
            }
            authorization = Some(value);
        }
        unreachable!("the loop returns on its second turn")
    }

    pub(crate) async fn manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Vec<u8>, FetchError> {
        let what = format!("manifest {repository} {reference}");
        let path = format!("manifests/{reference}");
        let answer = self.get(repository, &path, Some(ACCEPT_MANIFEST), 0).await?;
        document(answer, repository, what, oci::MAX_MANIFEST).await
    }

    pub(crate) async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        cap: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let what = format!("blob {repository}@{digest}");
        let answer = self.get(repository, &format!("blobs/{digest}"), None, 0).await?;
        document(answer, repository, what, cap).await
    }

    pub(crate) async fn stream(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from: u64,
        sink: &mut (dyn FnMut(&[u8]) -> std::io::Result<()> + Send),
    ) -> Result<(), FetchError> {
        let what = format!("blob {repository}@{}", descriptor.digest);
        let path = format!("blobs/{}", descriptor.digest);
        let answer = self.get(repository, &path, None, from).await?;
        // A server that ignores the range sends all of it; then the head is skipped here.
        let mut skip = if answer.status() == StatusCode::PARTIAL_CONTENT { 0 } else { from };
        let answer = accepted(answer, repository, &what)?;
        let mut left = descriptor.size.saturating_sub(from);
        let mut body = answer.bytes_stream();
        while let Some(part) = body.next().await {
            let part = part.map_err(|e| unreachable_at(repository.registry(), &e))?;
            let drop = skip.min(part.len() as u64);
            skip -= drop;
            let part = &part[usize::try_from(drop).unwrap_or(part.len())..];
            if part.len() as u64 > left {
                return Err(FetchError::TooLarge { what, cap: descriptor.size });
            }
            left -= part.len() as u64;
            let fail = |why: std::io::Error| FetchError::File {
                path: descriptor.digest.to_string(),
                why: why.to_string(),
            };
            sink(part).map_err(fail)?;
        }
        if left > 0 {
            let why = format!("the connection ended {left} bytes early");
            return Err(FetchError::Unreachable { place: repository.registry().into(), why });
        }
        Ok(())
    }

    pub(crate) async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, FetchError> {
        let what = format!("referrers of {repository}@{digest}");
        let path = format!("referrers/{digest}");
        let answer = self.get(repository, &path, Some(oci::INDEX), 0).await?;
        let is_index = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|kind| kind.starts_with(oci::INDEX));
        let status = answer.status();
        let bytes = if status.is_success() && is_index {
            document(answer, repository, what, MAX_LIST).await?
        } else if status.is_success() || status == StatusCode::NOT_FOUND {
            // Registries without the API (docker-registry 2): the fallback tag.
            match self.manifest(repository, &format!("sha256-{}", digest.hex())).await {
                Err(FetchError::NotFound { .. }) => return Ok(Vec::new()),
                other => other?,
            }
        } else {
            // Nothing is concluded from a registry that fails.
            accepted(answer, repository, &what)?;
            return Ok(Vec::new());
        };
        let mut found = oci::parse_referrers(&bytes)?;
        found.truncate(MAX_REFERRERS);
        Ok(found)
    }

    pub(crate) async fn tags(
        &self,
        repository: &Repository,
        max: usize,
    ) -> Result<Vec<String>, FetchError> {
        #[derive(serde::Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        let mut found: Vec<String> = Vec::new();
        loop {
            let after = found.last().map(|tag| format!("&last={tag}")).unwrap_or_default();
            let path = format!("tags/list?n=1000{after}");
            let answer = self.get(repository, &path, None, 0).await?;
            let more = answer.headers().contains_key(header::LINK);
            let what = format!("tags of {repository}");
            let bytes = match document(answer, repository, what.clone(), MAX_LIST).await {
                Err(FetchError::NotFound { .. }) => return Ok(found),
                other => other?,
            };
            let list: List = serde_json::from_slice(&bytes).map_err(|_| FetchError::Status {
                place: repository.registry().into(),
                what,
                status: 200,
            })?;
            let page = list.tags.unwrap_or_default();
            let ended = page.is_empty() || !more;
            found.extend(page);
            if ended || found.len() >= max {
                found.truncate(max);
                return Ok(found);
            }
        }
    }
}

fn unreachable_at(place: &str, error: &reqwest::Error) -> FetchError {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        why = inner.to_string();
        source = inner.source();
    }
    FetchError::Unreachable { place: place.to_owned(), why }
}

fn accepted(
    answer: reqwest::Response,
    repository: &Repository,
    what: &str,
) -> Result<reqwest::Response, FetchError> {
    let (place, what) = (repository.registry().to_owned(), what.to_owned());
    match answer.status() {
        status if status.is_success() => Ok(answer),
        StatusCode::NOT_FOUND => Err(FetchError::NotFound { what, place }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(FetchError::Denied { place, what, status: answer.status().as_u16() })
        }
        status => Err(FetchError::Status { place, what, status: status.as_u16() }),
    }
}

/// Reads a whole small answer, at most `cap` bytes and not longer than a minute.
async fn document(
    answer: reqwest::Response,
    repository: &Repository,
    what: String,
    cap: u64,
) -> Result<Vec<u8>, FetchError> {
    let answer = accepted(answer, repository, &what)?;
    if answer.content_length().is_some_and(|length| length > cap) {
        return Err(FetchError::TooLarge { what, cap });
    }
    let read = async {
        let mut bytes = Vec::new();
        let mut body = answer.bytes_stream();
        while let Some(part) = body.next().await {
            let part = part.map_err(|e| unreachable_at(repository.registry(), &e))?;
            if (bytes.len() + part.len()) as u64 > cap {
                return Err(FetchError::TooLarge { what: what.clone(), cap });
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    };
    match tokio::time::timeout(DOCUMENT_TIMEOUT, read).await {
        Ok(result) => result,
        Err(_) => Err(FetchError::Unreachable {
            place: repository.registry().into(),
            why: format!("{what} took longer than {} s", DOCUMENT_TIMEOUT.as_secs()),
        }),
    }
}
