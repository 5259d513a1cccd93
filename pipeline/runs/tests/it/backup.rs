//! Copies of the store: while it is written, put back, and by the server's own tools.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pitlane_runs::{
    Store,
    store::{PostgresUrl, RunFilter, StoreError, backup, migrate},
};

use crate::{
    deliveries::{queue, route},
    place::Place,
};

async fn tags(store: &Store) -> Vec<String> {
    let filter = RunFilter { limit: Some(200), ..RunFilter::default() };
    let mut tags: Vec<String> =
        store.runs(filter).await.unwrap().into_iter().map(|run| run.tag).collect();
    tags.sort();
    tags
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_store_that_is_written_is_one_moment_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = Store::open(&path).unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|n| {
            let (store, enough) = (store.clone(), Arc::clone(&enough));
            tokio::spawn(async move {
                let car = route(&format!("octo/car{n}"), "car");
                let mut count = 0;
                while !enough.load(Ordering::Relaxed) {
                    count += 1;
                    queue(&store, &car, &format!("v{n}.{count}")).await;
                }
            })
        })
        .collect();
    let mut copies = Vec::new();
    for n in 0..8 {
        let (path, to) = (path.clone(), dir.path().join(format!("copy{n}.db")));
        let one = tokio::task::spawn_blocking(move || backup::backup(&path, &to));
        copies.push(one.await.unwrap().unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    enough.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let last = copies.last().unwrap();
    assert!(copies[0].runs < last.runs, "it was written meanwhile: {copies:?}");
    for copied in &copies {
        // A delivery, its run and its counter are one transaction: in a moment they agree.
        let opened = Store::open(&copied.file).unwrap();
        let mut found = 0;
        for n in 0..3 {
            let filter = RunFilter {
                repository: Some(format!("octo/car{n}")),
                limit: Some(1),
                ..RunFilter::default()
            };
            let newest = opened.runs(filter).await.unwrap();
            found += newest.first().map_or(0, |run| i64::try_from(run.counter).unwrap());
        }
        assert_eq!((found, copied.deliveries), (copied.runs, copied.runs), "{copied:?}");
        assert_eq!(opened.figures().await.unwrap().deliveries, copied.deliveries);
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(dir.path().join("copy0.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "deliveries are in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_put_back_and_what_was_there_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("s.db"), dir.path().join("copy.db"));
    let store = Store::open(&path).unwrap();
    queue(&store, &route("octo/car", "car"), "v1").await;
    backup::backup(&path, &copy).unwrap();
    queue(&store, &route("octo/car", "car"), "v2").await;
    assert!(matches!(backup::restore(&copy, &path, true), Err(StoreError::InUse(_))));
    let again = backup::backup(&path, &copy).unwrap_err();
    assert!(again.to_string().contains("not written over"), "{again}");
    drop(store);
    let kept = backup::restore(&copy, &path, false).unwrap_err();
    assert!(kept.to_string().contains("not written over"), "{kept}");
    backup::restore(&copy, &path, true).unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(tags(&store).await, ["v1"]);
    // Counters go on from the copy; the service raises them above the registry's.
    queue(&store, &route("octo/car", "car"), "v3").await;
    drop(store);
    let before = Store::open(&dir.path().join("s.db.replaced")).unwrap();
    assert_eq!(tags(&before).await, ["v1", "v2"]);
    drop(before);

    // What is no sound copy is not put there.
    let whole = fs::read(&copy).unwrap();
    let mut holed = whole.clone();
    let middle = holed.len() / 2;
    holed[middle..middle + 4096].fill(0xa5);
    let newer = dir.path().join("newer.db");
    fs::write(&newer, &whole).unwrap();
    // The version lies at byte 60 of the file (SQLite's file format, 1.3).
    let mut bytes = fs::read(&newer).unwrap();
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    for (name, bytes) in [
        ("short", whole[..whole.len() / 2].to_vec()),
        ("holed", holed),
        ("empty", Vec::new()),
        ("other", b"not a database at all, but long enough to be read".repeat(100)),
        ("newer", bytes),
    ] {
        let file = dir.path().join(name);
        fs::write(&file, bytes).unwrap();
        backup::restore(&file, &path, true).expect_err(name);
        let there = Store::open(&path).unwrap();
        assert_eq!(tags(&there).await, ["v1", "v3"], "after {name}");
    }
    let left = fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().file_name());
    let parts: Vec<_> = left.filter(|name| name.to_string_lossy().contains(".part")).collect();
    assert!(parts.is_empty(), "{parts:?}");
    backup::backup(&dir.path().join("none.db"), &dir.path().join("x")).unwrap_err();
    assert!(!dir.path().join("x").exists() && !dir.path().join("none.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_store_is_copied_by_its_own_tools() {
    let Some(place) = Place::postgres() else { return };
    let Place::Postgres(server) = &place else { unreachable!() };
    let store = place.open();
    let car = route("octo/car", "car");
    for tag in ["v1", "v2", "v3"] {
        queue(&store, &car, tag).await;
    }
    let run = |program: &str, args: &[&str]| {
        let ran = Command::new(program).args(args).output().unwrap();
        assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("dump");
    let (url, dump) = (server.url(), dump.to_str().unwrap().to_owned());
    run("pg_dump", &["--format=custom", "--file", &dump, &url]);
    queue(&store, &car, "v4").await;
    let other = format!("{}/back", url.rsplit_once('/').unwrap().0);
    run("psql", &["-qX", "-c", "CREATE DATABASE back", &url]);
    run("pg_restore", &["--exit-on-error", "--single-transaction", "--dbname", &other, &dump]);
    let back = PostgresUrl::parse(&other, None).unwrap();
    let opening = back.clone();
    let copy = std::thread::spawn(move || Store::connect(&opening)).join().unwrap().unwrap();
    assert_eq!(tags(&copy).await, ["v1", "v2", "v3"]);
    // Sequences and counters came along.
    let next = queue(&copy, &car, "v5").await;
    assert_eq!(copy.run(&next).await.unwrap().counter, 4);
    assert_eq!(tags(&store).await, ["v1", "v2", "v3", "v4"]);

    let moved = move |to| {
        std::thread::spawn({
            let url = back.clone();
            move || migrate::server(&url, to)
        })
        .join()
        .unwrap()
    };
    let here = moved(None).unwrap();
    assert_eq!((here.from, here.to), (here.newest, here.newest));
    for to in [0, here.newest + 1] {
        assert!(matches!(moved(Some(to)), Err(StoreError::Refused(_))), "{to}");
    }
    // Back and forward again through every version, once nothing is open.
    if here.newest > 1 {
        assert!(matches!(moved(Some(1)), Err(StoreError::Refused(_))), "runs are open");
    }
    for run in copy.runs(RunFilter::default()).await.unwrap() {
        copy.cancel(&run.id).await.unwrap();
    }
    let before = tags(&copy).await;
    for to in (1..here.newest).rev().chain(2..=here.newest) {
        assert_eq!(moved(Some(to)).unwrap().to, to);
    }
    assert_eq!(tags(&copy).await, before);
}
