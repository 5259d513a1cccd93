//! Garbage collection, while the registry serves.
//!
//! First everything is looked at, then removed in small groups, each alone behind the gate and
//! judged again by what clients named meanwhile: manifests that nothing reaches (where that is
//! asked for), then the repositories' claims on blobs, then the blobs. Whenever it is cut short,
//! what is left is whole, and the next collection goes on.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use pitlane_release::digest::Digest;
use serde::Serialize;

use super::{
    Registry, RegistryError,
    disk::{flush, if_exists},
    gate::Collecting,
    links::Links,
    names::{Repo, Tag},
    reach::{Graph, Node, Reached},
    removal,
    store::lately,
};

/// Removals while everybody else waits: some milliseconds.
const BATCH: usize = 32;

/// How to collect.
#[derive(Clone, Debug)]
pub struct CollectOptions {
    /// What was put, or asked for by who may push, less long ago than this stays. A push that takes
    /// longer from its first question to its manifest may find a blob gone, and is told so.
    pub grace: Duration,
    /// Manifests without a tag that nothing reaches go after this time; none do without it.
    pub untagged: Option<Duration>,
    /// Only say what would go.
    pub dry_run: bool,
}

impl Default for CollectOptions {
    /// A day of grace; every manifest stays.
    fn default() -> Self {
        Self { grace: Duration::from_hours(24), untagged: None, dry_run: false }
    }
}

/// Who says what must stay, besides what has a tag.
pub trait Keep: Send + Sync {
    /// Digests of manifests or blobs that somebody may still need, in whatever repository: they
    /// stay with all that they name and all that refers to them. An error means that nothing is
    /// removed.
    fn kept(&self) -> anyhow::Result<HashSet<Digest>>;
}

impl<F: Fn() -> anyhow::Result<HashSet<Digest>> + Send + Sync> Keep for F {
    fn kept(&self) -> anyhow::Result<HashSet<Digest>> {
        self()
    }
}

/// What a collection removed, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Manifests.
    pub manifests: u64,
    /// Blobs, those of manifests among them.
    pub blobs: u64,
    /// Bytes of these blobs.
    pub bytes: u64,
}

/// One repository.
struct Place {
    repo: Repo,
    graph: Graph,
    reached: Reached,
}

/// One collection under way.
struct Run<'a> {
    registry: &'a Registry,
    options: &'a CollectOptions,
    collecting: Collecting<'a>,
    kept: HashSet<Digest>,
    /// How many of the noted digests are among the reached ones.
    seen: usize,
    places: Vec<Place>,
    result: Collected,
}

impl Registry {
    /// Collects garbage; blocks its thread until that is done. Requests go on meanwhile.
    ///
    /// # Errors
    /// `Collecting`, `Kept` and `Unreadable`: nothing was removed. `Io`: it may be half done, and
    /// the next collection goes on.
    pub fn collect(
        &self,
        options: &CollectOptions,
        keep: &dyn Keep,
    ) -> Result<Collected, RegistryError> {
        let collecting = self.gate.begin().ok_or(RegistryError::Collecting)?;
        let kept = keep.kept().map_err(|error| RegistryError::Kept(format!("{error:#}")))?;
        // Pushes that began before the noting have ended after this.
        drop(self.gate.alone());
        let mut run = Run {
            registry: self,
            options,
            collecting,
            kept,
            seen: 0,
            places: Vec::new(),
            result: Collected::default(),
        };
        for repo in self.links.places().map_err(self.failed("list"))? {
            let place = run.look(repo)?;
            run.places.push(place);
        }
        run.manifests()?;
        run.claims().map_err(self.failed("remove links in"))?;
        run.blobs().map_err(self.failed("remove blobs in"))?;
        let Collected { manifests, blobs, bytes } = run.result;
        let dry_run = options.dry_run;
        tracing::info!(manifests, blobs, bytes, dry_run, "registry collected garbage");
        Ok(run.result)
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(std::io::Error) -> RegistryError {
        RegistryError::io(what, self.store.root())
    }
}

impl Run<'_> {
    fn links(&self) -> &Links {
        &self.registry.links
    }

