//! `telemetry.otlp`: spans of a real run at a receiver that reads OTLP by the project's own messages;
//! collectors that are away or silent; and a service that has none.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::common::{
    Process, json as parse,
    lane::{Lane, lapless, quick},
    repository, skip, until,
};

/// A lane whose service sends traces there.
fn lane(otlp: Option<&str>) -> Lane {
    let mut lane = Lane::new(quick, lapless);
    let file = lane.path("config/service.yaml");
    let mut config: Value = parse(fs::read(&file).unwrap());
    if let Some(otlp) = otlp {
        config["telemetry"] = json!({ "otlp": otlp });
    }
    fs::write(&file, config.to_string()).unwrap();
    lane.start();
    lane
}

fn spans(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap_or_default().lines().map(parse).collect()
}

#[test]
fn a_run_is_one_trace_and_its_steps_are_in_it() {
    let python = repository().join("target/peers/venv-service/bin/python");
    if !python.is_file() {
        return skip("the OTLP receiver's Python is missing: run scripts/peers.sh");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("spans");
    let mut receiver = Command::new(python);
    receiver.arg(repository().join("tests/peers/otlp_receiver.py")).arg(&file);
    let (_receiver, told) = Process::server(&mut receiver, &dir.path().join("log"));
    let mut lane = lane(Some(&format!("http://127.0.0.1:{}/", parse(told)["listening"])));
    lane.release("v1.0.0");
    // And one that fails: the commit has no model.
    lane.git(&lane.tree("donkeycar"), &["rm", "--quiet", "models/pilot.onnx"]);
    lane.git(&lane.tree("donkeycar"), &["commit", "--quiet", "-m", "No model"]);
    lane.push_tag("v1.1.0");
    let failed = lane.wait("v1.1.0", "failed");
    // What is left is sent at the end.
    lane.stop();
    let all = spans(&file);
    let at = |tag: &str| {
        let mut found = all.iter().filter(|span| span["attributes"]["tag"] == tag);
        let run = found.next().unwrap_or_else(|| panic!("no run of {tag}: {all:#?}"));
        assert!(found.next().is_none(), "{tag} ran once");
        run.clone()
    };
    let (good, bad) = (at("v1.0.0"), at("v1.1.0"));
    assert_eq!((&good["name"], &good["parent"]), (&json!("run"), &json!("")));
    assert_eq!(good["resource"]["service.name"], "pitlane");
    assert_eq!(
        (&good["path"], &good["type"]),
        (&json!("/v1/traces"), &json!("application/x-protobuf"))
    );
    assert_ne!(good["trace"], bad["trace"]);
    let steps = |run: &Value| -> Vec<Value> {
        all.iter().filter(|span| span["parent"] == run["span"]).cloned().collect()
    };
    let names: Vec<Value> = steps(&good).iter().map(|span| span["name"].clone()).collect();
    let journal = [
        "checkout", "model", "gates", "assemble", "prove", "push", "attest", "sign", "check",
        "promote",
    ];
    let mut want = journal.map(Value::from).to_vec();
    let mut have = names.clone();
    want.sort_by_key(Value::to_string);
    have.sort_by_key(Value::to_string);
    assert_eq!(have, want);
    for step in steps(&good) {
        assert_eq!((&step["trace"], &step["status"]), (&good["trace"], &json!(1)), "{step}");
        assert!(step["ms"].as_f64().unwrap() <= good["ms"].as_f64().unwrap(), "{step}");
        assert_eq!(step["attributes"]["run.id"], good["attributes"]["run.id"]);
    }
    let last = steps(&bad).into_iter().find(|step| step["status"] == 2).expect("one failed");
    assert_eq!(last["attributes"]["error.type"], failed["error"]["code"]);
    assert_eq!(last["name"], failed["failedStep"]);
    // The log has no word of them.
    let log = lane.log();
    assert!(
        !log.contains("pitlane_traces")
            && !log.contains("run{")
            && !log.contains("traces are lost"),
        "{log}"
    );
}

#[test]
fn a_collector_that_is_away_or_silent_holds_nothing_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [away, silent.local_addr().unwrap()] {
        let mut lane = lane(Some(&format!("http://{address}")));
        lane.release("v1.0.0");
        let began = Instant::now();
        lane.stop();
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let log = lane.log();
        let told = log.lines().filter(|line| line.contains("trace")).count();
        assert!((1..=3).contains(&told), "{log}");
    }
}

#[test]
fn without_the_field_nothing_is_sent_and_no_thread_waits() {
    let named = |lane: &Lane| {
        let threads = format!("/proc/{}/task", lane.service_id());
        let names = fs::read_dir(threads)
            .unwrap()
            .map(|one| fs::read_to_string(one.unwrap().path().join("comm")).unwrap_or_default());
        names.filter(|name| name.starts_with("OpenTelemetry")).count()
    };
    let off = lane(None);
    off.release("v1.0.0");
    assert_eq!(named(&off), 0);
    let on = lane(Some("http://127.0.0.1:9"));
    until(10, "the control has one", || (named(&on) > 0).then_some(()));
    let bad = Lane::new(quick, lapless);
    let file = bad.path("config/service.yaml");
    let mut config: Value = parse(fs::read(&file).unwrap());
    config["telemetry"] = json!({ "otlp": "ftp://collector" });
    fs::write(&file, config.to_string()).unwrap();
    let said = crate::common::run(bad.pitlane().args(["serve", "--config"]).arg(&file)).fails();
    assert!(said.contains("telemetry.otlp"), "{said}");
}
