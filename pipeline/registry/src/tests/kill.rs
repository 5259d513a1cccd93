//! `kill -9` at any moment: pushes, deletes and collections under way, and what is found then.
//!
//! The registry runs in a process of its own, this test program started again. Each round lets
//! clients work on it for a random time, ends it, and looks: the folder is as it must be, what was
//! answered is there, what was deleted is gone.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use rand_core::{OsRng, RngCore as _};
use serde_json::json;

use super::{Answer, Digest, MANIFEST, TOKEN, image};
use crate::{
    CollectOptions, PushToken, Registry, RegistryConfig, check, listen::BoundedListener, router,
};

/// Where the started program finds its folder.
const ROOT: &str = "PITLANE_TEST_REGISTRY";
/// Rounds; more by `PITLANE_KILLS`.
const ROUNDS: u32 = 40;
const WORKERS: u32 = 3;
/// A push here takes some milliseconds.
const GRACE: Duration = Duration::from_secs(2);

/// Not a test: the registry that the test below starts and kills.
#[test]
#[ignore = "started by the test that kills it"]
fn serve_until_killed() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else { return };
    let mut config = RegistryConfig::new(root.join("registry"));
    config.push_token = Some(PushToken::new(TOKEN).unwrap());
    config.allow_delete = true;
    config.sync = !root.join("no-sync").exists();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let registry = Arc::new(Registry::open(config).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("\nLISTENING {}", listener.local_addr().unwrap());
        let collected = Arc::clone(&registry);
        thread::spawn(move || {
            let options = CollectOptions { grace: GRACE, untagged: Some(GRACE), dry_run: false };
            let kept = || {
                let text = fs::read_to_string(root.join("kept"))?;
                Ok(text.lines().map(str::parse).collect::<Result<HashSet<Digest>, _>>()?)
            };
            loop {
                collected.collect(&options, &kept).unwrap();
                // Each removal waits for the pushes under way, and those behind it wait too.
                thread::sleep(Duration::from_millis(u64::from(50 + random(150))));
            }
        });
        let listener = BoundedListener::new(listener, 64, Duration::from_secs(20));
        axum::serve(listener, router(registry)).await.unwrap();
    });
}

struct Server {
    child: Child,
    address: SocketAddr,
}

fn start(root: &Path) -> Server {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "tests::kill::serve_until_killed", "--ignored", "--nocapture"]);
    let mut child = command.env(ROOT, root).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().expect("the registry did not start").unwrap();
        if let Some(address) = line.strip_prefix("LISTENING ") {
            break address.parse().unwrap();
        }
    };
    Server { child, address }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn random(below: u32) -> u32 {
    OsRng.next_u32() % below
}

/// A whole answer, or nothing when the registry was ended before.
fn ask(address: SocketAddr, line: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {MANIFEST}\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    if !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
        return None;
    }
    let answer = Answer::parse(&bytes);
    let length = answer.header("content-length");
    (line.starts_with("HEAD") || length.is_empty() || length == answer.body.len().to_string())
        .then_some(answer)
}

/// What one client knows to be so: its tags, and those of which it was not answered.
#[derive(Default)]
struct Known {
    tags: BTreeMap<String, Option<Vec<u8>>>,
    unsure: Option<String>,
    done: u32,
}

/// Pushes, moves and deletes until nobody answers.
fn work(address: SocketAddr, repo: &str, mut known: Known) -> Known {
    loop {
        let tag = format!("t{}", random(6));
        known.unsure = Some(tag.clone());
        let change = if random(4) == 0 {
            delete(address, repo, &tag, &known)
        } else {
            push(address, repo, &tag)
        };
        let Some(change) = change else { return known };
        known.done += 1;
        if let Some(now) = change {
            known.tags.insert(tag, now);
        }
        known.unsure = None;
    }
}

/// `None`: not answered. `Some(None)`: answered, and nothing changed.
type Change = Option<Option<Option<Vec<u8>>>>;

fn push(address: SocketAddr, repo: &str, tag: &str) -> Change {
    // Some layers are everybody's, so that one's garbage is another's layer.
    let layer = vec![b'a' + u8::try_from(random(8)).unwrap(); 30_000];
    for blob in [&layer[..], b"{}"] {
        let digest = Digest::of(blob);
        if ask(address, &format!("HEAD /v2/{repo}/blobs/{digest}"), b"")?.status == 200 {
            continue;
        }
        let started = ask(address, &format!("POST /v2/{repo}/blobs/uploads/"), b"")?;
        let at = started.header("location").to_owned();
        let (first, second) = blob.split_at(blob.len() / 2);
        assert_eq!(ask(address, &format!("PATCH {at}"), first)?.status, 202);
        let ended = ask(address, &format!("PUT {at}?digest={digest}"), second)?;
        assert_eq!(ended.status, 201, "{ended:?}");
    }
    let number = OsRng.next_u64().to_string();
    let mut more = json!({ "annotations": { "number": number } });
    if random(2) == 0 {
        let of = Digest::of([u8::try_from(random(3)).unwrap()]);
        more["subject"] = json!({ "mediaType": MANIFEST, "digest": of, "size": 1 });
    }
    let manifest = image(&layer, &more);
    let put = ask(address, &format!("PUT /v2/{repo}/manifests/{tag}"), &manifest)?;
    assert_eq!(put.status, 201, "{put:?}");
    Some(Some(Some(manifest)))
}

