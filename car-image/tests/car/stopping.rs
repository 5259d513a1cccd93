//! The car stops: each reason, from outside.

use std::time::{Duration, Instant};

use crate::car::Car;
use crate::sim::{Control, Listener, picture, telemetry};

const HALF_SECOND: Duration = Duration::from_millis(500);

#[test]
fn when_frames_stay_out() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("tiny.onnx", &address, &["--frames", "12"]);
    let mut sim = listener.greet();
    let last = sim.drive(10);
    let since = Instant::now();
    let eased = sim.control();
    // `drive` slept 45 ms after its last answer; machines under load are late, never early.
    let waited = since.elapsed() + Duration::from_millis(50);
    assert_eq!(eased, Control { throttle: 0.0, ..last }, "steering stays");
    assert!(waited > Duration::from_millis(190), "{waited:?}");
    assert_eq!(sim.control(), Control::STOP);
    let waited = since.elapsed() + Duration::from_millis(50);
    assert!(waited > Duration::from_millis(490) && waited < Duration::from_secs(3), "{waited:?}");
    assert_eq!(sim.drive(2), Control::STOP, "new frames do not start it again");
    let ended = car.wait();
    assert_eq!(ended.code, Some(10), "{}", ended.stderr);
    let gate = &ended.report.unwrap()["gate"];
    assert_eq!((&gate["latched"], &gate["stops"]["stale"]), (&"stale".into(), &1.into()));
}

#[test]
fn when_the_picture_is_frozen() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("tiny.onnx", &address, &["--lock-step", "--frames", "40"]);
    let mut sim = listener.greet();
    let frozen = picture(255, 1);
    let mut throttles = Vec::new();
    for n in 1..=40 {
        sim.say(&telemetry(&frozen, n));
        let control = sim.control();
        throttles.push((control.throttle > 0.0, control.brake > 0.0));
    }
    // The first frame starts no clock: nothing was commanded yet.
    let ease = throttles.iter().position(|t| *t == (false, false)).unwrap();
    let stop = throttles.iter().position(|t| *t == (false, true)).unwrap();
    assert_eq!((ease, stop), (5, 11), "{throttles:?}");
    let ended = car.wait();
    assert_eq!(ended.code, Some(10));
    assert_eq!(ended.report.unwrap()["gate"]["latched"], "frozen");
}

#[test]
fn when_the_model_answers_nonsense() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("nan.onnx", &address, &["--lock-step", "--frames", "4"]);
    let mut sim = listener.greet();
    sim.frame(20);
    assert!(sim.control().throttle > 0.4, "a dark picture is answered with a number");
    for level in [255, 20, 20] {
        sim.frame(level);
        assert_eq!(sim.control(), Control::STOP);
    }
    let ended = car.wait();
    assert_eq!(ended.code, Some(10));
    let gate = &ended.report.unwrap()["gate"];
    assert_eq!((&gate["latched"], &gate["stops"]["not_finite"]), (&"not_finite".into(), &1.into()));
}

#[test]
fn when_the_model_never_answers() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("endless.onnx", &address, &["--frames", "3"]);
    let mut sim = listener.greet();
    sim.frame(255);
    let since = Instant::now();
    assert_eq!(sim.control(), Control { throttle: 0.0, ..Control::STOP });
    assert_eq!(sim.control(), Control::STOP);
    assert!(since.elapsed() > Duration::from_millis(450), "{:?}", since.elapsed());
    // The inference is ended, and the car can be talked to again.
    for _ in 0..3 {
        assert_eq!(sim.control(), Control::STOP);
        std::thread::sleep(Duration::from_millis(50));
        sim.frame(255);
    }
    let ended = car.wait();
    assert_eq!(ended.code, Some(10), "{}", ended.stderr);
    assert_eq!(ended.report.unwrap()["gate"]["latched"], "slow");
}

#[test]
fn on_signals_within_moments() {
    for name in ["TERM", "INT", "HUP"] {
        let (listener, address) = Listener::tcp();
        let car = Car::start("tiny.onnx", &address, &[]);
        let mut sim = listener.greet();
        assert!(sim.drive(3).throttle > 0.0);
        car.signal(name);
        assert_eq!(sim.rest(), [Control::STOP], "{name}");
        let ended = car.wait();
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.stderr);
        assert!(ended.took < HALF_SECOND, "{name}: {:?}", ended.took);
        assert_eq!(ended.report.unwrap()["outcome"], "signal");
        assert_eq!(ended.status["state"], "stopped");
    }
}

#[test]
fn on_a_signal_while_it_waits_for_a_simulator() {
    let (listener, address) = Listener::tcp();
    drop(listener);
    let car = Car::start("tiny.onnx", &address, &["--connect-timeout", "60"]);
    std::thread::sleep(HALF_SECOND);
    car.signal("TERM");
    let ended = car.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
}

#[test]
fn when_there_is_nothing_to_see() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("tiny.onnx", &address, &["--lock-step"]);
    let mut sim = listener.greet();
    sim.frame(255);
    assert!(sim.control().throttle > 0.0);
    let mut seen = Vec::new();
    for n in 2.. {
        if sim.try_say(&telemetry("bm90IGEgcGljdHVyZQ==", n)).is_err() {
            break;
        }
        let Some(control) = sim.control_within(Duration::from_secs(5)) else { break };
        seen.push(control);
    }
    assert!(seen[3].throttle > 0.0 && seen[4].throttle < 1e-6, "{:?}", &seen[..6]);
    assert_eq!(seen[10], Control::STOP);
    assert!((199..=201).contains(&seen.len()), "{}", seen.len());
    let ended = car.wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("none usable"), "{}", ended.stderr);
}

#[test]
fn when_a_message_has_no_end() {
    let (listener, address) = Listener::tcp();
    let car = Car::start("tiny.onnx", &address, &[]);
    let mut sim = listener.greet();
    let flood = "x".repeat(1 << 20);
    let refused = (0..64).any(|_| sim.flood(&flood).is_err());
    assert!(refused, "64 MiB were taken");
    let ended = car.wait();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("more than 4194304 bytes"), "{}", ended.stderr);
}
