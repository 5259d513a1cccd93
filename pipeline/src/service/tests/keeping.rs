//! What is let go of, beside all that must not be.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use pitlane_registry::{CollectOptions, PushToken, Registry, RegistryConfig, router};
use pitlane_release::Digest;
use serde_json::json;

use super::{
    super::{
        keeping::{Gone, Keep, Keeping},
        store::{Approved, RunState, Store, now_ms},
    },
    Served, queue, route,
};
use crate::lane::{Step, StepError};

const TOKEN: &str = "a-token-for-pushes-of-this-test";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Makes everything in a folder 100 days older.
fn age(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path);
        } else {
            let file = File::options().append(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_hours(2400)).unwrap();
        }
    }
}

struct Pushed {
    served: Served,
    http: reqwest::Client,
}

impl Pushed {
    async fn send(&self, request: reqwest::RequestBuilder) {
        let answer = request.bearer_auth(TOKEN).send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
    }

    /// An image of one file, by its digest or with a tag.
    async fn image(&self, content: &str, tag: Option<&str>) -> Digest {
        let blob = Digest::of(content);
        let upload = self.served.url(&format!("/v2/team/car/blobs/uploads/?digest={blob}"));
        self.send(self.http.post(upload).body(content.to_owned())).await;
        let named = json!({"mediaType": "text/plain", "digest": blob, "size": content.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": named, "layers": [named],
        });
        let manifest = manifest.to_string();
        let digest = Digest::of(&manifest);
        let name = tag.map_or_else(|| digest.to_string(), str::to_owned);
        let put = self.http.put(self.served.url(&format!("/v2/team/car/manifests/{name}")));
        self.send(put.header("content-type", MANIFEST).body(manifest)).await;
        digest
    }

    async fn here(&self, digest: &Digest) -> bool {
        // Without the token: a question of who may push would be a reason to keep it.
        let url = self.served.url(&format!("/v2/team/car/manifests/{digest}"));
        self.http.get(url).send().await.unwrap().status().is_success()
    }
}

struct Lab {
    store: Store,
    runs: PathBuf,
}

impl Lab {
    /// A run with a folder, a document and a journal that names an image.
    async fn run(&self, tag: &str, image: &Digest, end: RunState) -> String {
        let run = queue(&self.store, &route("team/car", "car"), tag).await;
        let lease = self.store.claim("test").await.unwrap().unwrap().lease;
        self.store.keep_document(&run, "seal", b"sealed".to_vec()).await.unwrap();
        let output = json!({"index": {"descriptor": {"digest": image}}});
        let next = (end != RunState::Done).then_some(Step::Model);
        self.store.advance(&lease, Step::Checkout, &output, next).await.unwrap();
        if end == RunState::Failed {
            let error = StepError::new("bad", "no", "");
            self.store.fail(&lease, Step::Model, &error, false).await.unwrap();
        }
        assert_eq!(self.store.run(&run).await.unwrap().state, end);
        self.folder(&run);
        run
    }

    fn folder(&self, name: &str) {
        let plots = self.runs.join(name).join("laps");
        fs::create_dir_all(&plots).unwrap();
        fs::write(plots.join("plot.svg"), "a plot").unwrap();
    }

    fn folders(&self) -> Vec<String> {
        let all = fs::read_dir(&self.runs).unwrap();
        let mut names: Vec<_> =
            all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_runs_go_and_what_somebody_may_need_stays() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("registry");
    let config = RegistryConfig {
        push_token: Some(PushToken::new(TOKEN).unwrap()),
        sync: false,
        ..RegistryConfig::new(&place)
    };
    let registry = Arc::new(Registry::open(config).unwrap());
    let served = Served::start(router(Arc::clone(&registry))).await;
    let pushed = Pushed { served, http: reqwest::Client::builder().no_proxy().build().unwrap() };
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let lab = Lab { store: store.clone(), runs: dir.path().join("runs") };

    let tagged = pushed.image("tagged", Some("v1")).await;
    let approved = pushed.image("approved", None).await;
    let of_failed = pushed.image("failed", None).await;
    let of_running = pushed.image("running", None).await;
    let nobodys = pushed.image("nobody's", None).await;
    let done = lab.run("v1", &tagged, RunState::Done).await;
    let failed = lab.run("v2", &of_failed, RunState::Failed).await;
    let running = lab.run("v3", &of_running, RunState::Running).await;
    // Of a store that was lost, and what is none of ours.
    lab.folder("r99-0123abcd");
    lab.folder("notes");
    let word = Approved {
        pipeline: "car".into(),
        environment: "street".into(),
        counter: 1,
        digest: approved.to_string(),
        by: "ada".into(),
        time: 1,
    };
    store.approve(word).await.unwrap();
    // The disk has everything, and it looks old.
    let flushed = Arc::clone(&registry);
    let nothing = || Ok(std::collections::HashSet::new());
    let flush = move || flushed.collect(&CollectOptions::default(), &nothing).unwrap();
    tokio::task::spawn_blocking(flush).await.unwrap();
    age(&place);

    let keep = Keep { days: 30, runs: 10, gib: 1 };
    let runs = lab.runs.clone();
    let keeping = Keeping { keep, store: store.clone(), runs, registry: Some(registry) };
    let now = now_ms();
    let gone = keeping.once(now).await.unwrap();
    assert_eq!((gone.folders, gone.rows, gone.registry.manifests), (0, 0, 1), "{gone:?}");
    for (digest, stays) in
        [(tagged, true), (approved, true), (of_failed, true), (of_running, true), (nobodys, false)]
    {
        assert_eq!(pushed.here(&digest).await, stays, "{digest}");
    }
    assert_eq!(lab.folders().len(), 5);

    // After the time that it is kept.
    age(&place);
    let gone = keeping.once(now + 31 * DAY_MS).await.unwrap();
    assert_eq!((gone.folders, gone.rows, gone.registry.manifests), (3, 1, 1), "{gone:?}");
    for (digest, stays) in
        [(tagged, true), (approved, true), (of_failed, false), (of_running, true)]
    {
        assert_eq!(pushed.here(&digest).await, stays, "{digest}");
    }
    assert_eq!(lab.folders(), ["notes".to_owned(), running.clone()]);
    assert_eq!(store.document(&done, "seal").await.unwrap(), None);
    for run in [&failed, &running] {
        assert!(store.document(run, "seal").await.unwrap().is_some(), "sealed once");
    }
    let again = keeping.once(now + 31 * DAY_MS).await.unwrap();
    assert_eq!(again, Gone::default());
}
