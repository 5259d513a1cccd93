//! All tags of a repository, by conditional requests: a look that finds nothing new costs nothing
//! of the hour's requests.

use std::collections::{BTreeMap, HashMap, HashSet};

use pitlane_release::{Commit, ReleaseTag, RepoName};

use crate::{
    budget::Purpose,
    call::Call,
    client::Client,
    error::GithubError,
    permission::Need,
    reconcile::{Change, Decision, KnownTag, ListedTag, reconcile},
    tag::{Reference, Target},
};

/// Largest page (bytes). GitHub gives all refs at once, some 350 bytes each.
const PAGE: usize = 16 * 1024 * 1024;
/// Pages that are read. Only old enterprise servers have more than one.
const MOST_PAGES: usize = 50;
/// Tags that are looked at.
const MOST_TAGS: usize = 50_000;
/// Tag objects that one look follows to their commits; the next look does the rest.
const MOST_FOLLOWED: usize = 100;
/// Deletions that one look makes sure of.
const MOST_DELETED: usize = 50;

/// What is remembered of a repository between two looks. Keep one for each repository; it may be
/// thrown away at any time.
#[derive(Debug, Default)]
pub struct TagWatch {
    prefix: String,
    pages: Vec<Page>,
    /// Tag object → commit; objects never change.
    followed: HashMap<Commit, Commit>,
    /// Tag objects that lead to no commit: nothing can be released of them, ever.
    nowhere: HashSet<Commit>,
}

#[derive(Debug)]
struct Page {
    path: String,
    etag: Option<String>,
    next: Option<String>,
    tags: Vec<ListedTag>,
    skipped: usize,
}

/// The tags of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagList {
    /// Tags that can be release tags, as GitHub sorts them.
    pub tags: Vec<ListedTag>,
    /// Refs that cannot be release tags (a slash in the name, a blob behind it).
    pub skipped: usize,
    /// Whether these are all.
    pub complete: bool,
    /// Whether anything differs from the last look.
    pub changed: bool,
}

impl Client {
    /// Lists the tags whose names start with `prefix`; empty for all.
    pub async fn list_tags(
        &self,
        repository: &RepoName,
        prefix: &str,
        watch: &mut TagWatch,
    ) -> Result<TagList, GithubError> {
        let prefix: String = prefix
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
            .collect();
        if watch.prefix != prefix {
            *watch = TagWatch { prefix: prefix.clone(), ..TagWatch::default() };
        }
        let mut path = format!("/repos/{repository}/git/matching-refs/tags/{prefix}?per_page=100");
        let mut old = std::mem::take(&mut watch.pages).into_iter();
        let mut list = TagList { tags: Vec::new(), skipped: 0, complete: false, changed: false };
        for _ in 0..MOST_PAGES {
            let before = old.next().filter(|page| page.path == path);
            let (page, changed) = self.page(repository, &path, before).await?;
            list.changed |= changed;
            list.skipped += page.skipped;
            list.tags.extend(page.tags.iter().cloned());
            let next = page.next.clone();
            watch.pages.push(page);
            match next {
                None => {
                    list.complete = true;
                    break;
                }
                Some(_) if list.tags.len() >= MOST_TAGS => break,
                Some(next) => path = next,
            }
        }
        if list.tags.len() > MOST_TAGS {
            list.tags.truncate(MOST_TAGS);
            list.complete = false;
        }
        list.changed |= old.next().is_some();
        Ok(list)
    }

    async fn page(
        &self,
        repository: &RepoName,
        path: &str,
        before: Option<Page>,
    ) -> Result<(Page, bool), GithubError> {
        let call = Call::get(repository.as_str(), "list tags", path.to_owned(), Need::ReadContents);
        let etag = before.as_ref().and_then(|page| page.etag.clone());
        let call = Call { etag, limit: PAGE, purpose: Purpose::Poll, ..call };
        let raw = self.ask(&call).await?;
        if raw.status == 304 {
            let page = before.ok_or_else(|| call.unreadable("304 to a first question"))?;
            return Ok((page, false));
        }
        let next = raw.next().map(|next| self.inner().address.local(next)).transpose();
        let next = next.map_err(|reason| call.unreadable(reason))?;
        let references: Vec<Reference> = call.parse(&raw)?;
        let all = references.len();
        let tags: Vec<ListedTag> = references.into_iter().filter_map(listed).collect();
        let etag = raw.header("etag").map(str::to_owned);
        let page = Page { path: path.to_owned(), etag, next, skipped: all - tags.len(), tags };
        Ok((page, true))
    }

