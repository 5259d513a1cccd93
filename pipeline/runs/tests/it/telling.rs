//! Following, telling, duties and environments; each case with both stores.

use pitlane_runs::{
    lane::Step,
    store::{Approved, Car, CarState, CarStatus, Changed, Fact, Placed},
};
use serde_json::json;

use crate::{
    deliveries::{commit, delivery, queue, route},
    place::Place,
    store::both,
};

both! {
    a_follower_misses_nothing_and_reads_the_newest,
    facts_are_told_once,
    one_alone_is_on_duty,
    what_cars_and_people_said_is_kept,
}

async fn a_follower_misses_nothing_and_reads_the_newest(place: Place) {
    let store = place.open();
    let car = route("octo/car", "car");
    queue(&store, &car, "v1").await;
    store.follow("hub").await.unwrap();
    assert_eq!(store.changes("hub").await.unwrap(), [], "what was before is not told");
    let run = queue(&store, &car, "v2").await;
    let claim = store.claim("test").await.unwrap().unwrap();
    store.advance(&claim.lease, Step::Checkout, &json!(1), Some(Step::Model)).await.unwrap();
    let ids = |changes: &[pitlane_runs::store::Change]| -> Vec<_> {
        changes.iter().map(|change| change.what.clone().unwrap()).collect()
    };
    let changes = store.changes("hub").await.unwrap();
    let first = claim.run.id.clone();
    assert_eq!(ids(&changes), [Changed::Run(run.clone()), Changed::Run(first.clone())]);
    // Not kept: read again, by the next process too.
    assert_eq!(store.changes("hub").await.unwrap(), changes);
    store.followed("hub", changes[0].seq).await.unwrap();
    store.follow("hub").await.unwrap();
    assert_eq!(ids(&store.changes("hub").await.unwrap()), [Changed::Run(first.clone())]);
    store.followed("hub", changes[1].seq).await.unwrap();
    store.followed("hub", 1).await.unwrap();
    assert_eq!(store.changes("hub").await.unwrap(), [], "never back");
    // A renewed lease is no news, a moved tag is.
    store.renew(&claim.lease).await.unwrap();
    assert_eq!(store.changes("hub").await.unwrap(), []);
    store.deliver(delivery("moved", &car, "v2", &commit(7))).await.unwrap();
    let found = ids(&store.changes("hub").await.unwrap());
    assert!(
        matches!(&found[..], [Changed::Alert(alert)] if alert.code == "tag-moved"),
        "{found:?}"
    );
    assert_eq!(store.changes("stranger").await.unwrap(), []);
}

async fn facts_are_told_once(place: Place) {
    let store = place.open();
    let fact = |id: &str, channels: &[&str]| Fact {
        id: id.to_owned(),
        event: format!("{{\"id\":\"{id}\"}}"),
        channels: channels.iter().map(|&name| name.to_owned()).collect(),
    };
    let facts = vec![fact("a", &["chat", "broker"]), fact("b", &["chat"]), fact("c", &[])];
    assert_eq!(store.tell(facts.clone()).await.unwrap(), 3);
    assert_eq!(store.tell(facts.clone()).await.unwrap(), 0);
    let first = store.waiting("chat").await.unwrap().unwrap();
    assert_eq!((first.event.as_str(), first.attempts, first.due), ("{\"id\":\"a\"}", 0, None));
    store.tell_later("chat", "a", 2, 1000, 5000).await.unwrap();
    let again = store.waiting("chat").await.unwrap().unwrap();
    assert_eq!((again.attempts, again.first_try, again.due), (2, Some(1000), Some(5000)));
    store.told("chat", "a").await.unwrap();
    assert_eq!(store.waiting("chat").await.unwrap().unwrap().event, "{\"id\":\"b\"}");
    assert_eq!(store.tell(facts).await.unwrap(), 0, "what was told is not told again");
    assert!(store.waiting("broker").await.unwrap().is_some(), "each for itself");
    store.tell(vec![fact("d", &["chat"]), fact("e", &["chat"])]).await.unwrap();
    assert_eq!(store.shed("chat", 1).await.unwrap(), 2);
    assert_eq!(store.shed("chat", 1).await.unwrap(), 0);
    assert_eq!(store.waiting("chat").await.unwrap().unwrap().event, "{\"id\":\"e\"}");
    store.keep_channels(vec!["chat".to_owned()]).await.unwrap();
    assert!(store.waiting("broker").await.unwrap().is_none());
}

