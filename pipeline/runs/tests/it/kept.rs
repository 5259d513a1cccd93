//! What the store keeps, for how long, and what somebody may still need; with both stores.

use std::collections::BTreeSet;

use pitlane_runs::{
    lane::Step,
    store::{Approved, Car, CarState, CarStatus, StepOutcome, StoreError},
};
use serde_json::json;

use crate::{
    deliveries::{commit, delivery, queue, route},
    place::Place,
    store::{both, failure},
};

both! {
    a_document_is_kept_once,
    what_is_needed_stays_and_the_rest_is_let_go,
    bodies_of_the_newest_deliveries_are_kept,
}

async fn a_document_is_kept_once(place: Place) {
    let store = place.open();
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    assert_eq!(store.document(&run, "release.json").await.unwrap(), None);
    let tasks = (0..8_u8).map(|n| {
        let (store, run) = (store.clone(), run.clone());
        tokio::spawn(async move { store.keep_document(&run, "release.json", vec![n]).await })
    });
    let mut kept = BTreeSet::new();
    for task in tasks.collect::<Vec<_>>() {
        kept.insert(task.await.unwrap().unwrap());
    }
    assert_eq!(kept.len(), 1, "all go on with the same one: {kept:?}");
    let stands = store.document(&run, "release.json").await.unwrap();
    assert_eq!(stands.as_ref(), kept.first());
    let large = store.keep_document(&run, "large", vec![0; 5 << 20]).await;
    assert!(matches!(large, Err(StoreError::Corrupt(_))), "too large");
    assert!(store.keep_document("r0-none", "x", vec![1]).await.is_err(), "of no run");
}

async fn what_is_needed_stays_and_the_rest_is_let_go(place: Place) {
    let store = place.open();
    let digest = |n: u8| pitlane_release::Digest::from_bytes([n; 32]);
    let car = route("octo/car", "car");
    let [done, failed, waits] = [("v1", 1), ("v2", 2), ("v3", 3)].map(|(tag, n)| (tag, digest(n)));
    let mut runs = Vec::new();
    for (tag, named) in [done, failed, waits] {
        runs.push(queue(&store, &car, tag).await);
        let run = runs.last().unwrap();
        store.keep_document(run, "seal", b"sealed".to_vec()).await.unwrap();
        let claim = store.claim("test").await.unwrap().unwrap();
        store.fail(&claim.lease, Step::Checkout, &failure("again"), true).await.unwrap();
        let output = json!({"layers": [{"digest": named}], "note": "sha256:no"});
        match tag {
            "v1" => {
                store.advance(&claim.lease, Step::Checkout, &output, None).await.unwrap();
            }
            "v2" => {
                store
                    .advance(&claim.lease, Step::Checkout, &output, Some(Step::Model))
                    .await
                    .unwrap();
                store.fail(&claim.lease, Step::Model, &failure("x"), false).await.unwrap();
            }
            _ => {
                store
                    .advance(&claim.lease, Step::Checkout, &output, Some(Step::Model))
                    .await
                    .unwrap();
            }
        }
    }
    let needed = async |since| store.needed(since).await.unwrap();
    let all = [done.1, failed.1, waits.1].into();
    assert_eq!(needed(0).await, all, "what changed lately");
    assert_eq!(needed(i64::MAX).await, [waits.1].into(), "what is under way");
    // What a person and a car name is needed for ever.
    let approved = Approved {
        pipeline: "car".into(),
        environment: "street".into(),
        counter: 1,
        digest: digest(7).to_string(),
        by: "ada".into(),
        time: 1,
    };
    store.approve(approved).await.unwrap();
    let status = CarStatus {
        state: CarState::Confirmed,
        image: format!("registry.example/team/car@{}", digest(8)),
        counter: None,
        code: None,
        message: None,
    };
    let (pipeline, environment) = ("car".to_owned(), "street".to_owned());
    let said = |status| Car {
        pipeline: pipeline.clone(),
        car: "s1".into(),
        environment: environment.clone(),
        status,
        time: 1,
    };
    store.car_said(said(status.clone())).await.unwrap();
    let image = format!("registry.example/team/car@{}", digest(9));
    store.car_said(said(CarStatus { state: CarState::Driving, image, ..status })).await.unwrap();
    let named = [waits.1, digest(7), digest(8), digest(9)].into();
    assert_eq!(needed(i64::MAX).await, named);
    // Nothing goes before its time, and then only what a finished release does not need.
    assert_eq!(store.forget(0).await.unwrap(), 0);
    assert_eq!(store.forget(i64::MAX).await.unwrap(), 2, "a document and an attempt");
    assert_eq!(store.document(&runs[0], "seal").await.unwrap(), None);
    assert_eq!(store.steps(&runs[0]).await.unwrap().len(), 1);
    for run in &runs[1..] {
        assert!(store.document(run, "seal").await.unwrap().is_some(), "it may be retried");
        assert_eq!(store.steps(run).await.unwrap()[0].outcome, StepOutcome::Failed);
    }
}

async fn bodies_of_the_newest_deliveries_are_kept(place: Place) {
    const ALL: i64 = 2_300;
    let store = place.open();
    let car = route("octo/car", "car");
    // Many at once: they share transactions.
    let mut sent = tokio::task::JoinSet::new();
    for n in 0..ALL {
        let one = delivery(&format!("d{n}"), &car, &format!("v{n}"), &commit(1));
        let store = store.clone();
        sent.spawn(async move { store.deliver(one).await.unwrap() });
    }
    sent.join_all().await;
    drop(store);
    let count = "SELECT count(*) FROM deliveries WHERE body IS NOT NULL AND headers IS NOT NULL";
    let kept = place.number(count);
    assert!((2_000..2_000 + 64).contains(&kept), "{kept}");
    assert_eq!(place.number("SELECT count(*) FROM deliveries"), ALL);
    let oldest = "SELECT min(seq) FROM deliveries WHERE body IS NOT NULL";
    assert_eq!(place.number(oldest) + kept, ALL + 1, "the newest");
}