fn delete(address: SocketAddr, repo: &str, tag: &str, known: &Known) -> Change {
    let manifest = known.tags.get(tag).cloned().flatten();
    let by = match manifest.filter(|_| random(2) == 0) {
        Some(manifest) => Digest::of(manifest).to_string(),
        None => tag.to_owned(),
    };
    let answer = ask(address, &format!("DELETE /v2/{repo}/manifests/{by}"), b"")?;
    match answer.status {
        202 => Some(Some(None)),
        404 => Some(None),
        _ => panic!("{answer:?}"),
    }
}

fn look(address: SocketAddr, repo: &str, known: &mut Known) {
    if let Some(unsure) = known.unsure.take() {
        known.tags.remove(&unsure);
    }
    for (tag, want) in &known.tags {
        let got = ask(address, &format!("GET /v2/{repo}/manifests/{tag}"), b"").unwrap();
        let Some(want) = want else {
            assert_eq!(got.status, 404, "{repo}:{tag} was deleted");
            continue;
        };
        assert!(got.status == 200 && got.body == *want, "{repo}:{tag} was pushed: {got:?}");
        let layer = got.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
        let blob = ask(address, &format!("GET /v2/{repo}/blobs/{layer}"), b"").unwrap();
        assert_eq!(Digest::of(&blob.body).to_string(), layer, "{repo}:{tag}");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_registry() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let rounds = std::env::var("PITLANE_KILLS").ok().and_then(|text| text.parse().ok());
    // What a car drives: no tag leads to it, and it must stay.
    let needed = image(&vec![b'a'; 30_000], &json!({ "annotations": { "needed": "yes" } }));
    fs::write(root.join("kept"), Digest::of(&needed).to_string()).unwrap();
    let mut all: Vec<Known> = (0..WORKERS).map(|_| Known::default()).collect();
    for round in 0..rounds.unwrap_or(ROUNDS) {
        if round % 2 == 0 {
            let _ = fs::remove_file(root.join("no-sync"));
        } else {
            fs::write(root.join("no-sync"), b"").unwrap();
        }
        let server = start(root);
        let address = server.address;
        for (at, known) in all.iter_mut().enumerate() {
            look(address, &format!("w/{at}"), known);
        }
        let path = format!("/v2/needed/manifests/{}", Digest::of(&needed));
        if round == 0 {
            for blob in [&vec![b'a'; 30_000][..], b"{}"] {
                let line = format!("POST /v2/needed/blobs/uploads/?digest={}", Digest::of(blob));
                assert_eq!(ask(address, &line, blob).unwrap().status, 201);
            }
            assert_eq!(ask(address, &format!("PUT {path}"), &needed).unwrap().status, 201);
        }
        assert_eq!(ask(address, &format!("GET {path}"), b"").unwrap().body, needed);
        let workers: Vec<_> = all
            .drain(..)
            .enumerate()
            .map(|(at, known)| thread::spawn(move || work(address, &format!("w/{at}"), known)))
            .collect();
        thread::sleep(Duration::from_millis(u64::from(20 + random(600))));
        drop(server);
        all = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        // A start mends what two files that belong together leave; nothing else may be wrong.
        drop(Registry::open(RegistryConfig::new(root.join("registry"))).unwrap());
        assert_eq!(check(&root.join("registry")).unwrap(), [""; 0], "round {round}");
        for folder in ["uploads", "tmp", "staged"] {
            assert_eq!(fs::read_dir(root.join("registry").join(folder)).unwrap().count(), 0);
        }
    }
    let done: u32 = all.iter().map(|known| known.done).sum();
    eprintln!("{done} changes were answered");
    assert!(done > 10 * ROUNDS, "{done} changes in all");
}

/// What the check says of a folder that is not as it must be: each thing by its name.
#[test]
fn the_check_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let manifest = runtime.block_on(async {
        let server = super::Server::start(&dir).await;
        server.image("a", "v1", b"layer").await;
        let subject = json!({ "mediaType": MANIFEST, "digest": Digest::of(b"x"), "size": 1 });
        let manifest = image(b"layer", &json!({ "subject": subject }));
        server.put("a", "signed", &manifest).await;
        server.stop().await;
        manifest
    });
    let root = dir.path();
    assert_eq!(check(root).unwrap(), [""; 0]);
    let repo = root.join("repositories/a");
    let (layer, signed) = (Digest::of(b"layer"), Digest::of(&manifest));
    let entry = repo.join("_referrers").join(Digest::of(b"x").hex()).join(signed.hex());
    let blob = |digest: &Digest| root.join("blobs/sha256").join(digest.hex());
    let link = repo.join("_manifests").join(signed.hex());
    for (what, path, word) in [
        ("a layer", blob(&layer), "needs blob"),
        ("a manifest's bytes", blob(&signed), "cannot be read"),
        ("a claim", repo.join("_blobs").join(layer.hex()), "does not hold"),
        ("a place in a list", entry, "is not in the list"),
        ("a manifest's link", link, "leads nowhere"),
    ] {
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let wrong = check(root).unwrap();
        assert!(wrong.iter().any(|line| line.contains(word)), "{what}: {wrong:?}");
        fs::write(&path, &good).unwrap();
        assert_eq!(check(root).unwrap(), [""; 0], "{what}");
    }
    fs::write(blob(&layer), b"LAYER").unwrap();
    assert!(check(root).unwrap().iter().any(|line| line.contains("not what it is called")));
}
