//! The webhook under load: what is answered 202 is on disk. `make bench` reports the rate; here
//! only the loss is judged, because test machines are busy.

use std::time::Duration;

use super::{SECRET, Served, ZERO, commit, intake, route};
use crate::service::{
    bench::{Load, bench_webhook},
    store::Store,
};

fn body(tag: &str) -> String {
    let filler = "x".repeat(6500);
    format!(
        r#"{{"ref":"refs/tags/{tag}","before":"{ZERO}","after":"{0}","deleted":false,
        "head_commit":{{"id":"{0}","message":"{filler}"}},"repository":{{"full_name":"octo/car"}}}}"#,
        commit(1)
    )
}

async fn load(tag: &str, time: Duration) -> (tempfile::TempDir, crate::service::bench::LoadReport) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let served = Served::start(intake(&store, vec![route("octo/car", "car")]).router()).await;
    let load = Load {
        address: served.address,
        secret: SECRET.into(),
        body: body(tag),
        connections: 16,
        time,
    };
    let report = bench_webhook(load).await.unwrap();
    let rows: i64 = rusqlite::Connection::open(dir.path().join("s.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM deliveries WHERE run IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(u64::try_from(rows).unwrap(), report.accepted, "answered and kept are the same");
    assert_eq!(report.other, 0);
    (dir, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_answered_is_lost() {
    let (_dir, report) = load("@TAG@", Duration::from_millis(300)).await;
    assert!(report.accepted > 16, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: three seconds of full load"]
async fn measured() {
    for (name, tag) in [("a run each", "@TAG@"), ("repeats of one", "v1")] {
        let (_dir, report) = load(tag, Duration::from_secs(3)).await;
        println!("{name}: {report:?}");
    }
}
