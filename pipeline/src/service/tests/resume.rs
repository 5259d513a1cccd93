//! kill -9 in every step, between steps and at random: a child process (this test binary again)
//! runs the service, the parent kills it and looks at what is left.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{SECRET, Served, Steps, commit, intake, push_body, queue, route};
use crate::{
    lane::{Job, Step},
    service::{
        executor::{Executor, ExecutorConfig},
        secret::sign,
        store::{RunFilter, RunState, StepOutcome, Store},
    },
};

const DIR: &str = "PITLANE_TEST_RESUME_DIR";
const DIE: &str = "PITLANE_TEST_RESUME_DIE";
const WAIT: Duration = Duration::from_mins(1);

/// One step in the world: an effect that can happen once (a file that must not exist), and a line
/// in a log for every start.
fn step(dir: &Path, job: &Job, step: Step, die: &str) -> Value {
    let die_here = |when: &str| {
        if die == format!("{}:{when}", step.name()) {
            kill(Pid::this(), Signal::SIGKILL).unwrap();
            std::thread::sleep(WAIT);
        }
    };
    let mut log = fs::File::options().append(true).create(true).open(dir.join("log")).unwrap();
    log.write_all(format!("{} {}\n", job.run, step.name()).as_bytes()).unwrap();
    log.sync_data().unwrap();
    die_here("before");
    let effect = dir.join("effects").join(format!("{}-{}", job.tag, step.name()));
    // Whole or not at all, and not twice: written aside, then linked to its name.
    let mut aside = tempfile::NamedTempFile::new_in(dir).unwrap();
    aside.write_all(job.run.as_bytes()).unwrap();
    aside.as_file().sync_all().unwrap();
    if let Err(error) = fs::hard_link(aside.path(), &effect) {
        // Done before the journal heard of it: idempotent, so it is left as it is.
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    }
    die_here("after");
    json!({"effect": effect.file_name().unwrap().to_str().unwrap()})
}

/// The child: serves the webhook and executes until it is killed or told to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests of this file as a process of its own"]
async fn child() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let die = std::env::var(DIE).unwrap_or_default();
    let store = Store::open(&dir.join("s.db")).unwrap();
    let world = dir.clone();
    let lane = Steps(move |job: Job, which, _| {
        let (dir, die) = (world.clone(), die.clone());
        let work = async move {
            Ok(tokio::task::spawn_blocking(move || step(&dir, &job, which, &die)).await.unwrap())
        };
        let work: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(work);
        work
    });
    let served = Served::start(intake(&store, vec![route("octo/car", "car")]).router()).await;
    let executor =
        Executor::start(store.clone(), Arc::new(lane), ExecutorConfig::default()).await.unwrap();
    let port = dir.join("port.new");
    fs::write(&port, served.address.port().to_string()).unwrap();
    fs::rename(port, dir.join("port")).unwrap();
    let start = Instant::now();
    while !dir.join("end").exists() && start.elapsed() < WAIT {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(executor.drain(Duration::from_secs(10)).await);
}

/// The child process, killed when the test ends.
struct Service(Child);

