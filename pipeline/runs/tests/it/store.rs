//! The store: counters, tags, leases and what survives; each case with `SQLite` and with a real
//! `PostgreSQL` server.

use std::collections::BTreeSet;

use pitlane_release::Counter;
use pitlane_runs::{
    Store,
    lane::{Step, StepError},
    push::TagPush,
    route::Route,
    store::{Figures, Receipt, RunFilter, RunState, StoreError},
};
use serde_json::json;

use crate::{
    deliveries::{commit, delivery, queue, route},
    place::Place,
};

/// The same case with both stores.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Place::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(place) = super::Place::postgres() {
                    super::$name(place).await;
                }
            })*
        }
    };
}

pub(crate) use both;

both! {
    counters_rise_per_source_and_kind,
    a_stale_executor_writes_nothing,
    retry_and_rollback_are_for_runs_that_allow_them,
    a_step_that_takes_the_service_down_is_not_tried_for_ever,
    what_was_said_is_kept,
    cancelled_and_superseded_runs,
    a_moved_tag_is_refused_with_one_alert,
    figures_count_everything,
    tags_that_were_there_start_nothing,
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>, code: &str) {
    match outcome {
        Err(StoreError::Refused(told)) => assert_eq!(told.code, code),
        other => panic!("{code}: {other:?}"),
    }
}

pub(crate) fn failure(code: &str) -> StepError {
    StepError {
        code: code.to_owned(),
        message: "it broke".to_owned(),
        hint: String::new(),
        retryable: false,
        refused: false,
    }
}

