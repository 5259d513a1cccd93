//! What people see of a run: check runs, status, deployments, release notes.

use pitlane_github::{
    Annotation, Conclusion, Deployment, DeploymentState, Level, Outcome, ReleaseNotes, Run,
    RunState, Step, StepState, Verify,
};
use pitlane_github_lab::{Fault, Rule, Signature};
use pitlane_release::{Counter, Digest, PinnedImage};
use serde_json::{Value, json};

use crate::common::Setup;

pub(crate) fn run(setup: &Setup) -> Run {
    run_of(setup, "octo/car", &setup.commit)
}

pub(crate) fn run_of(_: &Setup, repository: &str, commit: &str) -> Run {
    Run {
        repository: repository.parse().unwrap(),
        commit: commit.parse().unwrap(),
        tag: "v1.0.0".parse().unwrap(),
        pipeline: "donkey car".to_owned(),
        id: "r7-5f3a9c01".to_owned(),
        attempt: 1,
        url: Some("https://pitlane.example/runs/r7-5f3a9c01".to_owned()),
    }
}

pub(crate) fn step(name: &str) -> Step {
    Step {
        name: name.to_owned(),
        state: StepState::Running,
        title: "running".to_owned(),
        summary: "It runs.".to_owned(),
        text: None,
        annotations: Vec::new(),
        started: Some("2026-11-26T22:00:00Z".parse().unwrap()),
        ended: None,
    }
}

pub(crate) fn done(name: &str, conclusion: Conclusion) -> Step {
    Step {
        state: StepState::Done(conclusion),
        title: "done".to_owned(),
        ended: Some("2026-11-26T22:01:00Z".parse().unwrap()),
        ..step(name)
    }
}

pub(crate) fn remarks(count: u32) -> Vec<Annotation> {
    let remark = |n: u32| Annotation {
        path: "models/pilot.yaml".to_owned(),
        lines: (n + 1, n + 1),
        level: if n.is_multiple_of(2) { Level::Failure } else { Level::Warning },
        message: format!("remark {n}"),
    };
    (0..count).map(remark).collect()
}

pub(crate) fn pending(text: &str) -> RunState {
    RunState::Pending(text.to_owned())
}

pub(crate) fn deployment(group: &str, state: DeploymentState) -> Deployment {
    Deployment {
        group: group.to_owned(),
        image: image(),
        state,
        description: format!("release 3 to {group}"),
        production: true,
        url: None,
    }
}

fn image() -> PinnedImage {
    format!("registry.example/octo/car@{}", Digest::of("index")).parse().unwrap()
}

