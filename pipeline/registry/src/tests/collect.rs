//! Garbage: what goes, and all that must not.

use std::{
    collections::HashSet,
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use pitlane_release::oci::INDEX;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Digest, MANIFEST, Server, image};
use crate::{CollectOptions, Collected, RegistryError, check};

const HOUR: Duration = Duration::from_hours(1);

fn options() -> CollectOptions {
    CollectOptions { grace: HOUR, untagged: Some(2 * HOUR), dry_run: false }
}

/// Makes everything in a folder older.
fn age(folder: &Path, by: Duration) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path, by);
        } else {
            let file = File::options().append(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - by).unwrap();
        }
    }
}

impl Server {
    async fn collect(
        &self,
        options: CollectOptions,
        kept: HashSet<Digest>,
    ) -> Result<Collected, RegistryError> {
        let registry = Arc::clone(&self.registry);
        let keep = move || anyhow::Ok(kept.clone());
        tokio::task::spawn_blocking(move || registry.collect(&options, &keep)).await.unwrap()
    }

    async fn here(&self, path: &str) -> bool {
        let answer = self.get(&format!("/v2/cars/a/{path}")).await;
        assert!([200, 404].contains(&answer.status), "{answer:?}");
        answer.status == 200
    }
}

fn index(children: &[&[u8]]) -> Vec<u8> {
    let entry = |bytes: &&[u8]| json!({ "mediaType": MANIFEST, "digest": Digest::of(bytes), "size": bytes.len() });
    let list: Vec<Value> = children.iter().map(entry).collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list }).to_string().into_bytes()
}

fn of(subject: &[u8], kind: &str) -> Vec<u8> {
    let subject =
        json!({ "mediaType": MANIFEST, "digest": Digest::of(subject), "size": subject.len() });
    image(kind.as_bytes(), &json!({ "subject": subject, "artifactType": kind }))
}

/// A tagged index with a signed platform; an untagged one, signed too; and loose blobs.
struct Lot {
    platform: Vec<u8>,
    index: Vec<u8>,
    signature: Vec<u8>,
    old: Vec<u8>,
    old_index: Vec<u8>,
    old_signature: Vec<u8>,
}

async fn lot(server: &Server) -> Lot {
    for blob in [&b"{}"[..], b"new", b"old", b"shared", b"sig/new", b"sig/old", b"loose"] {
        server.blob("cars/a", blob).await;
    }
    let platform = image(b"new", &json!({ "annotations": { "a": "b" } }));
    let (index, signature) = (index(&[&platform]), of(&platform, "sig/new"));
    let old = image(b"old", &json!({}));
    let (old_index, old_signature) = (self::index(&[&old]), of(&old, "sig/old"));
    let kind = format!("Content-Type: {INDEX}");
    for (bytes, tag) in
        [(&platform, None), (&signature, None), (&old, None), (&old_signature, None)]
    {
        let reference = tag.unwrap_or_else(|| Digest::of(bytes).to_string());
        assert_eq!(server.put("cars/a", &reference, bytes).await.status, 201);
    }
    for (bytes, reference) in
        [(&index, "v2".to_owned()), (&old_index, Digest::of(&old_index).to_string())]
    {
        let line = format!("PUT /v2/cars/a/manifests/{reference}");
        assert_eq!(server.push(&line, &[&kind], bytes).await.status, 201);
    }
    Lot { platform, index, signature, old, old_index, old_signature }
}

