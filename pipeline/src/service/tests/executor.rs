//! The executor with lanes that fail in every way.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{Stepped, Steps, commit, delivery, queue, route};
use crate::{
    lane::{Job, Lane, Outputs, Step, StepError},
    service::{
        executor::{Executor, ExecutorConfig},
        store::{Run, RunState, StepOutcome, Store},
    },
};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    (dir, store)
}

fn quick() -> ExecutorConfig {
    ExecutorConfig {
        // Longer than a panic's backtrace takes on a busy machine.
        step_timeout: |_| Duration::from_secs(2),
        backoff: Duration::from_millis(5),
        ..ExecutorConfig::default()
    }
}

fn error(code: &str, retryable: bool) -> StepError {
    StepError {
        code: code.into(),
        message: "no".into(),
        hint: "wait".into(),
        retryable,
        refused: false,
    }
}

fn lane<F, G>(f: F) -> Arc<dyn Lane>
where
    F: Fn(Job, Step, Outputs) -> G + Send + Sync + 'static,
    G: Future<Output = Stepped> + Send + 'static,
{
    Arc::new(Steps(move |job, step, done| {
        let future: std::pin::Pin<Box<dyn Future<Output = Stepped> + Send>> =
            Box::pin(f(job, step, done));
        future
    }))
}

