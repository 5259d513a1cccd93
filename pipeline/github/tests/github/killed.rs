//! Reports after a crash: killed at every request, and repeated from every point, they come to
//! the same.

use pitlane_github::{Client, Conclusion, DeploymentState, GithubError, Run, RunState, Step};
use pitlane_github_lab::{Fault, Rule};
use serde_json::{Value, json};

use crate::{
    common::{ALL, Setup},
    reports::{deployment, done, notes, pending, remarks, run_of, step},
};

/// Calls that a run makes.
const CALLS: usize = 12;

async fn call(client: &Client, run: &Run, number: usize) -> Result<(), GithubError> {
    let failed = Step { annotations: remarks(60), ..done("prove", Conclusion::Failure) };
    let done = match number {
        0 => client.report_run(run, &pending("checkout")).await,
        1 => client.report_step(run, &step("checkout")).await,
        2 => client.report_step(run, &done("checkout", Conclusion::Success)).await,
        3 => client.report_run(run, &pending("prove")).await,
        4 => client.report_step(run, &step("prove")).await,
        5 => client.report_step(run, &failed).await,
        6 => client.report_step(run, &done("push", Conclusion::Skipped)).await,
        7 => client.report_deployment(run, &deployment("cars", DeploymentState::Queued)).await,
        8 => client.report_deployment(run, &deployment("cars", DeploymentState::InProgress)).await,
        9 => client.report_release(run, &notes()).await,
        10 => client.report_deployment(run, &deployment("cars", DeploymentState::Success)).await,
        _ => client.report_run(run, &RunState::Success("release 3".to_owned())).await,
    };
    done.map(|_| ())
}

async fn calls(client: &Client, run: &Run, upto: usize) -> Result<(), GithubError> {
    for number in 0..upto {
        call(client, run, number).await?;
    }
    Ok(())
}

/// All that was reported, without numbers and times that differ each time.
fn reported(setup: &Setup, repository: &str) -> Value {
    let mut all = json!({
        "checks": setup.lab.checks(repository), "statuses": setup.lab.statuses(repository),
        "deployments": setup.lab.deployments(repository), "releases": setup.lab.releases(repository),
    });
    strip(&mut all);
    all
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                let own = ["details_url", "target_url", "log_url"].contains(&name.as_str());
                let time = ["created_at", "updated_at", "published_at"].contains(&name.as_str());
                let number = name.ends_with("id") && name != "external_id";
                own || !(time || number || name.ends_with("url"))
            });
            fields.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// A repository of its own for each case, all under one App.
struct Cases {
    setup: Setup,
    next: usize,
}

const MOST: usize = 300;

impl Cases {
    fn new() -> Self {
        let mut setup = Setup::new();
        let names: Vec<String> = (0..MOST).map(|n| format!("octo/car{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let app = setup.lab.app(ALL, &names).unwrap();
        setup.lab.set_hourly(1_000_000);
        setup.app = app;
        Self { setup, next: 0 }
    }

    fn next(&mut self) -> Run {
        let name = format!("octo/car{}", self.next);
        self.next += 1;
        assert!(self.next <= MOST, "more cases than repositories");
        self.setup.lab.repository(&name, true).unwrap();
        let commit = self.setup.lab.commit(&name, &[("a", b"b")], "a model").unwrap();
        self.setup.lab.push_tags(&name, &[("v1.0.0", Some(&commit))]).unwrap();
        run_of(&self.setup, &name, &commit)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_request_the_reports_come_to_the_same() {
    let mut cases = Cases::new();
    let run = cases.next();
    cases.setup.lab.take_asked();
    calls(&cases.setup.client(), &run, CALLS).await.unwrap();
    let requests = cases.setup.lab.take_asked().len();
    let want = reported(&cases.setup, run.repository.as_str());
    let count = |name: &str| want[name].as_array().unwrap().len();
    assert_eq!((count("checks"), count("statuses")), (3, 3), "{want}");
    assert_eq!((count("deployments"), count("releases")), (1, 1));
    assert!((30..120).contains(&requests), "{requests}");
    for at in 0..requests {
        // The request was done and its answer lost; or it never arrived. Then nothing any more.
        for fault in [Fault::Lost, Fault::Status(500)] {
            let run = cases.next();
            let lab = &cases.setup.lab;
            lab.rule(Rule { skip: at, ..Rule::once("", "/", fault.clone()) });
            lab.rule(Rule { skip: at, ..Rule::always("", "/", Fault::Status(500)) });
            let mut settings = cases.setup.settings(cases.setup.app_credentials());
            settings.times.attempts = 1;
            settings.times.backoff = std::time::Duration::ZERO;
            let killed = calls(&Client::new(settings).unwrap(), &run, CALLS).await;
            assert!(killed.is_err(), "request {at} was not the end");
            lab.clear_rules();
            calls(&cases.setup.client(), &run, CALLS).await.unwrap();
            let found = reported(&cases.setup, run.repository.as_str());
            assert_eq!(found, want, "killed at request {at} by {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_from_any_point_the_reports_come_to_the_same() {
    let mut cases = Cases::new();
    let run = cases.next();
    let client = cases.setup.client();
    calls(&client, &run, CALLS).await.unwrap();
    let want = reported(&cases.setup, run.repository.as_str());
    for from in 0..CALLS {
        // Stopped after some calls, and begun again.
        let run = cases.next();
        calls(&client, &run, from).await.unwrap();
        calls(&client, &run, CALLS).await.unwrap();
        assert_eq!(reported(&cases.setup, run.repository.as_str()), want, "after {from}");
        // Late repetitions of what was reported long ago.
        call(&client, &run, from).await.unwrap();
        assert_eq!(reported(&cases.setup, run.repository.as_str()), want, "{from} again");
    }
}