async fn one_alone_is_on_duty(place: Place) {
    let store = place.open();
    assert!(store.on_duty("look", "one", 60_000).await.unwrap());
    assert!(!store.on_duty("look", "two", 60_000).await.unwrap());
    assert!(store.on_duty("look", "one", 60_000).await.unwrap(), "kept");
    assert!(store.on_duty("tell", "two", 60_000).await.unwrap(), "another duty");
    store.off_duty("look", "two").await.unwrap();
    assert!(!store.on_duty("look", "two", 60_000).await.unwrap());
    store.off_duty("look", "one").await.unwrap();
    assert!(store.on_duty("look", "two", -1).await.unwrap());
    assert!(store.on_duty("look", "one", 60_000).await.unwrap(), "its time was over");
}

/// A service that was killed and started again does not wait for itself.
#[tokio::test]
async fn a_duty_ends_with_the_process_that_had_the_file() {
    let place = Place::sqlite();
    let store = place.open();
    assert!(store.on_duty("look", "one", 60_000).await.unwrap());
    drop(store);
    assert!(place.open().on_duty("look", "two", 60_000).await.unwrap());
}

async fn what_cars_and_people_said_is_kept(place: Place) {
    let store = place.open();
    store.follow("hub").await.unwrap();
    let digest = format!("sha256:{}", "a".repeat(64));
    let said = |car: &str, state| Car {
        pipeline: "car".to_owned(),
        car: car.to_owned(),
        environment: "sim".to_owned(),
        status: CarStatus {
            state,
            image: format!("r.example/car@{digest}"),
            counter: Some(3),
            code: None,
            message: None,
        },
        time: 5,
    };
    store.car_said(said("s1", CarState::Driving)).await.unwrap();
    assert!(store.confirmed_by("car", "sim", &digest).await.unwrap().is_empty());
    store.car_said(said("s1", CarState::Confirmed)).await.unwrap();
    store.car_said(said("s2", CarState::Confirmed)).await.unwrap();
    store.car_said(said("s1", CarState::Driving)).await.unwrap();
    assert_eq!(store.confirmed_by("car", "sim", &digest).await.unwrap(), ["s1", "s2"]);
    assert!(store.confirmed_by("car", "rc", &digest).await.unwrap().is_empty());
    let cars = store.cars(None).await.unwrap();
    assert_eq!(cars, [said("s1", CarState::Driving), said("s2", CarState::Confirmed)]);
    let one = store.cars(Some(("car".into(), "s2".into()))).await.unwrap();
    assert_eq!(one, cars[1..]);
    let word = Approved {
        pipeline: "car".into(),
        environment: "street".into(),
        counter: 3,
        digest: digest.clone(),
        by: "ada".into(),
        time: 9,
    };
    store.approve(word.clone()).await.unwrap();
    store.approve(Approved { by: "eve".into(), ..word.clone() }).await.unwrap();
    assert_eq!(store.approvals("car", "street").await.unwrap(), [word], "the first word stands");
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    let at = |outcome: &str, time| Placed {
        pipeline: "car".into(),
        environment: "sim".into(),
        counter: 1,
        run: run.clone(),
        progress: json!({ "outcome": outcome }),
        time,
    };
    assert!(store.placed(at("waits", 1)).await.unwrap());
    assert!(!store.placed(at("waits", 2)).await.unwrap(), "no news");
    assert!(store.placed(at("committed", 3)).await.unwrap());
    assert_eq!(store.places(&run).await.unwrap(), [at("committed", 3)]);
    let changes = store.changes("hub").await.unwrap();
    let found: Vec<_> = changes.into_iter().filter_map(|change| change.what).collect();
    let of = |car: &str| Changed::Car("car".into(), car.into());
    assert_eq!(found, [of("s2"), of("s1"), Changed::Approval("car".into()), Changed::Run(run)]);
}
