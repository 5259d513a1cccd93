//! `pitlane store` with a service: copied while it runs, put back after its store is gone.

use std::fs;

use serde_json::{Value, json};

use crate::common::{
    Ran, json as parse,
    lane::{Lane, lapless, quick},
    run,
};

fn store(lane: &Lane, args: &[&str]) -> Ran {
    let mut command = lane.pitlane();
    command.args(["store", args[0], "--config"]).arg(lane.path("config/service.yaml"));
    run(command.args(&args[1..]))
}

/// What the API tells of all runs, without who held them.
fn runs(lane: &Lane) -> Vec<Value> {
    lane.api("/runs").unwrap()["runs"].as_array().unwrap().clone()
}

#[test]
fn a_service_goes_on_with_a_copy() {
    let mut lane = Lane::new(quick, lapless);
    lane.start();
    lane.release("v1.0.0");
    let copy = lane.path("copy.sqlite");
    let to = copy.to_str().unwrap().to_owned();
    let copied = parse(store(&lane, &["backup", "--to", &to]).ok());
    assert_eq!((&copied["runs"], &copied["deliveries"]), (&json!(1), &json!(1)), "{copied}");
    let before = runs(&lane);
    lane.release("v1.1.0");
    let running = store(&lane, &["restore", "--from", &to, "--replace"]).fails();
    assert!(running.contains("in use by another process"), "{running}");
    let running = store(&lane, &["migrate", "--to", "1"]).fails();
    assert!(running.contains("in use by another process"), "{running}");
    let again = store(&lane, &["backup", "--to", &to]).fails();
    assert!(again.contains("not written over"), "{again}");

    // The disk is lost, but for the registry; the copy is put back.
    lane.kill();
    for name in ["pitlane.sqlite", "pitlane.sqlite-wal", "pitlane.sqlite-shm"] {
        drop(fs::remove_file(lane.path("state").join(name)));
    }
    store(&lane, &["restore", "--from", &to]).ok();
    lane.start();
    assert_eq!(runs(&lane), before);
    // v1.1.0 had the counter 2: the next one is above it, and cars take it.
    let image = lane.release("v1.2.0");
    let verdict = parse(lane.check(&image, &[]).ok());
    assert_eq!((&verdict["admitted"], &verdict["counter"]), (&json!(true), &json!(3)), "{verdict}");

    // Back to an older program's version, and forward by the start.
    lane.stop();
    let all = parse(store(&lane, &["migrate"]).ok());
    let newest = all["newest"].as_i64().unwrap();
    assert_eq!((&all["from"], &all["to"]), (&json!(newest), &json!(newest)), "{all}");
    let older = parse(store(&lane, &["migrate", "--to", "1"]).ok());
    assert_eq!((&older["from"], &older["to"]), (&json!(newest), &json!(1)), "{older}");
    let beyond = store(&lane, &["migrate", "--to", "99"]).fails();
    assert!(beyond.contains("there is no schema 99"), "{beyond}");
    lane.start();
    let kept: Vec<String> = runs(&lane).iter().map(|run| run["tag"].to_string()).collect();
    assert_eq!(kept, ["\"v1.2.0\"", "\"v1.0.0\""]);
    lane.stop();

    // A server has tools of its own.
    let config = json!({
        "apiVersion": "pitlane.dev/v1", "kind": "Service", "state": lane.path("state"),
        "pipelines": [], "database": "postgres://nobody@127.0.0.1:1/none",
    });
    fs::write(lane.path("config/service.yaml"), config.to_string()).unwrap();
    let told = store(&lane, &["backup", "--to", "/nonexistent/x"]).fails();
    assert!(told.contains("pg_dump"), "{told}");
}
