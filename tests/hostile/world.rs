//! What must not change: a running service with one good release, seen from outside.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use serde_json::Value;

use super::{Answer, Table};
use crate::common::{http, lane::Lane, store, until};

/// What tells a file from another: the digest of a small one, which may be written anew with the
/// same content; size, time of change (ns) and inode of a large one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum File {
    Small(String),
    Large(u64, i64, u64),
}

/// Up to here a file is small (bytes).
const SMALL: u64 = 64 * 1024;

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Run → its state, counter and tag.
    runs: BTreeMap<String, String>,
    /// Tag in the registry → digest.
    tags: BTreeMap<String, String>,
    /// The head of the GitOps branch.
    gitops: String,
    /// Files of the state folder (the registry's blobs and links are among them), the database and
    /// the folders of runs aside.
    files: BTreeMap<String, File>,
    /// Folders of runs.
    works: BTreeSet<String>,
}

impl Snapshot {
    pub(super) fn take(lane: &Lane) -> Self {
        let listed = lane.api("/runs?limit=200").expect("the API answers");
        let runs = listed["runs"].as_array().unwrap().iter().map(|run| {
            let said = format!("{} {} {}", run["tag"], run["counter"], run["state"]);
            (run["id"].as_str().unwrap().to_owned(), said)
        });
        let path = "/v2/team/donkeycar/tags/list?n=9999";
        let tags = http::get(&lane.registry, path).expect("the registry answers").json();
        let tags = tags["tags"].as_array().cloned().unwrap_or_default();
        let tags = tags.iter().map(|tag| {
            let tag = tag.as_str().unwrap();
            (tag.to_owned(), store::digest(&tag_bytes(lane, tag)))
        });
        let mut files = BTreeMap::new();
        let mut works = BTreeSet::new();
        let state = lane.path("state");
        for entry in fs::read_dir(&state).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            match name.as_str() {
                "runs" => works.extend(names(&entry.path())),
                // Repositories are the attackers' own.
                "git" => {}
                name if name.starts_with("pitlane.sqlite") => {}
                _ => walk(&entry.path(), &state, &mut files),
            }
        }
        Self {
            runs: runs.collect(),
            tags: tags.collect(),
            gitops: lane.git(&lane.bare("gitops"), &["rev-parse", "main"]),
            files,
            works,
        }
    }

    /// What differs from an earlier one, but for this run, which failed, and its folder.
    pub(super) fn changed(&self, before: &Self, failed: Option<&str>) -> Vec<String> {
        let mut now = self.clone();
        if let Some(run) = failed {
            let state = now.runs.remove(run);
            if !state.as_deref().is_some_and(|state| state.ends_with("\"failed\"")) {
                return vec![format!("run {run} is {state:?}")];
            }
            now.works.remove(run);
        }
        let mut changed = Vec::new();
        differ("run", &before.runs, &now.runs, &mut changed);
        differ("tag", &before.tags, &now.tags, &mut changed);
        differ("file", &before.files, &now.files, &mut changed);
        let works = before.works.symmetric_difference(&now.works);
        changed.extend(works.map(|work| format!("folder of run {work}")));
        if before.gitops != now.gitops {
            changed.push(format!("GitOps {} became {}", before.gitops, now.gitops));
        }
        changed
    }
}

fn differ<T: PartialEq + std::fmt::Debug>(
    what: &str,
    before: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
    changed: &mut Vec<String>,
) {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for name in names.into_iter().filter(|name| before.get(*name) != now.get(*name)) {
        let (old, new) = (before.get(name), now.get(name));
        changed.push(format!("{what} {name}: {old:?} became {new:?}"));
    }
}

fn tag_bytes(lane: &Lane, tag: &str) -> Vec<u8> {
    let accept = "application/vnd.oci.image.index.v1+json, \
                  application/vnd.oci.image.manifest.v1+json";
    let path = format!("/v2/team/donkeycar/manifests/{tag}");
    http::send("GET", &lane.registry, &path, &[("Accept", accept)], b"").unwrap().body
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn walk(path: &Path, root: &Path, files: &mut BTreeMap<String, File>) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        for name in names(path) {
            walk(&path.join(name), root, files);
        }
        return;
    }
    let changed = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
    let name = path.strip_prefix(root).unwrap().display().to_string();
    let file = match meta.is_file() && meta.len() <= SMALL {
        true => File::Small(store::digest(&fs::read(path).unwrap())),
        false => File::Large(meta.len(), changed, meta.ino()),
    };
    files.insert(name, file);
}

/// A service with one release, and the way into it that bad input takes.
pub(super) struct World {
    pub(super) lane: Lane,
    /// The good release, by digest.
    pub(super) image: String,
    pub(super) secret: String,
    /// What was there after the last input: what changes late is found at the next one.
    last: RefCell<Snapshot>,
}

