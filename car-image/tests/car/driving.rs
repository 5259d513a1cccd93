//! The car drives: what it says, how often, and what it leaves.

use std::time::Duration;

use crate::car::Car;
use crate::sim::{Control, Listener, picture, telemetry};

/// What tiny.onnx answers to white, by `selftest` on the same model.
const WHITE: (f32, f32) = (0.426, 0.368);

fn is_near(control: Control, steering: f32, throttle: f32) -> bool {
    // JPEG and the frame's mark move the answer a little.
    (control.steering - steering).abs() < 0.01 && (control.throttle - throttle).abs() < 0.01
}

#[test]
fn lock_step_answers_each_frame_once() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, address) = Listener::unix(&dir.path().join("sim.sock"));
    let car = Car::start("tiny.onnx", &address, &["--lock-step", "--frames", "100"]);
    let mut sim = listener.greet();
    for n in 0..100 {
        // The simulator's clock is the only one: pauses do not matter.
        if n == 50 {
            std::thread::sleep(Duration::from_millis(700));
        }
        let level = if n % 2 == 0 { 255 } else { 0 };
        sim.frame(level);
        let got = sim.control();
        let (steering, throttle) = if level == 255 { WHITE } else { (0.021, 0.209) };
        assert!(is_near(got, steering, throttle), "frame {n}: {got:?}");
    }
    assert_eq!(sim.rest(), [Control::STOP], "ends with neutral and brake");
    let ended = car.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = ended.report.unwrap();
    assert_eq!(report["outcome"], "frames");
    assert_eq!((&report["frames"], &report["skipped"]), (&100.into(), &0.into()));
    assert_eq!(report["gate"]["stops"]["stale"], 0);
    for field in ["latency_p50_ms", "latency_p99_ms", "inference_p50_ms", "overhead_cpu_ms"] {
        let value = report[field].as_f64().unwrap();
        assert!(value > 0.0 && value < 1000.0, "{field}: {value}");
    }
    assert_eq!(ended.status["state"], "stopped");
}

#[test]
fn real_time_keeps_the_pace_and_tells_the_agent() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("tiny.onnx", &address, &[]);
    let mut sim = listener.greet();
    assert!(is_near(sim.drive(30), WHITE.0, WHITE.1));
    let status = car.status();
    assert_eq!(status["state"], "driving", "{status}");
    assert!(status["frames"].as_u64().unwrap() > 5, "{status}");
    assert!(status["loop_hz"].as_f64().unwrap() > 5.0, "{status}");
    drop(sim);
    let ended = car.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = ended.report.unwrap();
    assert_eq!((&report["outcome"], &report["frames"]), (&"closed".into(), &30.into()));
}

#[test]
fn a_simulator_that_leaves_without_a_word_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, address) = Listener::unix(&dir.path().join("sim.sock"));
    let car = Car::start("tiny.onnx", &address, &["--lock-step"]);
    let mut sim = listener.greet();
    for _ in 0..3 {
        sim.frame(255);
        sim.control();
    }
    sim.frame(255);
    std::thread::sleep(Duration::from_millis(100));
    // The answer lies unread: the car sees a reset, not an end.
    drop(sim);
    let ended = car.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.report.unwrap()["outcome"], "closed");
}

#[test]
fn limits_hold_whatever_the_model_says() {
    let (listener, address) = Listener::tcp();
    let more = ["--lock-step", "--max-throttle", "0.3", "--frames", "3"];
    let car = Car::start("wild.onnx", &address, &more);
    let mut sim = listener.greet();
    for _ in 0..3 {
        sim.frame(128);
        assert_eq!(sim.control(), Control { steering: -1.0, throttle: 0.3, brake: 0.0 });
    }
    let ended = car.wait();
    assert_eq!((ended.code, &ended.report.unwrap()["gate"]["limited"]), (Some(0), &3.into()));
}

#[test]
fn of_many_frames_the_newest_is_answered() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("tiny.onnx", &address, &[]);
    let mut sim = listener.greet();
    sim.frame(0);
    sim.control();
    let burst: Vec<String> = [0, 0, 0, 255]
        .iter()
        .zip(2..)
        .map(|(level, n)| telemetry(&picture(*level, n), n))
        .collect();
    std::thread::sleep(Duration::from_millis(60));
    sim.say(&burst.join("\n"));
    assert!(is_near(sim.control(), WHITE.0, WHITE.1), "the last of the burst is white");
    drop(sim);
    assert_eq!(car.wait().report.unwrap()["skipped"], 3);
}

#[test]
fn a_lost_connection_is_taken_up_again() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("tiny.onnx", &address, &["--reconnect-seconds", "10"]);
    let mut sim = listener.greet();
    sim.drive(3);
    drop(sim);
    let mut sim = listener.greet();
    assert!(is_near(sim.drive(3), WHITE.0, WHITE.1));
    car.signal("TERM");
    assert_eq!(sim.rest(), [Control::STOP]);
    let ended = car.wait();
    let report = ended.report.unwrap();
    assert_eq!((&report["reconnects"], &report["frames"]), (&1.into(), &6.into()));
    assert_eq!(report["gate"]["stops"]["lost"], 1);
}

#[test]
fn without_a_simulator_it_says_so() {
    let (listener, address) = Listener::tcp();
    drop(listener);
    let ended = Car::start("tiny.onnx", &address, &["--connect-timeout", "1"]).wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("no connection within 1s"), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(5));
}

#[test]
fn a_scene_that_is_not_there_is_named() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("tiny.onnx", &address, &["--scene", "moon"]);
    let mut sim = listener.accept();
    sim.say(r#"{"msg_type":"scene_names","scene_names":["a","b"]}"#);
    let ended = car.wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("no scene `moon`; it offers: a, b"), "{}", ended.stderr);
}
