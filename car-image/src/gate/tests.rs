//! Each rule of the gate, and the case just below it that must pass.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits =
    Limits { max_throttle: 0.5, reverse: false, throttle_rate: None, steering_rate: None };
const GO: Answer = Answer { steering: 0.25, throttle: 0.4 };

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A gate that has answered pictures every 50 ms up to and including `until`.
fn driving(until: u64) -> SafetyGate {
    driving_with(LIMITS, until)
}

fn driving_with(limits: Limits, until: u64) -> SafetyGate {
    let mut gate = SafetyGate::new(limits);
    for at in (0..=until).step_by(50) {
        gate.picture(ms(at), at + 1, None);
        gate.decide(ms(at), GO);
    }
    gate
}

fn is_go(command: Command) -> bool {
    command == Command { steering: 0.25, throttle: 0.4, brake: 0.0 }
}

fn is_eased(command: Command) -> bool {
    command == Command { steering: 0.25, throttle: 0.0, brake: 0.0 }
}

#[test]
fn nothing_passes_before_the_first_picture() {
    let mut gate = SafetyGate::new(LIMITS);
    assert_eq!(gate.decide(ms(0), GO), Command::STOP);
    assert_eq!(gate.decide_without(ms(0)), Command::STOP);
    assert_eq!(gate.watch(ms(10_000)), None, "nobody is waiting for a command yet");
    gate.picture(ms(10_000), 1, None);
    assert!(is_go(gate.decide(ms(10_001), GO)));
}

#[test]
fn a_pause_eases_then_stops_for_good() {
    let mut gate = driving(100);
    assert_eq!(gate.watch(ms(300)), None, "200 ms old is not too old");
    assert!(is_eased(gate.watch(ms(301)).unwrap()));
    assert_eq!(gate.watch(ms(350)), None, "said once");
    assert_eq!(gate.watch(ms(600)), None);
    assert_eq!(gate.watch(ms(601)), Some(Command::STOP));
    gate.picture(ms(650), 99, None);
    assert_eq!(gate.decide(ms(650), GO), Command::STOP, "latched");
    assert_eq!(gate.latched(), Some(StopReason::Stale));
    assert_eq!(gate.stops().stale, 1, "one episode");
}

#[test]
fn a_short_pause_is_forgiven() {
    let mut gate = driving(100);
    gate.watch(ms(400)).unwrap();
    gate.picture(ms(450), 99, None);
    assert!(is_go(gate.decide(ms(450), GO)));
    assert_eq!((gate.latched(), gate.stops().stale), (None, 1));
}

#[test]
fn a_gap_in_time_stops_without_a_watchdog() {
    let mut gate = driving(100);
    gate.picture(ms(601), 99, None);
    assert_eq!(gate.decide(ms(601), GO), Command::STOP);
    assert_eq!(gate.latched(), Some(StopReason::Stale));
}

#[test]
fn a_slow_model_eases_then_stops() {
    let mut gate = driving(100);
    gate.picture(ms(150), 99, None);
    assert!(is_eased(gate.decide(ms(351), GO)));
    gate.picture(ms(360), 100, None);
    assert!(is_go(gate.decide(ms(560), GO)), "200 ms is allowed");
    gate.picture(ms(600), 101, None);
    assert!(is_eased(gate.watch(ms(801)).unwrap()));
    assert_eq!(gate.watch(ms(1101)), Some(Command::STOP));
    assert_eq!(gate.decide(ms(1200), GO), Command::STOP);
    assert_eq!(gate.latched(), Some(StopReason::Slow));
    assert_eq!((gate.stops().slow, gate.stops().stale), (2, 0));
}

#[test]
fn a_frozen_picture_eases_then_stops() {
    let mut gate = driving(100);
    let mut seen = Vec::new();
    for at in (150..=1000).step_by(50) {
        gate.picture(ms(at), 101, None);
        seen.push(gate.decide(ms(at), GO));
    }
    // The content is as old as the frame at 100 ms.
    assert!(seen[..4].iter().all(|c| is_go(*c)), "{seen:?}");
    assert!(seen[4..10].iter().all(|c| is_eased(*c)), "{seen:?}");
    assert!(seen[10..].iter().all(|c| *c == Command::STOP), "{seen:?}");
    assert_eq!(gate.latched(), Some(StopReason::Frozen));
    assert_eq!(gate.stops().frozen, 1);
}

#[test]
fn a_standing_car_may_see_the_same_thing() {
    let mut gate = SafetyGate::new(LIMITS);
    let rest = Answer { steering: 0.0, throttle: 0.0 };
    for at in (0..=2000).step_by(50) {
        gate.picture(ms(at), 7, Some(0.0));
        assert_eq!(gate.decide(ms(at), rest).brake.to_bits(), 0);
    }
    // The same car, said to roll, may not.
    for at in (2050..=2600).step_by(50) {
        gate.picture(ms(at), 7, Some(1.0));
        gate.decide(ms(at), rest);
    }
    assert_eq!(gate.latched(), Some(StopReason::Frozen));
}

