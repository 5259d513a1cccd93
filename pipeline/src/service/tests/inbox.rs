//! The store: counters, tags, leases and what survives.

use pitlane_release::Counter;
use serde_json::json;

use super::{commit, delivery, queue, route};
use crate::{
    lane::{Step, StepError},
    service::store::{Receipt, RunFilter, RunState, Store, StoreError},
};

fn failure(code: &str) -> StepError {
    StepError {
        code: code.to_owned(),
        message: "it broke".to_owned(),
        hint: String::new(),
        retryable: false,
        refused: false,
    }
}

#[tokio::test]
async fn counters_rise_per_source_and_kind() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let car = route("octo/car", "car");
    let mut truck = route("octo/car", "truck");
    truck.car_kind = "truck".to_owned();
    for (route, tag, want) in [(&car, "v1", 1), (&car, "v2", 2), (&truck, "t1", 1), (&car, "v3", 3)]
    {
        let run = queue(&store, route, tag).await;
        assert_eq!(store.run(&run).await.unwrap().counter, want, "{tag}");
    }
    let at = |n| Counter::new(n).unwrap();
    assert_eq!(store.raise_counter("octo/car", "donkeycar", at(40)).await.unwrap(), 40);
    assert_eq!(store.raise_counter("octo/car", "donkeycar", at(7)).await.unwrap(), 40);
    assert_eq!(store.raise_counter("octo/new", "donkeycar", at(7)).await.unwrap(), 7);
    let run = queue(&store, &car, "v4").await;
    assert_eq!(store.run(&run).await.unwrap().counter, 41);
    // The last counter there is, and none after it.
    store.raise_counter("octo/car", "donkeycar", at((1 << 53) - 1)).await.unwrap();
    let end = store.deliver(delivery("end", &car, "v5", &commit(1))).await;
    assert!(matches!(end, Err(StoreError::Corrupt(_))), "{end:?}");
    let listed = store.runs(RunFilter::default()).await.unwrap();
    assert_eq!(listed.len(), 5, "the failed write left nothing");
}

#[tokio::test]
async fn a_stale_executor_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    let old = store.claim().await.unwrap().unwrap();
    assert!(store.claim().await.unwrap().is_none(), "a claimed run is not given twice");
    store.advance(&old.lease, Step::Checkout, &json!({"n": 1}), Some(Step::Model)).await.unwrap();
    // Another process takes over.
    assert_eq!(store.adopt().await.unwrap(), 1);
    let new = store.claim().await.unwrap().unwrap();
    assert_eq!(new.next(), Some(Step::Model));
    assert_eq!(new.done[&Step::Checkout], json!({"n": 1}));
    let stale = [
        store.advance(&old.lease, Step::Model, &json!(2), Some(Step::Assemble)).await,
        store.fail(&old.lease, Step::Model, &failure("x"), false).await,
        store.fail(&old.lease, Step::Model, &failure("x"), true).await,
        store.release(&old.lease).await,
    ];
    for outcome in stale {
        assert!(matches!(outcome, Err(StoreError::StaleLease { .. })), "{outcome:?}");
    }
    store.advance(&new.lease, Step::Model, &json!(3), Some(Step::Assemble)).await.unwrap();
    let steps = store.steps(&run).await.unwrap();
    let model: Vec<_> = steps.iter().filter(|s| s.step == Step::Model).collect();
    assert_eq!((model.len(), model[1].output.clone()), (2, Some(json!(3))));
    // A step that is not the running one cannot be finished, by the right lease either.
    let wrong = store.advance(&new.lease, Step::Sign, &json!(0), None).await;
    assert!(matches!(wrong, Err(StoreError::Corrupt(_))), "{wrong:?}");
    store.fail(&new.lease, Step::Assemble, &failure("x"), false).await.unwrap();
    let after = store.advance(&new.lease, Step::Assemble, &json!(0), None).await;
    assert!(matches!(after, Err(StoreError::StaleLease { .. })), "the run ended: {after:?}");
}

