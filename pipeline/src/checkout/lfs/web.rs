//! The batch API of an LFS server, and the download that it names.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use serde::Deserialize;

use super::{Incoming, Pointer};

/// The API's media type.
const JSON: &str = "application/vnd.git-lfs+json";
/// Time to a connection, and to the next bytes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest a download may take.
const TIMEOUT: Duration = Duration::from_mins(8);
/// Largest answer of the API (bytes).
const MAX_ANSWER: usize = 64 * 1024;
/// Most redirects of a download; object stores need one.
const MAX_REDIRECTS: usize = 3;
/// Most headers that an answer may ask for, and longest value (bytes).
const MAX_HEADERS: usize = 32;
const MAX_HEADER: usize = 16 * 1024;

/// An LFS server.
pub(super) struct Server {
    url: Url,
    login: HeaderMap,
}

/// The API's answer, as far as it is needed.
#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    transfer: Option<String>,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: BTreeMap<String, Action>,
    #[serde(default)]
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    code: u16,
    message: String,
}

/// Where to go, with which headers.
#[derive(Deserialize)]
pub(super) struct Action {
    pub(super) href: String,
    #[serde(default)]
    pub(super) header: BTreeMap<String, String>,
}

/// Whether a repository's address is one of the web's.
pub(super) fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// Whether two addresses are of one server.
pub(super) fn same_origin(one: &str, other: &Url) -> bool {
    Url::parse(one).is_ok_and(|one| one.origin() == other.origin())
}

impl Server {
    /// A server by its own address.
    pub(super) fn named(url: &str) -> anyhow::Result<Self> {
        let url = Url::parse(url).with_context(|| format!("`{url}` is no address"))?;
        ensure!(matches!(url.scheme(), "https" | "http"), "`{url}` is no https:// address");
        Ok(Self { url, login: HeaderMap::new() })
    }

    /// The server beside a repository: `…/team/car.git/info/lfs`.
    pub(super) fn beside(repository: &str) -> anyhow::Result<Self> {
        let repository = repository.trim_end_matches('/');
        let repository = repository.strip_suffix(".git").unwrap_or(repository);
        Self::named(&format!("{repository}.git/info/lfs"))
    }

    /// A server that another channel named, with the headers that it wants.
    pub(super) fn told(action: &Action) -> anyhow::Result<Self> {
        let server = Self::named(&action.href)?;
        Ok(Self { login: headers(&action.header)?, ..server })
    }

    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    /// With the clone's login, unless it has one.
    pub(super) fn with_login(mut self, authorization: Option<&str>) -> Self {
        let value = authorization.and_then(|value| HeaderValue::from_str(value).ok());
        if let Some(mut value) = value.filter(|_| !self.login.contains_key(AUTHORIZATION)) {
            value.set_sensitive(true);
            self.login.insert(AUTHORIZATION, value);
        }
        self
    }

    /// Asks where the object is, and takes it from there.
    pub(super) async fn download(&self, pointer: &Pointer, file: &Path) -> anyhow::Result<()> {
        let work = self.fetch(pointer, file);
        let ended = tokio::time::timeout(TIMEOUT, work).await;
        ended.with_context(|| format!("{} took longer than {} s", self.url, TIMEOUT.as_secs()))?
    }