    /// Reads all manifests of a repository.
    fn look(&self, repo: Repo) -> Result<Place, RegistryError> {
        let failed = |error| RegistryError::io("read links in", self.registry.store.root())(error);
        let links = self.links();
        let mut tagged = HashSet::new();
        for tag in links.tags(&repo).map_err(failed)?.iter().filter_map(|tag| Tag::parse(tag).ok())
        {
            tagged.extend(links.tag(&repo, &tag).map_err(failed)?);
        }
        let young = self.options.untagged.map(|untagged| untagged.max(self.options.grace));
        let mut graph = Graph::default();
        for digest in links.manifests(&repo).map_err(failed)? {
            let Some(parsed) = self.registry.parsed(&repo, &digest).map_err(failed)? else {
                if links.manifest(&repo, &digest).map_err(failed)?.is_none() {
                    continue;
                }
                return Err(RegistryError::Unreadable { repository: repo.to_string(), digest });
            };
            let root = match young {
                None => true,
                Some(_) if tagged.contains(&digest) => true,
                Some(young) => {
                    lately(&links.manifest_path(&repo, &digest), young).map_err(failed)?
                }
            };
            let digests = |list: Vec<(Digest, u64)>| list.into_iter().map(|(d, _)| d).collect();
            let (children, blobs) = (digests(parsed.children), digests(parsed.blobs));
            graph.add(digest, Node { children, blobs, subject: parsed.subject, root });
        }
        let reached = graph.reach(&self.kept);
        Ok(Place { repo, graph, reached })
    }

    /// Takes in what clients named since the last look. For who holds the gate alone.
    fn catch_up(&mut self) {
        let Some(mut stays) = self.collecting.news(self.seen) else { return };
        self.seen = stays.len();
        stays.extend(&self.kept);
        for place in &mut self.places {
            place.reached = place.graph.reach(&stays);
        }
    }

    fn manifests(&mut self) -> Result<(), RegistryError> {
        let registry = self.registry;
        for at in 0..self.places.len() {
            let doomed = self.places[at].graph.doomed(&self.places[at].reached);
            for batch in doomed.chunks(BATCH) {
                let _alone = registry.gate.alone();
                self.catch_up();
                for digest in batch {
                    let Place { repo, reached, .. } = &self.places[at];
                    if reached.manifests.contains(digest) || self.collecting.has(digest) {
                        continue;
                    }
                    let failed = registry.failed("remove links in");
                    let Some(link) = self.links().manifest(repo, digest).map_err(failed)? else {
                        continue;
                    };
                    if !self.options.dry_run {
                        removal::remove(registry, repo, &link)
                            .map_err(registry.failed("remove a manifest in"))?;
                        registry.layout.touch();
                    }
                    self.result.manifests += 1;
                }
            }
        }
        Ok(())
    }

    /// Repositories let go of blobs that none of their manifests needs.
    fn claims(&mut self) -> std::io::Result<()> {
        let registry = self.registry;
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        for at in 0..self.places.len() {
            for batch in self.links().blobs(&self.places[at].repo)?.chunks(BATCH) {
                let _alone = registry.gate.alone();
                self.catch_up();
                let Place { repo, reached, .. } = &self.places[at];
                for digest in batch {
                    let path = self.links().blob_path(repo, digest);
                    if reached.blobs.contains(digest)
                        || self.collecting.has(digest)
                        || lately(&path, self.options.grace)?
                        || self.options.dry_run
                    {
                        continue;
                    }
                    if_exists(fs::remove_file(&path))?;
                    let size = registry.store.size(digest)?.unwrap_or(0);
                    registry.shares.of(repo).release(size);
                    folders.extend(path.parent().map(PathBuf::from));
                }
            }
        }
        folders.iter().try_for_each(|folder| flush(folder))
    }

    fn blobs(&mut self) -> std::io::Result<()> {
        let registry = self.registry;
        let mut held: HashSet<Digest> = HashSet::new();
        for repo in self.links().places()? {
            held.extend(self.links().manifests(&repo)?);
            if !self.options.dry_run {
                held.extend(self.links().blobs(&repo)?);
            }
        }
        for batch in registry.store.digests()?.chunks(BATCH) {
            let _alone = registry.gate.alone();
            self.catch_up();
            for digest in batch {
                let needed = |place: &Place| {
                    place.reached.blobs.contains(digest) || place.reached.manifests.contains(digest)
                };
                let doomed = self.options.dry_run && self.goes(digest);
                if (held.contains(digest) && !doomed)
                    || self.kept.contains(digest)
                    || self.collecting.has(digest)
                    || self.places.iter().any(needed)
                    || registry.store.lately(digest, self.options.grace)?
                {
                    continue;
                }
                let size = registry.store.size(digest)?.unwrap_or(0);
                if self.options.dry_run || registry.store.remove(digest)? {
                    self.result.blobs += 1;
                    self.result.bytes += size;
                }
            }
        }
        flush(&registry.store.root().join("blobs/sha256"))
    }

    /// Whether a manifest's bytes would go with it, for who only wants to know.
    fn goes(&self, digest: &Digest) -> bool {
        let mut holders = self.places.iter().filter(|p| p.graph.manifests().any(|m| m == digest));
        holders.all(|place| !place.reached.manifests.contains(digest))
    }
}