impl World {
    pub(super) fn new() -> Self {
        let lane = Lane::quick();
        let image = lane.release("v1.0.0");
        // The registry writes its list of tags some time after them.
        let index = lane.path("state/registry/index.json");
        let listed = || fs::read_to_string(&index).is_ok_and(|text| text.contains("v1.0.0"));
        until(30, "the registry's list is written", || listed().then_some(()));
        // Tags are told of by hand from here on.
        fs::remove_file(lane.bare("donkeycar").join("hooks/post-receive")).unwrap();
        let secret = fs::read_to_string(lane.path("state/webhook-secret")).unwrap();
        let last = RefCell::new(Snapshot::take(&lane));
        Self { lane, image, secret: secret.trim().to_owned(), last }
    }

    /// Says in the table what differs from before, but for a run that failed.
    fn compare(&self, table: &mut Table, what: &str, failed: Option<&str>) {
        let now = Snapshot::take(&self.lane);
        let before = self.last.replace(now.clone());
        for changed in now.changed(&before, failed) {
            table.note(what, &changed);
        }
    }

    /// Text without what differs from run to run.
    pub(super) fn tame(&self, text: &str, more: &[(&str, &str)]) -> String {
        let mut text = text.trim().to_owned();
        for (found, shown) in more {
            text = text.replace(found, shown);
        }
        let dir = self.lane.dir.path().to_str().unwrap();
        text.replace(dir, "DIR").replace(&self.lane.registry, "REGISTRY")
    }

    /// Looks at something that must change nothing, and says in the table what it changed.
    pub(super) fn unchanged(
        &self,
        table: &mut Table,
        what: &str,
        look: impl FnOnce() -> Answer,
    ) -> Answer {
        let answer = look();
        self.compare(table, what, None);
        answer
    }

    /// Tells of a tag at an object, and waits for its run, which must fail and change nothing
    /// else; what it failed with.
    pub(super) fn run_fails(&self, table: &mut Table, what: &str, push: &Pushed) -> Answer {
        let body = push.body();
        let answer = self.lane.deliver(&push.tag, body.to_string().as_bytes(), &self.secret);
        assert_eq!(answer.status, 202, "{what}: {}", String::from_utf8_lossy(&answer.body));
        let run = self.lane.wait(&push.tag, "failed");
        let id = run["id"].as_str().unwrap();
        self.compare(table, what, Some(id));
        let error = &run["error"];
        let said = error["message"].as_str().unwrap();
        let more = [(push.commit.as_str(), "COMMIT"), (push.tag.as_str(), "TAG"), (id, "RUN")];
        Answer::new(error["code"].as_str().unwrap(), self.tame(said, &more))
    }
}

/// A tag as a delivery tells of it.
pub(super) struct Pushed {
    pub(super) tag: String,
    pub(super) object: String,
    pub(super) commit: String,
}

impl Pushed {
    pub(super) fn body(&self) -> Value {
        serde_json::json!({
            "ref": format!("refs/tags/{}", self.tag), "before": "0".repeat(40),
            "after": self.object, "created": true, "deleted": false, "forced": false,
            "head_commit": { "id": self.commit }, "repository": { "full_name": "team/donkeycar" },
        })
    }
}

#[test]
fn whatever_changes_is_seen() {
    let world = World::new();
    let before = Snapshot::take(&world.lane);
    assert!(Snapshot::take(&world.lane).changed(&before, None).is_empty());
    let seen = |what: &str| {
        let changed = Snapshot::take(&world.lane).changed(&before, None);
        assert!(changed.iter().any(|change| change.contains(what)), "{what}: {changed:?}");
    };
    // A blob that grows, a file too many, a wish, and another release.
    fs::write(world.lane.path("state/stray"), "x").unwrap();
    seen("file stray");
    fs::remove_file(world.lane.path("state/stray")).unwrap();
    let blob = world.lane.blob_file(world.image.split('@').nth(1).unwrap());
    fs::OpenOptions::new().append(true).open(&blob).unwrap().set_len(7).unwrap();
    seen("file registry/blobs");
    let tree = world.lane.tree("gitops");
    world
        .lane
        .git(&tree, &["pull", "--quiet", world.lane.bare("gitops").to_str().unwrap(), "main"]);
    world.lane.git(&tree, &["commit", "--quiet", "--allow-empty", "-m", "A wish"]);
    let bare = world.lane.bare("gitops");
    world.lane.git(&tree, &["push", "--quiet", bare.to_str().unwrap(), "main"]);
    seen("GitOps");
}