pub(crate) fn notes() -> ReleaseNotes {
    ReleaseNotes {
        image: image(),
        counter: Counter::try_from(3).unwrap(),
        car_kind: "donkeycar".parse().unwrap(),
        platforms: vec![("linux/arm64".parse().unwrap(), Digest::of("arm"))],
        model: Digest::of("model"),
        policy: "policies/car.yaml".to_owned(),
        verify: Verify::Key { file: "release.pub".to_owned(), logged: true },
        prerelease: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_one_check_run_that_never_goes_back() {
    let setup = Setup::new();
    let client = setup.client();
    let mut run = run(&setup);
    let queued = Step { state: StepState::Queued, started: None, ..step("prove") };
    let failed = Step { annotations: remarks(120), ..done("prove", Conclusion::Failure) };
    assert_eq!(client.report_step(&run, &queued).await.unwrap(), Outcome::Made);
    assert_eq!(client.report_step(&run, &step("prove")).await.unwrap(), Outcome::Changed);
    assert_eq!(client.report_step(&run, &failed).await.unwrap(), Outcome::Changed);
    for again in [&queued, &step("prove"), &failed] {
        assert_eq!(client.report_step(&run, again).await.unwrap(), Outcome::AsItWas);
    }
    let checks = setup.lab.checks("octo/car");
    assert_eq!(checks.len(), 1);
    let check = &checks[0];
    assert_eq!(check["name"], "pitlane / donkey car / prove");
    assert_eq!((&check["status"], &check["conclusion"]), (&json!("completed"), &json!("failure")));
    assert_eq!(check["head_sha"], setup.commit);
    assert_eq!(check["details_url"], "https://pitlane.example/runs/r7-5f3a9c01");
    assert_eq!(check["started_at"], "2026-11-26T22:00:00Z");
    assert_eq!(check["annotations"].as_array().unwrap().len(), 120, "in requests of fifty");
    assert_eq!(check["annotations"][1]["annotation_level"], "warning");
    // Another step, another attempt, another run: each has its own.
    run.attempt = 2;
    assert_eq!(client.report_step(&run, &step("prove")).await.unwrap(), Outcome::Made);
    run.id = "r8-00000000".to_owned();
    let good = Step { annotations: remarks(51), ..done("prove", Conclusion::Success) };
    assert_eq!(client.report_step(&run, &good).await.unwrap(), Outcome::Made);
    assert_eq!(client.report_step(&run, &good).await.unwrap(), Outcome::AsItWas);
    let checks = setup.lab.checks("octo/car");
    let states: Vec<&Value> = checks.iter().map(|check| &check["conclusion"]).collect();
    assert_eq!(states, [&json!("failure"), &Value::Null, &json!("success")]);
    assert_eq!(checks[2]["annotations"].as_array().unwrap().len(), 51);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_and_lines_fit_what_github_takes() {
    let setup = Setup::new();
    let client = setup.client();
    let long = Step {
        title: "t".repeat(1000),
        summary: "\u{1f3ce}".repeat(70_000),
        text: Some("x".repeat(200_000)),
        annotations: vec![Annotation {
            lines: (0, 0),
            message: "m".repeat(100_000),
            ..remarks(1)[0].clone()
        }],
        ..done(&"n".repeat(500), Conclusion::Neutral)
    };
    assert_eq!(client.report_step(&run(&setup), &long).await.unwrap(), Outcome::Made);
    assert_eq!(client.report_step(&run(&setup), &long).await.unwrap(), Outcome::AsItWas);
    let check = &setup.lab.checks("octo/car")[0];
    let summary = check["output"]["summary"].as_str().unwrap();
    assert!(summary.ends_with("\u{1f3ce}…"), "cut between characters");
    assert_eq!(check["annotations"][0]["start_line"], 1);
    let text = RunState::Failure("\u{1f3ce}".repeat(500));
    assert_eq!(client.report_run(&run(&setup), &text).await.unwrap(), Outcome::Made);
    // A commit that is not there.
    let nowhere = run_of(&setup, "octo/car", &"1".repeat(40));
    let error = client.report_step(&nowhere, &long).await.unwrap_err();
    assert_eq!(error.status(), Some(422));
    assert!(error.to_string().contains("head_sha"), "what is wrong with it: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_status_says_how_the_whole_run_goes() {
    let setup = Setup::new();
    let client = setup.client();
    let mut run = run(&setup);
    let states =
        [pending("checkout"), pending("prove"), RunState::Failure("refused: no lap".to_owned())];
    for state in &states {
        assert_eq!(client.report_run(&run, state).await.unwrap(), Outcome::Made);
    }
    for state in &states {
        assert_eq!(client.report_run(&run, state).await.unwrap(), Outcome::AsItWas);
    }
    // After its end there is nothing to say, new or not.
    assert_eq!(client.report_run(&run, &pending("push")).await.unwrap(), Outcome::AsItWas);
    run.attempt = 2;
    let good = RunState::Success("release 3".to_owned());
    for state in [&states[0], &good] {
        assert_eq!(client.report_run(&run, state).await.unwrap(), Outcome::Made);
    }
    let said: Vec<String> = setup
        .lab
        .statuses("octo/car")
        .iter()
        .map(|one| {
            format!("{} {}", one["state"].as_str().unwrap(), one["description"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        said,
        [
            "pending r7-5f3a9c01 #1: checkout",
            "pending r7-5f3a9c01 #1: prove",
            "failure r7-5f3a9c01 #1: refused: no lap",
            "pending r7-5f3a9c01 #2: checkout",
            "success r7-5f3a9c01 #2: release 3",
        ]
    );
    assert_eq!(setup.lab.statuses("octo/car")[0]["context"], "pitlane / donkey car");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_a_deployment_of_its_group() {
    let setup = Setup::new();
    let client = setup.client();
    let run = run(&setup);
    // Where GitHub would conflict, were it asked as usual: a newer head, and a pending status.
    setup.lab.commit("octo/car", &[("a", b"b")], "newer").unwrap();
    client.report_run(&run, &pending("promote")).await.unwrap();
    for (state, want) in [
        (DeploymentState::InProgress, Outcome::Made),
        (DeploymentState::Success, Outcome::Changed),
        (DeploymentState::InProgress, Outcome::AsItWas),
        (DeploymentState::Success, Outcome::AsItWas),
    ] {
        let told = client.report_deployment(&run, &deployment("track cars", state)).await;
        assert_eq!(told.unwrap(), want, "{state:?}");
    }
    let next = Run { id: "r8-00000000".to_owned(), ..run.clone() };
    for (group, state) in
        [("track cars", DeploymentState::Success), ("shop cars", DeploymentState::Failure)]
    {
        let told = client.report_deployment(&next, &deployment(group, state)).await;
        assert_eq!(told.unwrap(), Outcome::Made);
    }
    // A late word about what has ended is not told.
    for state in [DeploymentState::InProgress, DeploymentState::Queued] {
        let told = client.report_deployment(&next, &deployment("shop cars", state)).await;
        assert_eq!(told.unwrap(), Outcome::AsItWas);
    }
    let all = setup.lab.deployments("octo/car");
    let shown: Vec<String> = all
        .iter()
        .map(|one| {
            let states = one["statuses"].as_array().unwrap().iter();
            let states: Vec<&str> = states.map(|one| one["state"].as_str().unwrap()).collect();
            format!("{} {} {}", one["environment"].as_str().unwrap(), one["task"], states.join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "track cars \"pitlane\" in_progress success inactive",
            "track cars \"pitlane\" success",
            "shop cars \"pitlane\" failure",
        ]
    );
    assert_eq!(all[0]["sha"], setup.commit);
    assert_eq!(all[0]["payload"]["pitlane"]["image"], image().to_string());
    assert_eq!(all[0]["statuses"][0]["log_url"], "https://pitlane.example/runs/r7-5f3a9c01");
}

#[tokio::test(flavor = "multi_thread")]
async fn release_notes_get_a_section_and_keep_the_rest() {
    let setup = Setup::new();
    let client = setup.client();
    let run = run(&setup);
    assert_eq!(client.report_release(&run, &notes()).await.unwrap(), Outcome::Made);
    assert_eq!(client.report_release(&run, &notes()).await.unwrap(), Outcome::AsItWas);
    let next = ReleaseNotes { counter: Counter::try_from(4).unwrap(), ..notes() };
    assert_eq!(client.report_release(&run, &next).await.unwrap(), Outcome::Changed);
    let releases = setup.lab.releases("octo/car");
    assert_eq!((releases.len(), &releases[0]["draft"]), (1, &json!(false)));
    let body = releases[0]["body"].as_str().unwrap();
    assert!(body.contains("### Pitlane release 4\n") && !body.contains("release 3"), "{body}");
    let image = image();
    assert!(body.contains(&format!("pitlane-verifier check {image} --policy policies/car.yaml")));
    assert!(body.contains(&format!("cosign verify --key release.pub {image}\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_release_stays_theirs() {
    let written = "Thanks to all!\r\n\r\n- faster \u{1f3ce}\r\n<!-- mine -->";
    for (body, draft) in [(json!(written), false), (json!(written), true), (Value::Null, true)] {
        let setup = Setup::new();
        let client = setup.client();
        for _ in 0..3 {
            setup.lab.add_release("octo/car", "v0.9", &json!("older"), false);
        }
        setup.lab.add_release("octo/car", "v1.0.0", &body, draft);
        let told = client.report_release(&run(&setup), &notes()).await.unwrap();
        assert_eq!(told, Outcome::Changed);
        let releases = setup.lab.releases("octo/car");
        assert_eq!((releases.len(), &releases[3]["draft"]), (4, &json!(draft)));
        let now = releases[3]["body"].as_str().unwrap();
        assert!(now.starts_with(body.as_str().unwrap_or("")) && now.contains("pitlane:begin"));
        assert_eq!(releases[0]["body"], "older");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_release_is_made_where_none_belongs() {
    let setup = Setup::new();
    let client = setup.client();
    let run = run(&setup);
    let object =
        setup.lab.tag_object("octo/car", "v1.0.0", &setup.commit, Signature::None).unwrap();
    let second = setup.lab.commit("octo/car", &[("a", b"b")], "another").unwrap();
    setup.lab.push_tags("octo/car", &[("v1.0.0", None)]).unwrap();
    let error = client.report_release(&run, &notes()).await.unwrap_err();
    assert!(error.to_string().contains("the tag is gone"), "{error}");
    setup.lab.push_tags("octo/car", &[("v1.0.0", Some(&second))]).unwrap();
    let error = client.report_release(&run, &notes()).await.unwrap_err();
    assert!(error.to_string().contains(&second), "{error}");
    let bad = ReleaseNotes { policy: "x --> y".to_owned(), ..notes() };
    let error = client.report_release(&run, &bad).await.unwrap_err();
    assert!(error.to_string().contains("the policy cannot be put"), "{error}");
    assert_eq!(setup.lab.releases("octo/car"), Vec::<Value>::new());
    // Markers that somebody broke: nothing is written.
    setup.lab.push_tags("octo/car", &[("v1.0.0", Some(&object))]).unwrap();
    let broken = json!("<!-- pitlane:begin donkey%20car -->\nhalf of it");
    setup.lab.add_release("octo/car", "v1.0.0", &broken, false);
    let error = client.report_release(&run, &notes()).await.unwrap_err();
    assert!(error.to_string().contains("take them out by hand"), "{error}");
    assert_eq!(setup.lab.releases("octo/car")[0]["body"], broken);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_without_an_answer_is_not_made_twice() {
    let setup = Setup::new();
    let client = setup.client();
    let run = run(&setup);
    let failed = Step { annotations: remarks(70), ..done("prove", Conclusion::Failure) };
    for path in ["/check-runs", "/statuses/", "/deployments", "/releases"] {
        for fault in [Fault::Lost, Fault::Truncated] {
            setup.lab.rule(Rule::once("POST", path, fault));
        }
    }
    setup.lab.rule(Rule { skip: 1, ..Rule::once("PATCH", "/check-runs", Fault::Lost) });
    client.report_step(&run, &failed).await.unwrap();
    client.report_run(&run, &pending("prove")).await.unwrap();
    client.report_deployment(&run, &deployment("cars", DeploymentState::Success)).await.unwrap();
    client.report_release(&run, &notes()).await.unwrap();
    let checks = setup.lab.checks("octo/car");
    assert_eq!((checks.len(), checks[0]["annotations"].as_array().unwrap().len()), (1, 70));
    assert_eq!(setup.lab.statuses("octo/car").len(), 1);
    let deployments = setup.lab.deployments("octo/car");
    assert_eq!((deployments.len(), deployments[0]["statuses"].as_array().unwrap().len()), (1, 1));
    assert_eq!(setup.lab.releases("octo/car").len(), 1);
}