/// Waits until the run has ended.
async fn ended(store: &Store, run: &str) -> Run {
    let waiting = async {
        loop {
            let run = store.run(run).await.unwrap();
            match run.state {
                state if state.is_over() => return run,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect("the run ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_run_in_order_with_what_came_before() {
    let (_dir, store) = store();
    let lane = lane(|job, step, done| async move {
        assert_eq!(job.counter, 1);
        let names: Vec<_> = done.values().cloned().collect();
        Ok(json!({"step": step.name(), "after": names.len()}))
    });
    let executor = Executor::start(store.clone(), lane, quick()).await.unwrap();
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    assert_eq!(ended(&store, &run).await.state, RunState::Done);
    let steps = store.steps(&run).await.unwrap();
    assert_eq!(steps.len(), Step::ALL.len());
    for (n, (record, step)) in steps.iter().zip(Step::ALL).enumerate() {
        assert_eq!((record.step, record.outcome, record.attempt), (step, StepOutcome::Done, 1));
        assert_eq!(record.output, Some(json!({"step": step.name(), "after": n})));
        assert!(record.finished.unwrap() >= record.started);
    }
    assert!(executor.drain(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_failure_is_kept_and_can_be_retried() {
    let (_dir, store) = store();
    let healed = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&healed);
    let lane = lane(move |job, step, _| {
        let healed = seen.load(Ordering::SeqCst) == 1;
        async move {
            if step != Step::Prove || healed {
                return Ok(json!(null));
            }
            match job.tag.as_str() {
                "panic" => panic!("wheel came off"),
                "slow" => {
                    sleep(Duration::from_mins(1)).await;
                    Ok(json!(null))
                }
                "large" => Ok(json!("x".repeat(2 << 20))),
                "flaky" => Err(error("flaky", true)),
                _ => Err(error("bad-model", false)),
            }
        }
    });
    let executor = Executor::start(store.clone(), lane, quick()).await.unwrap();
    let cases = [
        ("panic", "panic", 1),
        ("slow", "timeout", 3),
        ("large", "output-too-large", 1),
        ("flaky", "flaky", 3),
        ("bad", "bad-model", 1),
    ];
    for (tag, code, attempts) in cases {
        let pipeline = route(&format!("octo/{tag}"), tag);
        let run = queue(&store, &pipeline, tag).await;
        let kept = ended(&store, &run).await;
        assert_eq!((kept.state, kept.failed_step), (RunState::Failed, Some(Step::Prove)), "{tag}");
        assert_eq!(kept.error.unwrap().code, code);
        let steps = store.steps(&run).await.unwrap();
        let tries = steps.iter().filter(|s| s.step == Step::Prove).count();
        assert_eq!(tries, attempts, "{tag}");
        assert!(steps.iter().all(|s| s.step <= Step::Prove), "{tag} went on");
        if tag == "panic" {
            let text = serde_json::to_string(&steps).unwrap();
            assert!(text.contains("wheel came off"), "{text}");
        }
        healed.store(1, Ordering::SeqCst);
        store.retry(&run).await.unwrap();
        assert_eq!(ended(&store, &run).await.state, RunState::Done, "{tag}");
        let steps = store.steps(&run).await.unwrap();
        assert_eq!(steps.iter().filter(|s| s.step < Step::Prove).count(), 4, "not done again");
        healed.store(0, Ordering::SeqCst);
    }
    assert!(executor.drain(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_at_a_time_per_pipeline_in_order() {
    let (_dir, store) = store();
    let log = Arc::new(Mutex::new(Vec::new()));
    let busy = Arc::new(Mutex::new(std::collections::BTreeMap::<String, u32>::new()));
    let both = Arc::new(AtomicU32::new(0));
    let (kept, counted, together) = (Arc::clone(&log), Arc::clone(&busy), Arc::clone(&both));
    let lane = lane(move |job, step, _| {
        let (log, busy, both) = (Arc::clone(&kept), Arc::clone(&counted), Arc::clone(&together));
        async move {
            {
                let mut busy = busy.lock().unwrap();
                let mine = busy.entry(job.pipeline.clone()).or_default();
                *mine += 1;
                assert_eq!(*mine, 1, "two runs of {} at once", job.pipeline);
                if busy.values().filter(|n| **n > 0).count() == 2 {
                    both.fetch_add(1, Ordering::SeqCst);
                }
            }
            if step == Step::Checkout {
                log.lock().unwrap().push((job.pipeline.clone(), job.counter));
            }
            sleep(Duration::from_millis(3)).await;
            *busy.lock().unwrap().get_mut(&job.pipeline).unwrap() -= 1;
            Ok(json!(null))
        }
    });
    let mut runs = Vec::new();
    for n in 0..6 {
        for name in ["a", "b"] {
            let route = route(&format!("octo/{name}"), name);
            runs.push(queue(&store, &route, &format!("v{n}")).await);
        }
    }
    let executor = Executor::start(store.clone(), lane, quick()).await.unwrap();
    for run in &runs {
        let run = ended(&store, run).await;
        assert_eq!(run.state, RunState::Done, "{:?}", run.error);
    }
    let log = log.lock().unwrap().clone();
    for name in ["a", "b"] {
        let order: Vec<u64> = log.iter().filter(|(p, _)| p == name).map(|(_, c)| *c).collect();
        assert_eq!(order, [1, 2, 3, 4, 5, 6], "{name}");
    }
    assert!(both.load(Ordering::SeqCst) > 0, "different pipelines run beside each other");
    assert!(executor.drain(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_stops_between_steps_and_the_next_one_goes_on_there() {
    let (_dir, store) = store();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&starts);
    let lane = lane(move |_, step, _| {
        kept.lock().unwrap().push(step);
        async move {
            sleep(Duration::from_millis(80)).await;
            Ok(json!(null))
        }
    });
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    let executor = Executor::start(store.clone(), Arc::clone(&lane), quick()).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    assert!(executor.drain(Duration::from_secs(5)).await);
    let (state, at) = (store.run(&run).await.unwrap().state, starts.lock().unwrap().len());
    assert_eq!(state, RunState::Queued);
    assert!((1..Step::ALL.len()).contains(&at), "{at}");
    store.deliver(delivery("late", &route("octo/late", "late"), "v1", &commit(1))).await.unwrap();
    let executor = Executor::start(store.clone(), lane, quick()).await.unwrap();
    assert_eq!(ended(&store, &run).await.state, RunState::Done);
    let mut all = starts.lock().unwrap().clone();
    assert!(executor.drain(Duration::from_secs(5)).await);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, Step::ALL, "every step ran");
    let attempts = store.steps(&run).await.unwrap();
    assert_eq!(attempts.len(), Step::ALL.len(), "a clean stop interrupts no step");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_takes_too_long_is_cut_and_resumed() {
    let (_dir, store) = store();
    let slow = lane(|_, _, _| async {
        sleep(Duration::from_mins(1)).await;
        Ok(json!(null))
    });
    let config = ExecutorConfig { step_timeout: |_| Duration::from_mins(1), ..quick() };
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    let executor = Executor::start(store.clone(), slow, config).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert!(!executor.drain(Duration::from_millis(50)).await);
    assert_eq!(store.run(&run).await.unwrap().state, RunState::Running);
    let lane = lane(|_, _, _| async { Ok(json!(null)) });
    let executor = Executor::start(store.clone(), lane, quick()).await.unwrap();
    assert_eq!(ended(&store, &run).await.state, RunState::Done);
    let steps = store.steps(&run).await.unwrap();
    assert_eq!(steps[0].outcome, StepOutcome::Interrupted);
    assert!(executor.drain(Duration::from_secs(5)).await);
}

/// A run whose end is asked for stops in the middle of a step, and another process that took a
/// run over stops the one that had it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_stops_in_its_step() {
    let (_dir, store) = store();
    let (began, finished) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (b, e) = (Arc::clone(&began), Arc::clone(&finished));
    let lane = lane(move |_, _, _| {
        let (b, e) = (Arc::clone(&b), Arc::clone(&e));
        async move {
            b.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_secs(30)).await;
            e.fetch_add(1, Ordering::SeqCst);
            Ok(json!(null))
        }
    });
    let executor = Executor::start(store.clone(), lane, quick()).await.unwrap();
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    while began.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    store.cancel(&run).await.unwrap();
    assert_eq!(ended(&store, &run).await.state, RunState::Cancelled);
    assert_eq!(finished.load(Ordering::SeqCst), 0, "the step was not waited for");
    // The pipeline is free again.
    queue(&store, &route("octo/car", "car"), "v2").await;
    while began.load(Ordering::SeqCst) < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(!executor.drain(Duration::from_millis(200)).await);
}

/// A run from another machine: what it left there is made again here, in order.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_elsewhere_is_done_again() {
    struct Here(std::sync::Mutex<Vec<Step>>);
    impl Lane for Here {
        fn run<'a>(
            &'a self,
            _: &'a Job,
            step: Step,
            _: &'a Outputs,
        ) -> crate::lane::StepFuture<'a> {
            self.0.lock().unwrap().push(step);
            Box::pin(async move { Ok(json!(step.name())) })
        }

        fn lost(&self, _: &Job, done: &Outputs) -> Option<Step> {
            (done.len() == 2).then_some(Step::Checkout)
        }
    }
    let (_dir, store) = store();
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    let claim = store.claim("gone").await.unwrap().unwrap();
    store.advance(&claim.lease, Step::Checkout, &json!(1), Some(Step::Model)).await.unwrap();
    store.advance(&claim.lease, Step::Model, &json!(2), Some(Step::Assemble)).await.unwrap();
    let here = Arc::new(Here(std::sync::Mutex::default()));
    let lane: Arc<dyn Lane> = here.clone();
    let executor = Executor::start(store.clone(), lane, quick()).await.unwrap();
    assert_eq!(ended(&store, &run).await.state, RunState::Done);
    assert_eq!(*here.0.lock().unwrap(), Step::ALL);
    assert!(executor.drain(Duration::from_secs(5)).await);
}