async fn counters_rise_per_source_and_kind(place: Place) {
    let store = place.open();
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

async fn a_stale_executor_writes_nothing(place: Place) {
    let store = place.open();
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    let old = store.claim("test").await.unwrap().unwrap();
    assert!(store.claim("test").await.unwrap().is_none(), "a claimed run is not given twice");
    store.advance(&old.lease, Step::Checkout, &json!({"n": 1}), Some(Step::Model)).await.unwrap();
    // Another process takes over.
    place.expire(&store).await;
    let new = store.claim("test").await.unwrap().unwrap();
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

async fn retry_and_rollback_are_for_runs_that_allow_them(place: Place) {
    let store = place.open();
    let car = route("octo/car", "car");
    let first = queue(&store, &car, "v1").await;
    refused(store.retry(&first).await, "not-failed");
    refused(store.rollback("octo/car", "v1").await, "not-released");
    let claim = store.claim("test").await.unwrap().unwrap();
    store.fail(&claim.lease, Step::Checkout, &failure("gone"), false).await.unwrap();
    let kept = store.run(&first).await.unwrap();
    assert_eq!((kept.state, kept.failed_step), (RunState::Failed, Some(Step::Checkout)));
    assert_eq!(kept.error.unwrap().code, "gone");
    let again = store.retry(&first).await.unwrap();
    assert_eq!((again.state, again.counter, again.error.is_none()), (RunState::Queued, 1, true));
    let claim = store.claim("test").await.unwrap().unwrap();
    store.fail(&claim.lease, Step::Checkout, &failure("gone"), false).await.unwrap();
    // A newer release is out: the old run would put its lower counter over it.
    let second = queue(&store, &car, "v2").await;
    finish(&store).await;
    refused(store.retry(&first).await, "superseded");
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
    let claim = store.claim("test").await.unwrap().unwrap();
    for (step, next) in
        Step::ALL.into_iter().zip(Step::ALL.into_iter().skip(1).map(Some).chain([None]))
    {
        store.advance(&claim.lease, step, &json!(null), next).await.unwrap();
    }
    assert_eq!(store.run(claim.lease.run()).await.unwrap().state, RunState::Done);
}

async fn a_step_that_takes_the_service_down_is_not_tried_for_ever(place: Place) {
    let store = place.open();
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    let mut starts = 0;
    for _ in 0..3 {
        while store.claim("test").await.unwrap().is_some() {
            starts += 1;
            place.expire(&store).await;
        }
        assert_eq!(store.run(&run).await.unwrap().error.unwrap().code, "interrupted");
        store.retry(&run).await.unwrap();
    }
    assert_eq!(starts, 15, "five chances each time a person asks");
}

async fn what_was_said_is_kept(place: Place) {
    let store = place.open();
    let car = route("octo/car", "car");
    let many = (0..500).map(|n| {
        let (store, car) = (store.clone(), car.clone());
        let id = format!("d{}", n % 250);
        let tag = format!("v{}", n % 250);
        tokio::spawn(
            async move { store.deliver(delivery(&id, &car, &tag, &commit(1))).await.unwrap() },
        )
    });
    let mut made = BTreeSet::new();
    for task in many.collect::<Vec<_>>() {
        if let Receipt::Accepted { run, .. } = task.await.unwrap() {
            made.insert(run);
        }
    }
    assert_eq!(made.len(), 250, "one run for each tag, though each came twice");
    drop(store);
    let store = place.open();
    let mut before = None;
    let mut counters = BTreeSet::new();
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

async fn cancelled_and_superseded_runs(place: Place) {
    let store = place.open();
    let car = route("octo/car", "car");
    let (first, second) = (queue(&store, &car, "v1").await, queue(&store, &car, "v2").await);
    // One that waits ends at once, one that runs when its holder hears of it.
    assert_eq!(store.cancel(&second).await.unwrap().state, RunState::Cancelled);
    refused(store.cancel(&second).await, "ended");
    let claim = store.claim("test").await.unwrap().unwrap();
    assert!(!store.renew(&claim.lease).await.unwrap());
    assert_eq!(store.cancel(&first).await.unwrap().state, RunState::Running);
    assert!(store.renew(&claim.lease).await.unwrap(), "its holder is asked to end it");
    store.cancelled(&claim.lease).await.unwrap();
    assert_eq!(store.run(&first).await.unwrap().state, RunState::Cancelled);
    let stale = store.renew(&claim.lease).await;
    assert!(matches!(stale, Err(StoreError::StaleLease { .. })), "{stale:?}");
    assert!(store.claim("test").await.unwrap().is_none());
    // Asked for again, it goes on.
    store.retry(&first).await.unwrap();
    let claim = store.claim("test").await.unwrap().unwrap();
    for step in Step::ALL.into_iter().take_while(|step| *step < Step::Check) {
        let next = Step::ALL.into_iter().find(|next| *next > step);
        store.advance(&claim.lease, step, &json!(null), next).await.unwrap();
    }
    refused(store.cancel(&first).await, "too-late");
    // Its files are gone: it begins anew, and what it had done does not count.
    store.rewind(&claim.lease, Step::Checkout).await.unwrap();
    place.expire(&store).await;
    let claim = store.claim("other").await.unwrap().unwrap();
    assert_eq!((claim.next(), claim.done.len()), (Some(Step::Checkout), 0));

    // Where a pipeline wants only the newest, those that wait give way.
    let newest = Route { supersede: true, ..route("octo/truck", "truck") };
    let runs = [queue(&store, &newest, "t1").await, queue(&store, &newest, "t2").await];
    let states = [&runs[0], &runs[1]].map(|run| store.run(run));
    let [old, new] = states;
    let (old, new) = (old.await.unwrap(), new.await.unwrap());
    assert_eq!((old.state, new.state), (RunState::Superseded, RunState::Queued));
    assert_eq!(old.error.unwrap().code, "superseded");
    refused(store.retry(&runs[0]).await, "not-failed");
}

async fn a_moved_tag_is_refused_with_one_alert(place: Place) {
    let store = place.open();
    let car = route("octo/car", "car");
    let run = queue(&store, &car, "v1").await;
    for n in 0..3 {
        let moved = store.deliver(delivery(&format!("m{n}"), &car, "v1", &commit(2))).await;
        assert!(matches!(moved.unwrap(), Receipt::Moved { .. }));
    }
    let alerts = store.alerts().await.unwrap();
    assert_eq!((alerts.len(), alerts[0].code.as_str(), alerts[0].times), (1, "tag-moved", 3));
    // The same id with another body, and the same delivery again.
    let reused = store.deliver(delivery("d-car-v1", &car, "v1", &commit(3))).await.unwrap();
    assert_eq!(reused, Receipt::Reused);
    let again = store.deliver(delivery("d-car-v1", &car, "v1", &commit(1))).await.unwrap();
    assert_eq!(again, Receipt::Accepted { run, repeat: true });
    let filter = RunFilter { repository: Some("OCTO/car".into()), ..RunFilter::default() };
    assert_eq!(store.runs(filter).await.unwrap().len(), 1);
}

async fn tags_that_were_there_start_nothing(place: Place) {
    let store = place.open();
    let car = route("octo/car", "car");
    // A delivery may come before the first look.
    queue(&store, &car, "v2").await;
    assert_eq!(store.tags("octo/car").await.unwrap(), None);
    let old = |tag: &str, n| TagPush {
        repository: "octo/car".to_owned(),
        tag: tag.to_owned(),
        object: commit(n),
        commit: Some(commit(n)),
        forced: false,
    };
    store.first_look("octo/car", vec![old("v1", 7), old("v2", 9)]).await.unwrap();
    let tags = store.tags("octo/car").await.unwrap().unwrap();
    let found: Vec<_> = tags.iter().map(|one| (one.tag.as_str(), one.object.clone())).collect();
    assert_eq!(found, [("v1", commit(7)), ("v2", commit(1))], "what was delivered stands");
    assert_eq!(store.runs(RunFilter::default()).await.unwrap().len(), 1);
    // A delivery of an old tag is one all the same: somebody asks for it.
    let asked = store.deliver(delivery("again", &car, "v1", &commit(7))).await.unwrap();
    assert!(matches!(asked, Receipt::Accepted { repeat: false, .. }), "{asked:?}");
}

async fn figures_count_everything(place: Place) {
    let store = place.open();
    assert_eq!(store.figures().await.unwrap(), Figures::default());
    let car = route("octo/car", "car");
    queue(&store, &car, "v1").await;
    finish(&store).await;
    queue(&store, &car, "v2").await;
    store.deliver(delivery("moved", &car, "v1", &commit(2))).await.unwrap();
    let figures = store.figures().await.unwrap();
    let state = |state: &str, n| ("car".to_owned(), state.to_owned(), n);
    assert_eq!(figures.runs, [state("done", 1), state("queued", 1)]);
    assert_eq!(figures.steps.len(), Step::ALL.len());
    assert_eq!((figures.deliveries, figures.alerts), (3, 1));
    assert!(figures.waiting_since.is_some());
}

#[tokio::test]
async fn a_file_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let _store = Store::open(&path).unwrap();
    let second = tokio::task::spawn_blocking(move || Store::open(&path).map(drop));
    assert!(matches!(second.await.unwrap(), Err(StoreError::InUse(_))));
}

/// Three processes' worth of stores on one server: every run is claimed once, and what a dead one
/// held goes on at another.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_server() {
    let Some(place) = Place::postgres() else { return };
    let stores = [place.open(), place.open(), place.open()];
    let routes: Vec<Route> =
        (0..12).map(|n| route(&format!("octo/c{n}"), &format!("p{n}"))).collect();
    // The same deliveries reach all of them.
    let mut tasks = Vec::new();
    for store in &stores {
        for route in &routes {
            let (store, route) = (store.clone(), route.clone());
            tasks.push(tokio::spawn(async move {
                let one = delivery(&format!("d-{}", route.pipeline), &route, "v1", &commit(1));
                store.deliver(one).await.unwrap()
            }));
        }
    }
    let mut made = BTreeSet::new();
    for task in tasks {
        let Receipt::Accepted { run, .. } = task.await.unwrap() else { panic!() };
        made.insert(run);
    }
    assert_eq!(made.len(), routes.len());
    let claims = stores.iter().enumerate().flat_map(|(n, store)| {
        (0..6).map(move |_| {
            let store = store.clone();
            tokio::spawn(async move { store.claim(&format!("replica-{n}")).await.unwrap() })
        })
    });
    let mut claimed = Vec::new();
    for task in claims.collect::<Vec<_>>() {
        claimed.extend(task.await.unwrap());
    }
    let ids: BTreeSet<&str> = claimed.iter().map(|claim| claim.lease.run()).collect();
    assert_eq!((claimed.len(), ids.len()), (routes.len(), routes.len()), "each is claimed once");
    assert!(stores[0].claim("replica-0").await.unwrap().is_none(), "what is held is not given");
    // One of them dies; the leases of the others are alive.
    let dead = claimed.pop().unwrap();
    place.sql(&format!("UPDATE runs SET lease = 0 WHERE id = '{}'", dead.lease.run()));
    let taken = stores[1].claim("replica-1").await.unwrap().unwrap();
    assert_eq!(taken.lease.run(), dead.lease.run());
    let stale = stores[2].advance(&dead.lease, Step::Checkout, &json!(1), None).await;
    assert!(matches!(stale, Err(StoreError::StaleLease { .. })), "{stale:?}");
}

/// The server goes away and comes back: writes say so, and go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_is_an_error_and_not_the_end() {
    let Some(mut place) = Place::postgres() else { return };
    let store = place.open();
    let car = route("octo/car", "car");
    queue(&store, &car, "v1").await;
    place.stop();
    assert!(store.deliver(delivery("x", &car, "v2", &commit(1))).await.is_err());
    assert!(store.healthy().await.is_err());
    assert!(store.runs(RunFilter::default()).await.is_err());
    place.start();
    queue(&store, &car, "v3").await;
    assert_eq!(store.runs(RunFilter::default()).await.unwrap().len(), 2);
    store.healthy().await.unwrap();
}
