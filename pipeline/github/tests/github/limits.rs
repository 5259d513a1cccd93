//! Limits, faults, and what is asked again.

use std::time::{Duration, Instant};

use pitlane_github::{Client, GithubError, Limit, Outcome, Problem, TagWatch};
use pitlane_github_lab::{Fault, Rule};

use crate::{
    common::{Setup, tag, times},
    reports::{pending, run},
};

async fn resolve(setup: &Setup, client: &Client) -> Result<bool, GithubError> {
    Ok(client.resolve_tag(&setup.repo, &tag("v1.0.0")).await?.is_some())
}

fn limit(error: &GithubError) -> Option<Limit> {
    match error.problem {
        Problem::Limited { limit, .. } => Some(limit),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_that_is_used_up_is_not_asked_into() {
    let setup = Setup::new();
    setup.lab.set_hourly(4);
    let client = setup.client();
    for _ in 0..4 {
        assert!(resolve(&setup, &client).await.unwrap());
    }
    setup.lab.take_asked();
    let error = resolve(&setup, &client).await.unwrap_err();
    assert_eq!(limit(&error), Some(Limit::Primary));
    assert!((3500..=3600).contains(&error.wait().unwrap().as_secs()), "{error}");
    assert!(error.may_pass() && error.to_string().contains("ask again in"), "{error}");
    assert_eq!(setup.asked(), [""; 0], "known before asking");
    // Somebody who does not know it is told.
    let other = setup.client();
    let error = resolve(&setup, &other).await.unwrap_err();
    assert_eq!((limit(&error), setup.asked().len()), (Some(Limit::Primary), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_pause_is_waited_for_and_a_long_one_is_told() {
    let setup = Setup::new();
    let client = setup.client();
    let run = run(&setup);
    assert!(resolve(&setup, &client).await.unwrap());
    for status in [403, 429] {
        setup.lab.block(1, status, Some(1));
        let began = Instant::now();
        // A POST: what a limit refuses was not done, so it may be asked again.
        let text = pending(&status.to_string());
        assert_eq!(client.report_run(&run, &text).await.unwrap(), Outcome::Made);
        assert!(began.elapsed() >= Duration::from_millis(900));
    }
    assert_eq!(setup.lab.statuses("octo/car").len(), 2);
    setup.lab.take_asked();
    setup.lab.block(1, 429, Some(60));
    let error = resolve(&setup, &client).await.unwrap_err();
    assert_eq!(
        (limit(&error), error.wait()),
        (Some(Limit::Secondary), Some(Duration::from_mins(1)))
    );
    assert_eq!(setup.asked().len(), 1);
    // The pause holds for everything, without asking.
    let error = client.report_run(&run, &pending("x")).await.unwrap_err();
    assert_eq!((limit(&error), setup.asked().len()), (Some(Limit::Secondary), 0));
    assert!(error.wait().unwrap() > Duration::from_secs(50));
    // Without a time it is a minute.
    let client = setup.client();
    setup.lab.block(1, 403, None);
    let error = resolve(&setup, &client).await.unwrap_err();
    assert_eq!(
        (limit(&error), error.wait()),
        (Some(Limit::Secondary), Some(Duration::from_mins(1)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_asked_again_and_a_refusal_is_not() {
    let setup = Setup::new();
    let client = setup.client();
    assert!(resolve(&setup, &client).await.unwrap());
    for fault in [Fault::Status(500), Fault::Status(502), Fault::Lost, Fault::Truncated] {
        setup.lab.take_asked();
        setup.lab.rule(Rule::once("GET", "/git/ref/", fault.clone()));
        assert!(resolve(&setup, &client).await.unwrap(), "{fault:?}");
        assert_eq!(setup.asked().len(), 2, "{fault:?}");
    }
    setup.lab.rule(Rule::always("GET", "/git/ref/", Fault::Status(503)));
    let error = resolve(&setup, &client).await.unwrap_err();
    assert_eq!(setup.asked().len(), 3, "three attempts");
    let Problem::Unavailable { attempts: 3, reason } = &error.problem else { panic!("{error}") };
    assert_eq!((reason.as_str(), error.may_pass()), ("status 503", true));
    setup.lab.clear_rules();
    for status in [400, 401, 403, 409, 410, 422, 451] {
        setup.lab.rule(Rule::once("GET", "/git/ref/", Fault::Status(status)));
        if status == 401 {
            // Once with a new token.
            assert!(resolve(&setup, &client).await.unwrap());
            setup.lab.take_asked();
            continue;
        }
        let error = resolve(&setup, &client).await.unwrap_err();
        assert_eq!((error.status(), error.may_pass()), (Some(status), false), "{error}");
        assert_eq!(setup.asked().len(), 1, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_bounded_in_time_and_bytes() {
    let setup = Setup::new();
    let mut settings = setup.settings(setup.app_credentials());
    settings.times.attempts = 2;
    settings.times.request = Duration::from_millis(700);
    let client = Client::new(settings).unwrap();
    setup.lab.rule(Rule::always("GET", "/git/ref/", Fault::Hangs));
    let began = Instant::now();
    let error = resolve(&setup, &client).await.unwrap_err();
    assert!(error.to_string().contains("nothing within 700 ms"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
    setup.lab.clear_rules();
    let client = setup.client();
    for (path, most) in [("/git/ref/", "2097152 bytes"), ("/matching-refs/", "16777216 bytes")] {
        setup.lab.rule(Rule::once("GET", path, Fault::Floods));
        let mut watch = TagWatch::default();
        let error = match path {
            "/git/ref/" => resolve(&setup, &client).await.unwrap_err(),
            _ => client.list_tags(&setup.repo, "", &mut watch).await.unwrap_err(),
        };
        assert!(error.to_string().contains(most), "{error}");
    }
    // Nobody is there at all.
    let mut settings = setup.settings(setup.app_credentials());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    assert_eq!(settings.times.attempts, times().attempts);
    let error = resolve(&setup, &Client::new(settings).unwrap()).await.unwrap_err();
    assert!(error.may_pass() && error.to_string().contains("refused"), "{error}");
}
