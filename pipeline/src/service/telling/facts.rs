//! What is to be told of a run, an alert or a car as it stands now: everything that is true of it.
//! Each fact has the same id whenever it is told, so what was told before is told no more. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pitlane_notify::{About, Event, What};
use serde_json::Value;

use crate::{
    lane::{Step, StepError},
    service::store::{
        Alert, Car, CarState, Placed, Run, RunState, StepOutcome, StepRecord, output,
    },
};

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn duration(from: i64, to: i64) -> u64 {
    u64::try_from(to - from).unwrap_or(0)
}

/// The facts of a run, in the order in which they happened.
pub(super) fn of_run(run: &Run, steps: &[StepRecord], places: &[Placed]) -> Vec<Event> {
    let commit = output(steps, Step::Checkout).and_then(|found| found["commit"].as_str());
    let about = About {
        run: Some(run.id.clone()),
        pipeline: Some(run.pipeline.clone()),
        repository: Some(run.repository.clone()),
        tag: Some(run.tag.clone()),
        commit: commit.map(str::to_owned).or_else(|| run.commit.clone()),
        counter: Some(run.counter),
        car_kind: Some(run.car_kind.clone()),
    };
    // Its commit may be found out by the checkout alone, and a fact's id must not change by it.
    let queued = About { commit: None, ..about.clone() };
    let mut facts = vec![Event::new(
        What::RunQueued { rollback: run.rollback },
        queued.clone(),
        "",
        time(run.created),
    )];
    let mut tell = |what: What, occurrence: &str, at: i64| {
        facts.push(Event::new(what, about.clone(), occurrence, time(at)));
    };
    let mut ended: Vec<&StepRecord> = steps.iter().filter(|one| one.finished.is_some()).collect();
    ended.sort_by_key(|one| (one.finished, one.step, one.attempt));
    for one in ended {
        let (step, at) = (one.step.name().to_owned(), one.finished.unwrap_or(one.started));
        let attempt = one.attempt.to_string();
        match (one.outcome, &one.error) {
            (StepOutcome::Done, _) => {
                let duration_ms = duration(one.started, at);
                tell(What::StepFinished { step, duration_ms }, &attempt, at);
            }
            (StepOutcome::Failed, Some(error)) => {
                // A no is told as one: what is tried again, or what broke, is another thing.
                if error.refused {
                    let StepError { code, message, hint, .. } = error.clone();
                    if one.step == Step::Gates {
                        tell(gate(error), &attempt, at);
                    }
                    tell(What::RunRefused { step, code, message, hint }, &attempt, at);
                } else {
                    let later =
                        |other: &StepRecord| other.step == one.step && other.attempt > one.attempt;
                    let again = steps.iter().any(later) || run.state == RunState::Running;
                    let StepError { code, message, hint, .. } = error.clone();
                    let attempt = one.attempt;
                    let what = What::StepFailed { step, code, message, hint, attempt, again };
                    tell(what, "", at);
                }
            }
            _ => {}
        }
    }
    if run.state == RunState::Done {
        let check = output(steps, Step::Check);
        let image = check.and_then(|check| check["image"].as_str()).unwrap_or_default().to_owned();
        if run.rollback {
            tell(What::RolledBack { image }, "", run.updated);
        } else {
            let platforms = output(steps, Step::Sign).map(platforms).unwrap_or_default();
            let first = steps.iter().map(|one| one.started).min().unwrap_or(run.created);
            let last = steps.iter().filter_map(|one| one.finished).max().unwrap_or(run.updated);
            let duration_ms = duration(first, last);
            tell(What::RunReleased { image, platforms, duration_ms }, "", last);
        }
    }
    for place in places {
        let made = &place.progress["promotion"];
        let (Some(commit), Some(to)) = (made["commit"].as_str(), made["to"].as_str()) else {
            continue;
        };
        let what = What::Promoted {
            target: place.environment.clone(),
            commit: commit.to_owned(),
            from: made["from"].as_str().map(str::to_owned),
            to: to.to_owned(),
        };
        tell(what, "", place.time);
    }
    facts
}

fn platforms(signed: &Value) -> BTreeMap<String, String> {
    let listed = signed["release"]["platforms"].as_object().into_iter().flatten();
    let texts = listed.filter_map(|(name, digest)| Some((name.clone(), digest.as_str()?.into())));
    texts.collect()
}

fn gate(error: &StepError) -> What {
    // It begins with the gate's name (steps/gates.rs).
    let gate = error.message.split('`').nth(1).unwrap_or("gates").to_owned();
    What::GateFailed { gate, message: error.message.clone(), findings: BTreeMap::new() }
}

/// The fact of an alert, if it is one for people.
pub(super) fn of_alert(alert: &Alert) -> Option<Event> {
    if !alert.code.starts_with("tag-moved") {
        return None;
    }
    // `moved from A to B: …`; `moved to B …` where A was never seen.
    let word = |after: &str| {
        let rest = alert.message.split_once(after)?.1;
        rest.split([' ', ':']).next().map(str::to_owned)
    };
    let (was, now) = (word("from ").unwrap_or_default(), word(" to ").unwrap_or_default());
    let about = About {
        repository: Some(alert.repository.clone()),
        tag: Some(alert.tag.clone()),
        ..About::default()
    };
    Some(Event::new(What::TagMoved { was, now }, about, &alert.code, time(alert.first_seen)))
}