#[tokio::test]
async fn retry_and_rollback_are_for_runs_that_allow_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let car = route("octo/car", "car");
    let refused = |outcome: Result<_, StoreError>, code: &str| match outcome {
        Err(StoreError::Refused(told)) => assert_eq!(told.code, code),
        other => panic!("{code}: {other:?}"),
    };
    let first = queue(&store, &car, "v1").await;
    refused(store.retry(&first).await.map(drop), "not-failed");
    refused(store.rollback("octo/car", "v1").await.map(drop), "not-released");
    let claim = store.claim().await.unwrap().unwrap();
    store.fail(&claim.lease, Step::Checkout, &failure("gone"), false).await.unwrap();
    let kept = store.run(&first).await.unwrap();
    assert_eq!((kept.state, kept.failed_step), (RunState::Failed, Some(Step::Checkout)));
    assert_eq!(kept.error.unwrap().code, "gone");
    let again = store.retry(&first).await.unwrap();
    assert_eq!((again.state, again.counter, again.error.is_none()), (RunState::Queued, 1, true));
    let claim = store.claim().await.unwrap().unwrap();
    store.fail(&claim.lease, Step::Checkout, &failure("gone"), false).await.unwrap();
    // A newer release is out: the old run would put its lower counter over it.
    let second = queue(&store, &car, "v2").await;
    finish(&store).await;
    refused(store.retry(&first).await.map(drop), "superseded");
    let back = store.rollback("OCTO/CAR", "v2").await.unwrap();
    assert_eq!((back.rollback, back.counter, back.tag.as_str()), (true, 3, "v2"));
    let twice = store.rollback("octo/car", "v2").await.unwrap();
    assert_eq!(twice.id, back.id, "asked twice, queued once");
    finish(&store).await;
    // A redelivery of the tag still names the first run, not the rollback.
    let receipt = store.deliver(delivery("again", &car, "v2", &commit(1))).await.unwrap();
    assert_eq!(receipt, Receipt::Accepted { run: second, repeat: true });
    assert!(matches!(store.run("r0-none").await, Err(StoreError::Unknown { .. })));
    assert!(matches!(store.steps("r0-none").await, Err(StoreError::Unknown { .. })));
}

/// Takes the next run through all its steps.
async fn finish(store: &Store) {
    let claim = store.claim().await.unwrap().unwrap();
    for (step, next) in
        Step::ALL.into_iter().zip(Step::ALL.into_iter().skip(1).map(Some).chain([None]))
    {
        store.advance(&claim.lease, step, &json!(null), next).await.unwrap();
    }
    assert_eq!(store.run(claim.lease.run()).await.unwrap().state, RunState::Done);
}

#[tokio::test]
async fn a_step_that_takes_the_service_down_is_not_tried_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    let mut starts = 0;
    for _ in 0..3 {
        while store.claim().await.unwrap().is_some() {
            starts += 1;
            store.adopt().await.unwrap();
        }
        assert_eq!(store.run(&run).await.unwrap().error.unwrap().code, "interrupted");
        store.retry(&run).await.unwrap();
    }
    assert_eq!(starts, 15, "five chances each time a person asks");
}

#[tokio::test]
async fn the_store_has_one_writer_and_keeps_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let store = Store::open(&path).unwrap();
    let other = path.clone();
    let second = tokio::task::spawn_blocking(move || Store::open(&other).map(drop));
    assert!(matches!(second.await.unwrap(), Err(StoreError::InUse(_))));
    let car = route("octo/car", "car");
    let many = (0..500).map(|n| {
        let (store, car) = (store.clone(), car.clone());
        let id = format!("d{}", n % 250);
        let tag = format!("v{}", n % 250);
        tokio::spawn(
            async move { store.deliver(delivery(&id, &car, &tag, &commit(1))).await.unwrap() },
        )
    });
    let mut made = std::collections::BTreeSet::new();
    for task in many.collect::<Vec<_>>() {
        if let Receipt::Accepted { run, .. } = task.await.unwrap() {
            made.insert(run);
        }
    }
    assert_eq!(made.len(), 250, "one run for each tag, though each came twice");
    drop(store);
    let store = Store::open(&path).unwrap();
    let mut before = None;
    let mut counters = std::collections::BTreeSet::new();
    loop {
        let filter = RunFilter { before, limit: Some(100), ..RunFilter::default() };
        let page = store.runs(filter).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        counters.extend(page.iter().map(|run| run.counter));
    }
    assert_eq!(counters, (1..=250).collect());
    store.healthy().await.unwrap();
}