impl Service {
    fn start(dir: &Path, die: &str) -> Self {
        drop(fs::remove_file(dir.join("port")));
        let module = module_path!().split_once("::").unwrap().1;
        let child = Command::new(std::env::current_exe().unwrap())
            .args([&format!("{module}::child"), "--exact", "--ignored", "--nocapture"])
            .env(DIR, dir)
            .env(DIE, die)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Waits until it was killed (or failed); panics when it goes on.
    fn died(mut self) {
        let start = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < WAIT, "the service was not killed");
            std::thread::sleep(Duration::from_millis(5));
        }
        let signal = std::os::unix::process::ExitStatusExt::signal(&self.0.wait().unwrap());
        assert_eq!(signal, Some(9), "it ended in another way");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// How often each step of each run was started.
fn starts(dir: &Path) -> BTreeMap<(String, Step), usize> {
    let mut starts = BTreeMap::new();
    for line in fs::read_to_string(dir.join("log")).unwrap_or_default().lines() {
        if let Some((run, step)) = line.split_once(' ')
            && let Some(step) = Step::parse(step)
        {
            *starts.entry((run.to_owned(), step)).or_default() += 1;
        }
    }
    starts
}

/// Lets a service work until all runs are done, ends it, and opens its store.
async fn finish(dir: &Path, runs: usize) -> Store {
    let service = Service::start(dir, "");
    let start = Instant::now();
    let reader = rusqlite::Connection::open(dir.join("s.db")).unwrap();
    let done = || -> i64 {
        let sql = "SELECT count(*) FROM runs WHERE state = 'done'";
        reader.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    while done() < i64::try_from(runs).unwrap() {
        assert!(start.elapsed() < WAIT, "only {} of {runs} runs are done", done());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(reader);
    fs::write(dir.join("end"), "").unwrap();
    let mut service = service;
    while service.0.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < WAIT, "the service does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(service.0.wait().unwrap().success(), "the service ends well");
    fs::remove_file(dir.join("end")).unwrap();
    Store::open(&dir.join("s.db")).unwrap()
}

#[tokio::test]
async fn killed_in_every_step_before_and_after_its_effect() {
    for victim in Step::ALL {
        for when in ["before", "after"] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            fs::create_dir(dir.join("effects")).unwrap();
            let store = Store::open(&dir.join("s.db")).unwrap();
            let run = queue(&store, &route("octo/car", "car"), "v1").await;
            drop(store);
            let name = format!("{}:{when}", victim.name());
            Service::start(dir, &name).died();
            let store = finish(dir, 1).await;
            let state = store.run(&run).await.unwrap().state;
            assert_eq!(state, RunState::Done, "{name}");
            let starts = starts(dir);
            let steps = store.steps(&run).await.unwrap();
            for step in Step::ALL {
                let times = starts[&(run.clone(), step)];
                let want = if step == victim { 2 } else { 1 };
                assert_eq!(times, want, "{name}: starts of {}", step.name());
                let outcomes: Vec<_> =
                    steps.iter().filter(|r| r.step == step).map(|r| r.outcome).collect();
                let want = if step == victim {
                    vec![StepOutcome::Interrupted, StepOutcome::Done]
                } else {
                    vec![StepOutcome::Done]
                };
                assert_eq!(outcomes, want, "{name}: journal of {}", step.name());
            }
        }
    }
}

/// Posts a tag; the status, or `None` when the service was killed meanwhile.
async fn post(http: &reqwest::Client, dir: &Path, n: u64) -> Option<u16> {
    let port = fs::read_to_string(dir.join("port")).ok()?;
    let body = push_body("octo/car", &format!("v{n}"), &commit(n), &commit(n)).to_string();
    let request = http
        .post(format!("http://127.0.0.1:{port}/webhook"))
        .header("content-type", "application/json")
        .header("x-github-event", "push")
        .header("x-github-delivery", format!("guid-{n}"))
        .header("x-hub-signature-256", sign(SECRET.as_bytes(), body.as_bytes()))
        .body(body);
    Some(request.send().await.ok()?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_under_deliveries() {
    const TAGS: u64 = 40;
    const KILLS: u32 = 8;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_owned();
    fs::create_dir(dir.join("effects")).unwrap();
    let killing = {
        let dir = dir.clone();
        std::thread::spawn(move || {
            for n in 0..KILLS {
                let service = Service::start(&dir, "");
                let start = Instant::now();
                while !dir.join("port").exists() && start.elapsed() < WAIT {
                    std::thread::sleep(Duration::from_millis(2));
                }
                // Different moments: in deliveries, in steps, in commits.
                std::thread::sleep(Duration::from_millis(u64::from(15 + 23 * n % 90)));
                kill(Pid::from_raw(i32::try_from(service.0.id()).unwrap()), Signal::SIGKILL)
                    .unwrap();
                service.died();
            }
        })
    };
    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let mut accepted = Vec::new();
    let mut n = 1;
    while !killing.is_finished() {
        // As a sender that redelivers: the same id until there is an answer, some never.
        if n <= TAGS && post(&http, &dir, n).await == Some(202) {
            accepted.push(n);
            n += 1;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    killing.join().unwrap();
    assert!(accepted.len() >= 5, "{} accepted", accepted.len());
    let store = Store::open(&dir.join("s.db")).unwrap();
    let runs = store.runs(RunFilter { limit: Some(200), ..RunFilter::default() }).await.unwrap();
    let count = runs.len();
    for n in &accepted {
        let tag = format!("v{n}");
        assert_eq!(runs.iter().filter(|run| run.tag == tag).count(), 1, "{tag} was answered 202");
    }
    drop(store);
    let store = finish(&dir, count).await;
    let starts = starts(&dir);
    let runs = store.runs(RunFilter { limit: Some(200), ..RunFilter::default() }).await.unwrap();
    let mut again = 0;
    for run in &runs {
        assert_eq!(run.state, RunState::Done, "{}", run.id);
        for step in Step::ALL {
            again += starts[&(run.id.clone(), step)] - 1;
            let effect = dir.join("effects").join(format!("{}-{}", run.tag, step.name()));
            assert_eq!(fs::read_to_string(effect).unwrap(), run.id, "one run a tag");
        }
    }
    // One run at a time: a kill interrupts one step at most.
    assert!(again <= KILLS as usize, "{again} steps were done again");
}
