//! Lists: tags, repositories, and what refers to a manifest. All sorted, all in pages.

use std::{io, sync::Arc};

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use pitlane_release::digest::Digest;
use serde_json::json;

use super::{
    Registry,
    error::ApiError,
    names::{Repo, shown},
    routes::{self, Ask},
    store::blocking,
};

/// Longest page of names, also when the client asks for no pages: 128 bytes a tag.
const MAX_NAMES: usize = 10_000;
/// Longest page of referrers.
const MAX_REFERRERS: usize = 1000;
/// A page of referrers ends here even when it is short: annotations have no limit of their own.
const MAX_REFERRER_BYTES: usize = 4 * 1024 * 1024;

/// GET tags/list.
pub(super) async fn tags(
    registry: Arc<Registry>,
    repo: Repo,
    ask: &Ask,
) -> Result<Response, ApiError> {
    let page = Page::of(ask)?;
    let name = repo.clone();
    let all = blocking(move || {
        let all = registry.links.tags(&name).map_err(|e| failed(&e))?;
        if all.is_empty() && !registry.links.exists(&name) {
            return Err(ApiError::name_unknown(name.as_str()));
        }
        Ok(all)
    });
    let (tags, more) = page.cut(all.await?);
    let link = more.then(|| page.link(&format!("/v2/{repo}/tags/list"), tags.last())).flatten();
    Ok(answer(&json!({ "name": repo.as_str(), "tags": tags }), link))
}

/// GET _catalog.
pub(super) async fn catalog(registry: Arc<Registry>, ask: &Ask) -> Result<Response, ApiError> {
    let page = Page::of(ask)?;
    let caller = ask.caller.clone();
    let all = blocking(move || {
        let mut all = registry.links.repositories().map_err(|e| failed(&e))?;
        all.retain(|repo| registry.auth.pulls(&caller, repo));
        Ok(all)
    });
    let all = all.await?.into_iter().map(|repo| repo.as_str().to_owned()).collect();
    let (names, more) = page.cut(all);
    let link = more.then(|| page.link("/v2/_catalog", names.last())).flatten();
    Ok(answer(&json!({ "repositories": names }), link))
}

/// GET referrers: an index of what speaks of a manifest; empty when nothing does.
pub(super) async fn referrers(
    registry: Arc<Registry>,
    repo: Repo,
    subject: Digest,
    ask: &Ask,
) -> Result<Response, ApiError> {
    let filter = ask.query("artifactType").filter(|t| !t.is_empty()).map(str::to_owned);
    let filtered = filter.is_some();
    let last = ask.query("last").map(super::names::parse_digest).transpose()?;
    let name = repo.clone();
    let wanted = filter.clone();
    let (entries, next) = blocking(move || {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut at = None;
        for digest in registry.links.referrers(&name, &subject).map_err(|e| failed(&e))? {
            if last.is_some_and(|last| digest <= last) {
                continue;
            }
            let Some(entry) =
                registry.links.referrer(&name, &subject, &digest).map_err(|e| failed(&e))?
            else {
                continue;
            };
            if wanted.as_ref().is_some_and(|w| entry.artifact_type.as_ref() != Some(w)) {
                continue;
            }
            // An entry is written before its manifest, and may be left alone by a crash.
            if registry.links.manifest(&name, &digest).map_err(|e| failed(&e))?.is_none() {
                continue;
            }
            let value = serde_json::to_value(&entry).map_err(|e| failed(&io::Error::other(e)))?;
            bytes += value.to_string().len();
            let full = entries.len() == MAX_REFERRERS || bytes > MAX_REFERRER_BYTES;
            // A page holds one entry at least, so that the next one is another.
            if full && !entries.is_empty() {
                return Ok((entries, at));
            }
            entries.push(value);
            at = Some(digest);
        }
        Ok((entries, None))
    })
    .await?;
    let link = next.map(|last| {
        let filter = filter.map(|t| format!("&artifactType={}", escape(&t))).unwrap_or_default();
        format!("</v2/{repo}/referrers/{subject}?last={last}{filter}>; rel=\"next\"")
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": pitlane_release::oci::INDEX,
        "manifests": entries,
    });
    let mut response = answer(&index, link);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(pitlane_release::oci::INDEX));
    if filtered {
        headers.insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

/// `n` and `last` of a list request.
struct Page {
    size: usize,
    last: Option<String>,
}

impl Page {
    fn of(ask: &Ask) -> Result<Self, ApiError> {
        let size = match ask.query("n") {
            None => MAX_NAMES,
            Some(text) => text.parse::<usize>().map(|n| n.min(MAX_NAMES)).map_err(|_| {
                ApiError::bad_query(format!("n=`{}` is not a number: ask for n=100", shown(text)))
            })?,
        };
        Ok(Self { size, last: ask.query("last").map(str::to_owned) })
    }

    /// The names after `last`, at most `size`, and whether more follow.
    fn cut(&self, mut names: Vec<String>) -> (Vec<String>, bool) {
        let start = self.last.as_ref().map_or(0, |last| names.partition_point(|name| name <= last));
        names.drain(..start);
        let more = names.len() > self.size;
        names.truncate(self.size);
        (names, more)
    }

    /// The next page; none after an empty one (`n=0`), which would be the same again.
    fn link(&self, path: &str, last: Option<&String>) -> Option<String> {
        last.map(|last| format!("<{path}?n={}&last={}>; rel=\"next\"", self.size, escape(last)))
    }
}

/// Percent-escapes a query value.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn answer(value: &serde_json::Value, link: Option<String>) -> Response {
    let mut response = routes::json(value);
    if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

fn failed(error: &io::Error) -> ApiError {
    ApiError::storage("list", error)
}