fn all(lot: &Lot) -> [(&'static str, Digest, bool); 6] {
    [
        ("platform", Digest::of(&lot.platform), true),
        ("index", Digest::of(&lot.index), true),
        ("signature", Digest::of(&lot.signature), true),
        ("old", Digest::of(&lot.old), false),
        ("old index", Digest::of(&lot.old_index), false),
        ("old signature", Digest::of(&lot.old_signature), false),
    ]
}

async fn start() -> (TempDir, Server, Lot) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir).await;
    let lot = lot(&server).await;
    (dir, server, lot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_needs_goes_and_the_rest_stays() {
    let (dir, server, lot) = start().await;
    // Everything is of today.
    assert_eq!(server.collect(options(), HashSet::new()).await.unwrap(), Collected::default());
    age(dir.path(), 3 * HOUR);
    let before = server.registry.used_bytes();
    let dry = CollectOptions { dry_run: true, ..options() };
    let would = server.collect(dry, HashSet::new()).await.unwrap();
    assert_eq!(server.registry.used_bytes(), before);
    let did = server.collect(options(), HashSet::new()).await.unwrap();
    assert_eq!(would, did);
    // old, its index, its signature; their bytes, their layers, and what was loose.
    assert_eq!((did.manifests, did.blobs), (3, 3 + 2 + 2));
    assert_eq!(server.registry.used_bytes(), before - did.bytes);
    for (what, digest, stays) in all(&lot) {
        assert_eq!(server.here(&format!("manifests/{digest}")).await, stays, "{what}");
    }
    for (blob, stays) in [
        ("new", true),
        ("{}", true),
        ("sig/new", true),
        ("old", false),
        ("sig/old", false),
        ("loose", false),
        ("shared", false),
    ] {
        assert_eq!(server.here(&format!("blobs/{}", Digest::of(blob))).await, stays, "{blob}");
    }
    assert_eq!(server.collect(options(), HashSet::new()).await.unwrap(), Collected::default());
    server.stop().await;
    assert_eq!(check(dir.path()).unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_the_list_stays_whole() {
    let (dir, server, lot) = start().await;
    age(dir.path(), 3 * HOUR);
    // A car still drives the old platform; somebody wants the loose blob.
    let kept = HashSet::from([Digest::of(&lot.old), Digest::of(b"loose")]);
    let did = server.collect(options(), kept).await.unwrap();
    assert_eq!(did.manifests, 1, "the old index alone");
    for digest in [&lot.old, &lot.old_signature, &lot.platform].map(Digest::of) {
        assert!(server.here(&format!("manifests/{digest}")).await);
    }
    for blob in ["old", "sig/old", "loose"] {
        assert!(server.here(&format!("blobs/{}", Digest::of(blob))).await, "{blob}");
    }
    // Without a list that is known, nothing goes.
    let registry = Arc::clone(&server.registry);
    let failing = || -> anyhow::Result<HashSet<Digest>> { anyhow::bail!("the store is locked") };
    let work = move || registry.collect(&options(), &failing);
    let error = tokio::task::spawn_blocking(work).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("the store is locked"), "{error}");
    assert!(server.here(&format!("manifests/{}", Digest::of(&lot.old))).await);
    server.stop().await;
    assert_eq!(check(dir.path()).unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_time_for_them_untagged_manifests_stay() {
    let (dir, server, lot) = start().await;
    age(dir.path(), 1000 * HOUR);
    let did = server
        .collect(CollectOptions { untagged: None, ..options() }, HashSet::new())
        .await
        .unwrap();
    assert_eq!((did.manifests, did.blobs), (0, 2), "the blobs that no manifest names");
    for (what, digest, _) in all(&lot) {
        assert!(server.here(&format!("manifests/{digest}")).await, "{what}");
    }
    server.stop().await;
}

/// A client that was told that a blob or manifest is here does not send it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pusher_asked_for_stays() {
    let (dir, server, lot) = start().await;
    age(dir.path(), 3 * HOUR);
    let head = |what: &str, digest: Digest| format!("HEAD /v2/cars/a/{what}/{digest}");
    assert_eq!(server.push(&head("blobs", Digest::of(b"loose")), &[], b"").await.status, 200);
    assert_eq!(server.push(&head("manifests", Digest::of(&lot.old)), &[], b"").await.status, 200);
    let mount =
        format!("POST /v2/cars/b/blobs/uploads/?mount={}&from=cars/a", Digest::of(b"shared"));
    assert_eq!(server.push(&mount, &[], b"").await.status, 201);
    // Who only reads keeps nothing alive.
    let sig = Digest::of(b"sig/old");
    assert_eq!(server.ask(&head("blobs", sig), &[], b"").await.status, 200);
    server.collect(options(), HashSet::new()).await.unwrap();
    assert!(server.here(&format!("blobs/{}", Digest::of(b"loose"))).await);
    assert!(server.here(&format!("blobs/{}", Digest::of(b"shared"))).await);
    assert!(server.here(&format!("manifests/{}", Digest::of(&lot.old))).await);
    // Its signature belongs to it, and has kept its layer.
    assert!(server.here(&format!("blobs/{sig}")).await);
    assert!(!server.here(&format!("manifests/{}", Digest::of(&lot.old_index))).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_cannot_be_read_stops_it() {
    let (dir, server, lot) = start().await;
    let file = dir.path().join("blobs/sha256").join(Digest::of(&lot.platform).hex());
    std::fs::write(file, b"{}").unwrap();
    age(dir.path(), 3 * HOUR);
    let error = server.collect(options(), HashSet::new()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreadable { .. }), "{error}");
    assert!(server.here(&format!("blobs/{}", Digest::of(b"loose"))).await);
    server.stop().await;
}

/// Pushes while garbage is collected without any grace: whatever was answered 201 is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_while_it_runs_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let server = Arc::new(Server::with(&dir, |config| config.sync = false).await);
    let done = Arc::new(AtomicBool::new(false));
    let (registry, ended) = (Arc::clone(&server.registry), Arc::clone(&done));
    let collector = std::thread::spawn(move || {
        let options = CollectOptions {
            grace: Duration::ZERO,
            untagged: Some(Duration::ZERO),
            dry_run: false,
        };
        let mut removed = 0;
        while !ended.load(Ordering::Relaxed) {
            removed += registry.collect(&options, &|| Ok(HashSet::new())).unwrap().blobs;
        }
        removed
    });
    let pushers = (0..4).map(|worker| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let (mut kept, mut lost) = (Vec::new(), 0);
            for turn in 0..60 {
                // Layers come again and again, so that old ones are found here.
                let layer = vec![b'a' + u8::try_from((turn * 7 + worker) % 5).unwrap(); 2000];
                for blob in [&layer[..], b"{}"] {
                    let line = format!("HEAD /v2/w/{worker}/blobs/{}", Digest::of(blob));
                    if server.push(&line, &[], b"").await.status == 404 {
                        server.blob(&format!("w/{worker}"), blob).await;
                    }
                }
                let manifest =
                    image(&layer, &json!({ "annotations": { "turn": turn.to_string() } }));
                let tag = if turn % 3 == 0 { "moving".to_owned() } else { format!("v{turn}") };
                let put = server.put(&format!("w/{worker}"), &tag, &manifest).await;
                match (put.status, put.code().as_str()) {
                    (201, _) => kept.push((tag, manifest)),
                    // Without grace a blob may go between the question and the manifest.
                    (400, "MANIFEST_BLOB_UNKNOWN") => lost += 1,
                    _ => panic!("{put:?}"),
                }
            }
            (worker, kept, lost)
        })
    });
    let mut all = 0;
    for pusher in pushers.collect::<Vec<_>>() {
        let (worker, kept, lost) = pusher.await.unwrap();
        let moving = kept.iter().rev().find(|(tag, _)| tag == "moving").cloned();
        let tags = kept.iter().filter(|(tag, _)| tag != "moving").chain(&moving);
        for (tag, manifest) in tags {
            let got = server.get(&format!("/v2/w/{worker}/manifests/{tag}")).await;
            assert_eq!(got.body, *manifest, "{tag}");
            let layer = got.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
            let blob = server.get(&format!("/v2/w/{worker}/blobs/{layer}")).await;
            assert_eq!(Digest::of(&blob.body).to_string(), layer);
        }
        all += kept.len();
        eprintln!("worker {worker}: {} kept, {lost} told that a blob is gone", kept.len());
    }
    done.store(true, Ordering::Relaxed);
    let removed = collector.join().unwrap();
    eprintln!("{all} manifests, {removed} blobs collected");
    assert!(all > 100 && removed > 0, "{all} {removed}");
    Arc::into_inner(server).unwrap().stop().await;
    assert_eq!(check(dir.path()).unwrap(), [""; 0]);
}
