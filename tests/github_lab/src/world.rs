//! Everything that the lab knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    auth::{App, Issued},
    fault::Rule,
    git::Objects,
    hook::{Delivery, Hook, Outgoing},
    limit::Limits,
};

/// A repository with what GitHub keeps beside it.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) id: u64,
    pub(crate) full_name: String,
    pub(crate) private: bool,
    pub(crate) git: Objects,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) checks: Vec<Value>,
    /// Check run → its annotations.
    pub(crate) annotations: BTreeMap<u64, Vec<Value>>,
    /// With `sha`, oldest first.
    pub(crate) statuses: Vec<Value>,
    pub(crate) deployments: Vec<Value>,
    /// Deployment → its statuses, oldest first.
    pub(crate) deployment_statuses: BTreeMap<u64, Vec<Value>>,
    pub(crate) releases: Vec<Value>,
    /// Oldest first.
    pub(crate) pulls: Vec<Value>,
    /// Old `owner/name`s that lead here.
    pub(crate) renamed_from: BTreeSet<String>,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Method.
    pub method: String,
    /// Path without the enterprise server's base, with the query.
    pub path: String,
    /// Status of the answer; 0 when there was none.
    pub status: u16,
    /// Whether it counted against the primary limit.
    pub cost: bool,
    /// `x-github-api-version` of the request.
    pub api_version: String,
}

/// All state.
#[derive(Debug)]
pub(crate) struct World {
    /// `http://127.0.0.1:PORT`.
    pub(crate) base: String,
    /// Bare repositories, in folders `OWNER/NAME.git`.
    pub(crate) folder: PathBuf,
    /// How much the lab's clock is ahead (s).
    pub(crate) ahead: i64,
    last_id: u64,
    /// By lower-case name.
    pub(crate) repositories: BTreeMap<String, Repository>,
    pub(crate) apps: Vec<App>,
    pub(crate) app_hook: Option<Hook>,
    pub(crate) tokens: BTreeMap<String, Issued>,
    /// How long installation tokens live.
    pub(crate) token_life: Duration,
    pub(crate) limits: Limits,
    pub(crate) rules: Vec<Rule>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) outbox: Vec<Outgoing>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Whether refs are listed in pages, as old enterprise servers do.
    pub(crate) paged_refs: bool,
    /// Whether annotated tags' objects are answered with one that never ends.
    pub(crate) endless_tags: bool,
}

impl World {
    pub(crate) fn new(base: String, folder: PathBuf) -> Self {
        Self {
            base,
            folder,
            ahead: 0,
            last_id: 1000,
            repositories: BTreeMap::new(),
            apps: Vec::new(),
            app_hook: None,
            tokens: BTreeMap::new(),
            token_life: Duration::from_hours(1),
            limits: Limits::default(),
            rules: Vec::new(),
            asked: Vec::new(),
            outbox: Vec::new(),
            deliveries: Vec::new(),
            paged_refs: false,
            endless_tags: false,
        }
    }

    /// A number that was not given before.
    pub(crate) fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Seconds since 1970, by the lab's clock.
    pub(crate) fn now(&self) -> i64 {
        Timestamp::now().as_second() + self.ahead
    }

    pub(crate) fn add(&mut self, full_name: &str, private: bool) -> anyhow::Result<()> {
        let git = Objects::new(&self.folder.join(format!("{}.git", full_name.to_lowercase())))?;
        let repository = Repository {
            id: self.id(),
            full_name: full_name.to_owned(),
            private,
            git,
            hooks: Vec::new(),
            checks: Vec::new(),
            annotations: BTreeMap::new(),
            statuses: Vec::new(),
            deployments: Vec::new(),
            deployment_statuses: BTreeMap::new(),
            releases: Vec::new(),
            pulls: Vec::new(),
            renamed_from: BTreeSet::new(),
        };
        self.repositories.insert(full_name.to_lowercase(), repository);
        Ok(())
    }

    pub(crate) fn repository(&mut self, full_name: &str) -> anyhow::Result<&mut Repository> {
        self.repositories
            .get_mut(&full_name.to_lowercase())
            .with_context(|| format!("the lab has no repository {full_name}"))
    }
}

/// RFC 3339 in UTC, to the second.
pub(crate) fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}