/// The fact of what a car said; that it drives is none.
pub(super) fn of_car(car: &Car) -> Option<Event> {
    let (name, image) = (car.car.clone(), car.status.image.clone());
    let code = || car.status.code.clone().unwrap_or_default();
    let message = || car.status.message.clone().unwrap_or_default();
    let what = match car.status.state {
        CarState::Driving => return None,
        CarState::Confirmed => What::CarConfirmed { car: name, image },
        CarState::Refused => {
            What::CarRefused { car: name, image, code: code(), message: message() }
        }
        CarState::Blocked => {
            What::CarBlocked { car: name, image, code: code(), message: message() }
        }
    };
    let about = About {
        pipeline: Some(car.pipeline.clone()),
        counter: car.status.counter,
        ..About::default()
    };
    Some(Event::new(what, about, "", time(car.time)))
}

#[cfg(test)]
mod tests {
    use pitlane_notify::Kind;
    use serde_json::json;

    use super::*;

    fn run(state: RunState) -> Run {
        serde_json::from_value(json!({
            "id": "r1-00", "seq": 1, "state": state, "repository": "octo/car", "tag": "v1",
            "commit": null, "object": "a".repeat(40), "pipeline": "car", "carKind": "donkeycar",
            "counter": 3, "rollback": false, "created": 1000, "updated": 9000, "failedStep": null,
            "error": null,
        }))
        .unwrap()
    }

    fn step(step: Step, attempt: u32, at: i64, outcome: StepOutcome) -> StepRecord {
        let output = (outcome == StepOutcome::Done).then(|| match step {
            Step::Checkout => json!({ "commit": "c".repeat(40) }),
            Step::Check => json!({ "image": "r.example/car@sha256:1" }),
            _ => Value::Null,
        });
        StepRecord {
            step,
            attempt,
            outcome,
            started: at,
            finished: Some(at + 5),
            output,
            error: None,
        }
    }

    fn failed(retryable: bool, refused: bool) -> StepError {
        let mut error = StepError::new("gate-failed", "gate `lint`: three errors", "mend them");
        (error.retryable, error.refused) = (retryable, refused);
        error
    }

    fn kinds(facts: &[Event]) -> Vec<Kind> {
        facts.iter().map(Event::kind).collect()
    }

    #[test]
    fn facts_of_a_run_stay_the_same_while_it_goes_on() {
        let early = of_run(&run(RunState::Queued), &[], &[]);
        let mut steps = vec![step(Step::Checkout, 1, 2000, StepOutcome::Done)];
        let running = of_run(&run(RunState::Running), &steps, &[]);
        steps.push(step(Step::Check, 1, 3000, StepOutcome::Done));
        let place = Placed {
            pipeline: "car".into(),
            environment: "sim".into(),
            counter: 3,
            run: "r1-00".into(),
            progress: json!({ "promotion": { "commit": "d", "from": "x", "to": "sha256:1" } }),
            time: 9500,
        };
        let done = of_run(&run(RunState::Done), &steps, &[place]);
        let ids = |facts: &[Event]| facts.iter().map(|f| f.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&early)[..], ids(&done)[..1]);
        assert_eq!(ids(&running)[..], ids(&done)[..2]);
        use Kind::{Promoted, RunQueued, RunReleased, StepFinished};
        assert_eq!(kinds(&done), [RunQueued, StepFinished, StepFinished, RunReleased, Promoted]);
    }

    #[test]
    fn a_no_is_told_as_one_and_what_broke_as_another() {
        let refused = StepRecord {
            error: Some(failed(false, true)),
            ..step(Step::Gates, 1, 2000, StepOutcome::Failed)
        };
        let facts = of_run(&run(RunState::Failed), &[refused], &[]);
        assert_eq!(kinds(&facts), [Kind::RunQueued, Kind::GateFailed, Kind::RunRefused]);
        assert!(matches!(&facts[1].what, What::GateFailed { gate, .. } if gate == "lint"));
        let broke = |attempt| StepRecord {
            error: Some(failed(true, false)),
            ..step(Step::Push, attempt, 2000 + i64::from(attempt), StepOutcome::Failed)
        };
        let facts = of_run(&run(RunState::Failed), &[broke(1), broke(2)], &[]);
        let again = |fact: &Event| matches!(fact.what, What::StepFailed { again: true, .. });
        assert_eq!(facts.iter().map(again).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn alerts_and_cars() {
        let alert = Alert {
            code: "tag-moved".into(),
            repository: "octo/car".into(),
            tag: "v1".into(),
            message: "moved from aaa to bbb: no run was started".into(),
            first_seen: 1,
            last_seen: 2,
            times: 1,
        };
        let moved = of_alert(&alert).unwrap();
        assert_eq!(moved.what, What::TagMoved { was: "aaa".into(), now: "bbb".into() });
        assert!(of_alert(&Alert { code: "disk".into(), ..alert }).is_none());
        let car = |state| {
            let image = "r.example/car@sha256:1".to_owned();
            let status = crate::service::store::CarStatus {
                state,
                image,
                counter: Some(1),
                code: None,
                message: None,
            };
            let (pipeline, environment) = ("car".to_owned(), "sim".to_owned());
            Car { pipeline, car: "s1".into(), environment, status, time: 1 }
        };
        assert!(of_car(&car(CarState::Driving)).is_none());
        assert_eq!(of_car(&car(CarState::Confirmed)).unwrap().kind(), Kind::CarConfirmed);
    }
}