#[test]
fn no_numbers_latch_and_stay_latched() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for answer in [Answer { steering: bad, ..GO }, Answer { throttle: bad, ..GO }] {
            let mut gate = driving(100);
            gate.picture(ms(150), 99, None);
            assert_eq!(gate.decide(ms(150), answer), Command::STOP);
            gate.renew();
            gate.picture(ms(200), 100, None);
            assert_eq!(gate.decide(ms(200), GO), Command::STOP, "the model is at fault");
            assert_eq!(gate.stops().not_finite, 1);
        }
    }
}

#[test]
fn a_new_connection_clears_what_the_old_one_did() {
    let mut gate = driving(100);
    gate.stop(StopReason::Lost);
    gate.picture(ms(150), 99, None);
    assert_eq!(gate.decide(ms(150), GO), Command::STOP);
    gate.renew();
    assert_eq!(gate.decide(ms(200), GO), Command::STOP, "old pictures do not count");
    gate.picture(ms(9000), 100, None);
    assert!(is_go(gate.decide(ms(9000), GO)));
    assert_eq!(gate.stops().lost, 1);
}

#[test]
fn messages_without_pictures_do_not_refresh() {
    let mut gate = driving(100);
    assert!(is_go(gate.decide_without(ms(150))));
    assert!(is_eased(gate.decide_without(ms(301))));
    assert_eq!(gate.decide_without(ms(601)), Command::STOP);
    assert_eq!(gate.latched(), Some(StopReason::Stale));
}

#[test]
fn range_cap_and_direction() {
    let table = [
        (false, -7.0, 9.0, -1.0, 0.5),
        (false, 1.5, -0.3, 1.0, 0.0),
        (true, 0.5, -0.3, 0.5, -0.3),
        (true, 0.5, -3.0, 0.5, -0.5),
    ];
    for (reverse, steering, throttle, want_steering, want_throttle) in table {
        let mut gate = driving_with(Limits { reverse, ..LIMITS }, 0);
        gate.picture(ms(50), 99, None);
        let got = gate.decide(ms(50), Answer { steering, throttle });
        let want = Command { steering: want_steering, throttle: want_throttle, brake: 0.0 };
        assert_eq!(got, want, "{steering} {throttle}");
    }
}

#[test]
fn slew_limits_hold_on_the_way_up_only_for_throttle() {
    let limits = Limits { throttle_rate: Some(1.0), steering_rate: Some(4.0), ..LIMITS };
    let mut gate = SafetyGate::new(limits);
    gate.picture(ms(0), 1, None);
    let still = gate.decide(ms(0), GO);
    assert!(still.throttle.abs() < 1e-6 && still.steering.abs() < 1e-6);
    gate.picture(ms(50), 2, None);
    let first = gate.decide(ms(50), GO);
    assert!((first.throttle - 0.05).abs() < 1e-6 && (first.steering - 0.2).abs() < 1e-6);
    gate.picture(ms(100), 3, None);
    let off = gate.decide(ms(100), Answer { steering: -1.0, throttle: 0.0 });
    assert!(off.throttle.abs() < 1e-6 && off.steering.abs() < 1e-6, "{off:?}");
}

proptest! {
    /// Whatever happens in whatever order, what reaches the wheels is in range, and nothing
    /// with throttle comes out when the newest picture is older than allowed.
    #[test]
    fn commands_are_always_safe(steps in prop::collection::vec(
        (0_u64..400, 0_u8..5, any::<f32>(), any::<f32>(), 0_u64..3), 1..80)) {
        let mut gate = SafetyGate::new(LIMITS);
        let (mut now, mut shown) = (0, None);
        for (wait, what, steering, throttle, content) in steps {
            now += wait;
            let command = match what {
                0 | 1 => {
                    gate.picture(ms(now), content, None);
                    shown = Some(now);
                    gate.decide(ms(now), Answer { steering, throttle })
                }
                2 => gate.decide_without(ms(now)),
                3 => match gate.watch(ms(now)) { Some(c) => c, None => continue },
                _ => gate.decide(ms(now), Answer { steering, throttle }),
            };
            prop_assert!((-1.0..=1.0).contains(&command.steering));
            prop_assert!((0.0..=0.5).contains(&command.throttle));
            prop_assert!((0.0..=1.0).contains(&command.brake));
            if shown.is_none_or(|at| now - at > 200) {
                prop_assert!(command.throttle == 0.0);
            }
            if gate.latched().is_some() {
                prop_assert_eq!(command, Command::STOP);
            }
        }
    }
}