    async fn fetch(&self, pointer: &Pointer, file: &Path) -> anyhow::Result<()> {
        let client = self.client()?;
        let action = self.ask(&client, pointer).await?;
        let href = Url::parse(&action.href).context("the server names no address to load from")?;
        ensure!(self.may_go(&href), "the server names {}, which is not https", shown(&href));
        let mut wanted = headers(&action.header)?;
        // An object on the server itself is as private as the server.
        if href.origin() == self.url.origin() && !wanted.contains_key(AUTHORIZATION) {
            wanted.extend(self.login.clone());
        }
        let answer = client.get(href.clone()).headers(wanted).send().await?;
        let status = answer.status();
        if !status.is_success() {
            // A server that is overloaded may be better later.
            answer.error_for_status_ref().map(drop).map_err(busy(status))?;
            bail!("{} answered {status}", shown(&href));
        }
        let mut out = Incoming::new(file, pointer)?;
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            out.take(&piece?)?;
        }
        out.finish()
    }

    /// Where the object is.
    async fn ask(&self, client: &Client, pointer: &Pointer) -> anyhow::Result<Action> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("{} is no address", self.url))?
            .pop_if_empty()
            .extend(["objects", "batch"]);
        let question = serde_json::json!({
            "operation": "download", "transfers": ["basic"], "hash_algo": "sha256",
            "objects": [{ "oid": pointer.oid.hex(), "size": pointer.size }],
        });
        let request = client.post(url.clone()).headers(self.login.clone());
        let request = request.header(ACCEPT, JSON).header(CONTENT_TYPE, JSON);
        let answer = request.body(question.to_string()).send().await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                bail!("{url} wants other credentials than the clone has ({})", answer.status())
            }
            StatusCode::NOT_FOUND => bail!("{url} answered 404: there is no LFS server"),
            status => {
                answer.error_for_status_ref().map(drop).map_err(busy(status))?;
                bail!("{url} answered {status}")
            }
        }
        let body = bounded(answer).await?;
        let batch: Batch = serde_json::from_slice(&body)
            .with_context(|| format!("{url}: no answer of Git LFS"))?;
        ensure!(
            batch.transfer.as_deref().unwrap_or("basic") == "basic",
            "{url} wants another transfer than `basic`"
        );
        let hex = pointer.oid.hex();
        let object = batch.objects.into_iter().find(|object| object.oid == hex);
        let mut object = object.with_context(|| format!("{url} says nothing of it"))?;
        if let Some(Fault { code, message }) = object.error {
            let message: String = message.chars().filter(|c| !c.is_control()).take(300).collect();
            bail!("{url} has it not: {message} ({code})");
        }
        object.actions.remove("download").with_context(|| format!("{url} names no download"))
    }

    fn client(&self) -> anyhow::Result<Client> {
        let plain = self.url.scheme() == "http";
        let redirects = Policy::custom(move |attempt| {
            let safe = plain || attempt.url().scheme() == "https";
            match safe && attempt.previous().len() <= MAX_REDIRECTS {
                true => attempt.follow(),
                false => attempt.stop(),
            }
        });
        let builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirects)
            .user_agent(concat!("pitlane/", env!("CARGO_PKG_VERSION")));
        // Certificates are only read when there is something to verify.
        let builder = if plain { builder.tls_certs_only([]).no_proxy() } else { builder };
        Ok(builder.build()?)
    }

    /// From a server with TLS nothing leads to one without.
    fn may_go(&self, href: &Url) -> bool {
        href.scheme() == "https" || (href.scheme() == "http" && self.url.scheme() == "http")
    }
}

/// Headers that a server asks for; none that would change what a request is.
fn headers(wanted: &BTreeMap<String, String>) -> anyhow::Result<HeaderMap> {
    ensure!(wanted.len() <= MAX_HEADERS, "the server wants {} headers", wanted.len());
    let mut headers = HeaderMap::new();
    for (name, value) in wanted {
        ensure!(value.len() <= MAX_HEADER, "the server wants a header of {} bytes", value.len());
        let name = HeaderName::try_from(name).context("the server wants a header that is none")?;
        let mut value =
            HeaderValue::try_from(value).context("the server wants a header that is none")?;
        value.set_sensitive(true);
        let ours = ["host", "content-length", "transfer-encoding", "connection", "range"];
        if !ours.contains(&name.as_str()) {
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// An address without its query: signed addresses hold their key there.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// What may pass keeps its type, by which it is known; what will not is told in words.
fn busy(status: StatusCode) -> impl FnOnce(reqwest::Error) -> anyhow::Error {
    move |error| match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        true => anyhow::Error::new(error.without_url()),
        false => anyhow::anyhow!("the server answered {status}"),
    }
}

async fn bounded(answer: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece?);
        ensure!(body.len() <= MAX_ANSWER, "an answer of more than {MAX_ANSWER} bytes");
    }
    Ok(body)
}
