//! Judged runs in lock step: what passes, what fails and how, and that it can be repeated.

use super::client::{Client, Twin};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;

fn report(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Runs a judged twin with a client; gives its exit code and report.
fn run(args: &[&str], client: impl FnOnce(&mut Client)) -> (Option<i32>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("laps.json");
    let args = [&["--lock-step", "--report", path.to_str().unwrap()][..], args].concat();
    let mut twin = Twin::start(&args);
    let mut connected = twin.connect();
    client(&mut connected);
    drop(connected);
    (twin.wait().code(), report(&path))
}

/// Three laps on a track, with pictures small enough not to spend the test's time on them.
fn three_laps(track: &str) {
    let (code, report) = run(&["--track", track, "--laps", "3", "--start", "0.3"], |client| {
        client.load(track);
        client.say(r#"{"msg_type":"cam_config","img_w":"48","img_h":"36"}"#);
        client.drive(0.3);
    });
    assert_eq!(code, Some(0), "{track}: {report}");
    assert_eq!(report["passed"], true);
    assert_eq!(report["laps"], 3);
    assert_eq!(report["reason"], Value::Null);
    assert_eq!(report["lapTimesS"].as_array().unwrap().len(), 3);
    let (mean, max) = (&report["meanAbsCteM"], report["maxAbsCteM"].as_f64().unwrap());
    assert!(mean.as_f64().unwrap() < 0.15 && max < 0.3, "{track}: {report}");
    assert!(report["trackDigest"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn three_laps_on_generated_road() {
    three_laps("generated_road");
}

#[test]
fn three_laps_on_warehouse() {
    three_laps("warehouse");
}

#[test]
fn three_laps_on_sparkfun_avc() {
    three_laps("sparkfun_avc");
}

#[test]
fn three_laps_on_generated_track() {
    three_laps("generated_track");
}

#[test]
fn three_laps_on_mountain_track() {
    three_laps("mountain_track");
}

#[test]
fn straight_on_is_off_the_road() {
    let (code, report) = run(&["--laps", "1"], |client| {
        client.load("generated_track");
        while client.wait_for("telemetry").is_some() {
            client.control(0.0, 0.3);
        }
    });
    assert_eq!(code, Some(10));
    assert_eq!(report["reason"], "off-road");
    assert_eq!(report["offRoad"], true);
    assert_eq!(report["passed"], false);
    assert!(report["maxAbsCteM"].as_f64() > report["roadHalfWidthM"].as_f64());
}

#[test]
fn the_operators_track_counts_not_the_clients() {
    let (_, report) = run(&["--laps", "1", "--track", "mountain_track"], |client| {
        client.load("generated_road");
        client.wait_for("telemetry").unwrap();
    });
    assert_eq!(report["track"], "mountain_track");
}

#[test]
fn a_client_that_leaves_has_failed() {
    let (code, report) = run(&["--laps", "1"], |client| {
        client.load("generated_track");
        for _ in 0..5 {
            client.wait_for("telemetry").unwrap();
            client.control(0.0, 0.1);
        }
    });
    assert_eq!((code, &report["reason"]), (Some(10), &Value::from("disconnected")));
}

#[test]
fn leaving_the_scene_or_standing_still_fails_too() {
    let (code, report) = run(&["--laps", "1"], |client| {
        client.load("generated_track");
        client.wait_for("telemetry").unwrap();
        client.say(r#"{"msg_type":"exit_scene"}"#);
        assert_eq!(client.wait_for("telemetry"), None);
    });
    assert_eq!((code, &report["reason"]), (Some(10), &Value::from("disconnected")));

    let (code, report) = run(&["--laps", "1", "--max-seconds", "3"], |client| {
        client.load("generated_track");
        assert_eq!(client.drive(0.0), 61);
    });
    assert_eq!((code, &report["reason"]), (Some(10), &Value::from("time")));

    let (code, report) = run(&["--laps", "1", "--reply-timeout", "0.2"], |client| {
        client.load("generated_track");
        client.wait_for("telemetry").unwrap();
        assert_eq!(client.next(), None, "silence ends the run");
    });
    assert_eq!((code, &report["reason"]), (Some(10), &Value::from("time")));
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let trace = |name: &str, seed: &str| {
        let path = folder.path().join(name);
        let faults = "drop=0.1,delay-ms=50,freeze-at=20,blackout-at=25";
        let mut twin = Twin::start(&[
            "--lock-step",
            "--laps",
            "1",
            "--light",
            "random",
            "--seed",
            seed,
            "--track",
            "warehouse",
            "--fault",
            faults,
            "--trace",
            path.to_str().unwrap(),
        ]);
        let mut client = twin.connect();
        client.load("warehouse");
        client.drive(0.25);
        twin.wait();
        std::fs::read_to_string(path).unwrap()
    };
    let (first, again, other) = (trace("a", "5"), trace("b", "5"), trace("c", "6"));
    assert!(first.lines().count() > 300, "{}", first.lines().count());
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn faults_end_a_run_or_blind_it() {
    let (code, report) = run(&["--laps", "1", "--fault", "close-at=1"], |client| {
        client.load("generated_track");
        assert_eq!(client.drive(0.3), 21);
    });
    assert_eq!((code, &report["reason"]), (Some(10), &Value::from("disconnected")));
    // Blind in lock step: the last control holds and the car leaves the road.
    let (code, report) = run(&["--laps", "1", "--fault", "stall-at=1"], |client| {
        client.load("generated_track");
        client.drive(0.3);
    });
    assert_eq!((code, &report["reason"]), (Some(10), &Value::from("off-road")));
}

#[test]
fn a_drawing_and_a_trace_are_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (plot, trace) = (folder.path().join("laps.svg"), folder.path().join("laps.jsonl"));
    let args =
        ["--laps", "1", "--plot", plot.to_str().unwrap(), "--trace", trace.to_str().unwrap()];
    let (code, report) = run(&args, |client| {
        client.load("generated_track");
        client.drive(0.3);
    });
    assert_eq!(code, Some(0));
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("generated_track") && svg.matches("<polyline").count() > 3);
    let lines: Vec<Value> = std::fs::read_to_string(trace)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len() as u64, report["frames"].as_u64().unwrap());
    assert_eq!(lines[7]["frame"], 7);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no partial files");
}

#[test]
fn nobody_or_only_probes_is_an_error() {
    let mut twin = Twin::start(&["--laps", "1", "--connect-timeout", "0.6"]);
    for _ in 0..3 {
        drop(twin.connect());
    }
    assert_eq!(twin.wait().code(), Some(1));
}

#[test]
fn the_twin_dials_a_client_that_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().to_string();
    let mut twin = Twin::spawn(&["--dial", &port, "--laps", "1", "--lock-step"]);
    let (stream, _) = listener.accept().unwrap();
    let mut client = Client::new(Box::new(stream));
    client.load("generated_track");
    client.drive(0.3);
    assert_eq!(twin.wait().code(), Some(0));
}
