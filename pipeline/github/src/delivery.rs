//! What GitHub delivered to a hook, or failed to, and delivering it again.

use std::collections::BTreeMap;

use http::Method;
use jiff::Timestamp;
use pitlane_release::RepoName;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    budget::Purpose,
    call::Call,
    client::Client,
    error::{GithubError, tame},
    permission::Need,
};

/// Largest delivery (bytes): GitHub's payloads are up to 25 MiB, here as JSON in JSON.
const LARGEST: usize = 32 * 1024 * 1024;
/// Pages of a hundred that are read. GitHub keeps three days.
const MOST_PAGES: usize = 20;
/// Hooks that a repository can have are twenty for an event; this is a page.
const HOOKS: usize = 100;

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A repository's own.
    Repository {
        /// Whose.
        repository: RepoName,
        /// Its number: [`Client::find_hook`].
        id: u64,
    },
    /// The App's, which hears of all its repositories.
    App,
}

/// A delivery, as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Delivery {
    /// Its number.
    pub id: u64,
    /// What `X-GitHub-Delivery` said; the same when it is delivered again.
    pub guid: String,
    /// When.
    pub delivered_at: Timestamp,
    /// Whether somebody asked for it.
    #[serde(default)]
    pub redelivery: bool,
    /// The receiver's answer in words.
    #[serde(default)]
    pub status: String,
    /// The receiver's answer; 0 or 5xx where there was none.
    #[serde(default)]
    pub status_code: u16,
    /// What `X-GitHub-Event` said.
    #[serde(default)]
    pub event: String,
    /// The repository's number, where it is about one.
    #[serde(default)]
    pub repository_id: Option<u64>,
}

impl Delivery {
    /// Whether the receiver took it.
    pub fn arrived(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

/// What was delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    /// The delivery.
    pub delivery: Delivery,
    /// The payload. It came over TLS from GitHub, and is not byte for byte what was signed.
    pub payload: Value,
}

#[derive(Deserialize)]
struct Whole {
    #[serde(flatten)]
    delivery: Delivery,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    payload: Value,
}

#[derive(Deserialize)]
struct HookShown {
    id: u64,
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    url: Option<String>,
}

/// The deliveries of an event that never arrived, newest first: one for each GUID of which no
/// attempt was taken.
pub fn undelivered<'a>(deliveries: &'a [Delivery], event: &str) -> Vec<&'a Delivery> {
    let mut by_guid = BTreeMap::<&str, (bool, &Delivery)>::new();
    for one in deliveries.iter().filter(|one| one.event == event) {
        let entry = by_guid.entry(&one.guid).or_insert((false, one));
        entry.0 |= one.arrived();
        if one.id > entry.1.id {
            entry.1 = one;
        }
    }
    let mut missed: Vec<&Delivery> =
        by_guid.into_values().filter(|(arrived, _)| !arrived).map(|(_, one)| one).collect();
    missed.sort_by_key(|one| std::cmp::Reverse((one.delivered_at, one.id)));
    missed
}

impl Hook {
    fn call<'a>(&'a self, asked: &'a str, tail: &str, write: bool) -> Call<'a> {
        let need = if write { Need::WriteHooks } else { Need::ReadHooks };
        match self {
            Self::Repository { repository, id } => {
                let path = format!("/repos/{repository}/hooks/{id}/deliveries{tail}");
                Call::get(repository.as_str(), asked, path, need)
            }
            Self::App => Call::get("", asked, format!("/app/hook/deliveries{tail}"), Need::App),
        }
    }
}

impl Client {
    /// The number of the repository's hook that delivers to `url`.
    pub async fn find_hook(
        &self,
        repository: &RepoName,
        url: &str,
    ) -> Result<Option<u64>, GithubError> {
        let path = format!("/repos/{repository}/hooks?per_page={HOOKS}");
        let call = Call::get(repository.as_str(), "list hooks", path, Need::ReadHooks);
        let call = Call { purpose: Purpose::Poll, ..call };
        let hooks: Vec<HookShown> = call.parse(&self.ask(&call).await?)?;
        let same = |hook: &&HookShown| hook.config.url.as_deref() == Some(url);
        Ok(hooks.iter().find(same).map(|hook| hook.id))
    }

    /// The deliveries of a hook since a moment, newest first.
    pub async fn deliveries(
        &self,
        hook: &Hook,
        since: Timestamp,
    ) -> Result<Vec<Delivery>, GithubError> {
        let mut found = Vec::new();
        let mut call = hook.call("list deliveries", "?per_page=100", false);
        call.purpose = Purpose::Poll;
        for _ in 0..MOST_PAGES {
            let raw = self.ask(&call).await?;
            let page: Vec<Delivery> = call.parse(&raw)?;
            let before = found.len();
            let listed = page.len();
            found.extend(page.into_iter().filter(|one| one.delivered_at >= since));
            let older = found.len() - before < listed;
            match raw.next() {
                Some(next) if !older => {
                    let next = self.inner().address.local(next);
                    call.path = next.map_err(|reason| call.unreadable(reason))?;
                }
                _ => break,
            }
        }
        Ok(found)
    }

    /// One delivery with its payload.
    pub async fn delivery(&self, hook: &Hook, id: u64) -> Result<Delivered, GithubError> {
        let asked = format!("read the delivery {id}");
        let call = hook.call(&asked, &format!("/{id}"), false);
        let call = Call { limit: LARGEST, ..call };
        let whole: Whole = call.parse(&self.ask(&call).await?)?;
        if whole.delivery.id != id {
            return Err(call.unreadable(format!("it is about the delivery {}", whole.delivery.id)));
        }
        let payload = match whole.request.payload {
            // Some servers give the body of a form as a text.
            Value::String(text) => serde_json::from_str(&text)
                .map_err(|error| call.unreadable(tame(&error.to_string())))?,
            payload => payload,
        };
        Ok(Delivered { delivery: whole.delivery, payload })
    }

    /// Asks for a delivery again, under its old GUID. It comes by itself, later.
    pub async fn redeliver(&self, hook: &Hook, id: u64) -> Result<(), GithubError> {
        let asked = format!("deliver {id} again");
        let call = hook.call(&asked, &format!("/{id}/attempts"), true);
        self.ask(&call.write(Method::POST, json!({}))).await?;
        Ok(())
    }
}