    /// Looks at a repository's tags and says what changed against what is known, for the tags
    /// that are `wanted`. `prefix` is what all of those start with.
    ///
    /// Commits of annotated tags are asked for, at most a hundred at a look; tags beyond stay
    /// [`open`](Decision::open). Those that lead to no commit are asked for once, and are not open.
    /// A tag that is missing from the list is asked for by its name before it counts as
    /// deleted, for lists shift while their pages are read.
    pub async fn look(
        &self,
        repository: &RepoName,
        prefix: &str,
        wanted: &(dyn Fn(&ReleaseTag) -> bool + Sync),
        known: &BTreeMap<ReleaseTag, KnownTag>,
        watch: &mut TagWatch,
    ) -> Result<Decision, GithubError> {
        let mut list = self.list_tags(repository, prefix, watch).await?;
        list.tags.retain(|one| !watch.nowhere.contains(&one.held));
        fill(&mut list.tags, &watch.followed);
        let first = reconcile(known, &list.tags, wanted, list.complete);
        for tag in first.open.iter().take(MOST_FOLLOWED) {
            let held = list.tags.iter().find(|one| one.tag == *tag).map(|one| one.held.clone());
            let Some(held) = held else { continue };
            let asked = format!("follow the tag {tag}");
            let target = Target { sha: held.clone(), kind: "tag".to_owned() };
            match self.follow(repository, &asked, target, Purpose::Poll).await {
                Ok((_, commit)) => {
                    watch.followed.insert(held, commit);
                }
                // It was deleted meanwhile, or leads to no commit: it cannot be released.
                Err(error) if leads_nowhere(&error) => {
                    tracing::warn!(%error, %tag, "a tag leads to no commit: never released");
                    watch.nowhere.insert(held);
                }
                Err(error) => return Err(error),
            }
        }
        // What no tag names any more need not be remembered.
        let held: HashSet<&Commit> = list.tags.iter().map(|one| &one.held).collect();
        watch.followed.retain(|object, _| held.contains(object));
        list.tags.retain(|one| !watch.nowhere.contains(&one.held));
        fill(&mut list.tags, &watch.followed);
        let mut decision = reconcile(known, &list.tags, wanted, list.complete);
        let mut sure = Vec::new();
        let mut asked = 0;
        for change in decision.changes {
            if matches!(change, Change::Deleted { .. }) {
                asked += 1;
                if asked > MOST_DELETED || !self.is_gone(repository, change.tag()).await? {
                    continue;
                }
            }
            sure.push(change);
        }
        decision.changes = sure;
        Ok(decision)
    }

    async fn is_gone(&self, repository: &RepoName, tag: &ReleaseTag) -> Result<bool, GithubError> {
        let asked = format!("see whether the tag {tag} is gone");
        let path = format!("/repos/{repository}/git/ref/tags/{tag}");
        let call = Call::get(repository.as_str(), &asked, path, Need::ReadContents);
        match self.ask(&Call { purpose: Purpose::Poll, ..call }).await {
            Ok(_) => Ok(false),
            Err(error) if error.status() == Some(404) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Whether an error is about the tag, and not about who asks.
fn leads_nowhere(error: &GithubError) -> bool {
    !error.may_pass() && error.status().is_none_or(|status| matches!(status, 404 | 410 | 422))
}

fn listed(reference: Reference) -> Option<ListedTag> {
    let tag = reference.name.strip_prefix("refs/tags/")?.parse().ok()?;
    let annotated = match reference.object.kind.as_str() {
        "tag" => true,
        "commit" => false,
        _ => return None,
    };
    let held = reference.object.sha;
    let commit = (!annotated).then(|| held.clone());
    Some(ListedTag { tag, held, annotated, commit })
}

fn fill(tags: &mut [ListedTag], followed: &HashMap<Commit, Commit>) {
    for one in tags.iter_mut().filter(|one| one.commit.is_none()) {
        one.commit = followed.get(&one.held).cloned();
    }
}
