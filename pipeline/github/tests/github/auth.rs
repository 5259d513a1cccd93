//! Apps, tokens, permissions, enterprise servers, and where tokens must not go.

use std::time::Duration;

use pitlane_github::{App, Client, Credentials, Outcome, Problem, TagWatch, Token};
use pitlane_github_lab::{Fault, Lab, Rule};

use crate::{
    common::{ALL, Setup, is_for_tokens, tag},
    reports::{pending, run, step},
};

fn tokens_made(setup: &Setup) -> usize {
    let asked = setup.lab.take_asked();
    asked.iter().filter(|one| one.path.ends_with("/access_tokens")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installations_token_is_made_once_and_renewed_in_time() {
    let setup = Setup::new();
    let client = setup.client();
    let resolve = async || client.resolve_tag(&setup.repo, &tag("v1.0.0")).await;
    let many = (0..8).map(|_| {
        let (client, repo) = (client.clone(), setup.repo.clone());
        tokio::spawn(async move { client.resolve_tag(&repo, &tag("v1.0.0")).await })
    });
    for one in many.collect::<Vec<_>>() {
        assert!(one.await.unwrap().unwrap().is_some());
    }
    assert_eq!(tokens_made(&setup), 1, "many at once make one token");
    // One that was taken away is made anew, once.
    setup.lab.revoke_tokens();
    assert!(resolve().await.unwrap().is_some());
    assert_eq!(tokens_made(&setup), 1);
    // One that ends within two minutes is not kept.
    setup.lab.set_token_life(Duration::from_secs(100));
    setup.lab.revoke_tokens();
    for _ in 0..3 {
        assert!(resolve().await.unwrap().is_some());
    }
    assert_eq!(tokens_made(&setup), 3);
    // The App was taken away and installed again, under another number.
    setup.lab.reinstall(&setup.app);
    assert!(resolve().await.unwrap().is_some());
    assert_eq!(tokens_made(&setup), 2, "one by the old number");
    // Tokens that never work are not made forever.
    setup.lab.set_token_life(Duration::ZERO);
    let error = resolve().await.unwrap_err();
    assert_eq!(error.status(), Some(401), "{error}");
    assert_eq!(tokens_made(&setup), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_that_are_none() {
    let setup = Setup::new();
    let error = async |id, pem: &str, installation| {
        let app = App::new(id, pem.as_bytes(), installation, "a test").unwrap();
        let client = Client::new(setup.settings(Credentials::App(app))).unwrap();
        client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap_err()
    };
    let other = setup.lab.app(ALL, &["octo/other"]).unwrap();
    // Somebody else's key.
    let wrong_key = error(setup.app.id, &other.pem, None).await;
    assert_eq!(wrong_key.status(), Some(401));
    assert!(wrong_key.to_string().contains("this machine's clock"), "{wrong_key}");
    // An App that is not installed here.
    let elsewhere = error(other.id, &other.pem, None).await;
    assert_eq!(elsewhere.status(), Some(404));
    assert!(elsewhere.to_string().contains("install the App"), "{elsewhere}");
    // An installation that covers another repository.
    let wrong = error(other.id, &other.pem, Some(other.installation)).await;
    assert_eq!(wrong.status(), Some(422), "{wrong}");
    // The right one, named.
    let app = setup.app.clone();
    let app = App::new(app.id, app.pem.as_bytes(), Some(app.installation), "a test").unwrap();
    let client = Client::new(setup.settings(Credentials::App(app))).unwrap();
    setup.lab.take_asked();
    assert!(client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap().is_some());
    let asked = setup.lab.take_asked();
    assert!(!asked.iter().any(|one| one.path.ends_with("/installation")), "{asked:?}");
    // A clock that is late by a quarter of an hour.
    setup.lab.set_ahead(15 * 60);
    let late = error(setup.app.id, &setup.app.pem, None).await;
    assert_eq!(late.status(), Some(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_done_says_which_permission_is_missing() {
    let setup = Setup::granted("contents=read metadata=read");
    let client = setup.client();
    let run = run(&setup);
    for (error, permission) in [
        (
            client.report_step(&run, &step("prove")).await.unwrap_err(),
            "checks: write` (GitHub: checks=read)",
        ),
        (
            client.report_run(&run, &pending("x")).await.unwrap_err(),
            "commit statuses: write` (GitHub: statuses=read)",
        ),
        (
            client.find_hook(&setup.repo, "http://h").await.unwrap_err(),
            "webhooks: read` (GitHub: repository_hooks=read)",
        ),
    ] {
        let said = error.to_string();
        assert_eq!(error.status(), Some(403));
        assert!(said.starts_with("github: octo/car: "), "{said}");
        assert!(said.contains("Resource not accessible by integration"), "{said}");
        assert!(said.contains(permission) && said.contains("accept it"), "{said}");
    }
    // Permissions that were given later count once the old token is gone.
    setup.lab.grant(&setup.app, ALL);
    setup.lab.revoke_tokens();
    assert_eq!(client.report_step(&run, &step("prove")).await.unwrap(), Outcome::Made);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_token_does_all_but_check_runs() {
    let setup = Setup::new();
    let client = setup.person(ALL);
    let run = run(&setup);
    setup.lab.take_asked();
    assert_eq!(client.report_step(&run, &step("prove")).await.unwrap(), Outcome::NeedsApp);
    assert_eq!(setup.lab.take_asked(), [], "nothing is asked that must be refused");
    assert_eq!(client.report_run(&run, &pending("x")).await.unwrap(), Outcome::Made);
    let poor = setup.person("metadata=read");
    let error = poor.report_run(&run, &pending("x")).await.unwrap_err();
    assert!(error.to_string().contains("personal access token"), "{error}");
    let stranger = Token::new("github_pat_no", "a test").unwrap();
    let stranger = Client::new(setup.settings(Credentials::Token(stranger))).unwrap();
    let error = stranger.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert!(error.to_string().contains("make a new one"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_printed_holds_a_secret() {
    let setup = Setup::new();
    let token = setup.lab.token(ALL, &["octo/car"]);
    let client = setup.settings(Credentials::Token(Token::new(&token, "x").unwrap()));
    let env = setup.client().git_env(&setup.repo, &setup.lab.clone_url("octo/car")).await.unwrap();
    let shown = format!("{client:?} {:?} {:?} {env:?}", setup.client(), setup.app_credentials());
    for secret in [token.as_str(), "ghs_", "PRIVATE", "Basic"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enterprise_server_has_its_api_below_a_path() {
    let setup = Setup::new();
    setup.lab.set_paged_refs(true);
    let mut settings = setup.settings(setup.app_credentials());
    settings.address = setup.lab.enterprise_api().parse().unwrap();
    let client = Client::new(settings).unwrap();
    let run = run(&setup);
    assert!(client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap().is_some());
    assert_eq!(client.report_step(&run, &step("prove")).await.unwrap(), Outcome::Made);
    // More than a page of tags: links lead below the same path.
    let names: Vec<String> = (0..130).map(|n| format!("n{n}")).collect();
    for some in names.chunks(3) {
        let tags: Vec<_> = some.iter().map(|n| (n.as_str(), Some(setup.commit.as_str()))).collect();
        setup.lab.push_tags("octo/car", &tags).unwrap();
    }
    let list = client.list_tags(&setup.repo, "", &mut TagWatch::default()).await.unwrap();
    assert_eq!((list.tags.len(), list.complete), (131, true));
    let asked = setup.lab.take_asked();
    assert!(asked.iter().any(|one| one.path.contains("page=2")), "{asked:?}");
    assert!(asked.iter().all(|one| is_for_tokens(one) || one.api_version == "2022-11-28"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_repository_is_followed_and_a_token_goes_nowhere_else() {
    let setup = Setup::new();
    // The token was made under the old name.
    let client = setup.client();
    let run = run(&setup);
    assert!(client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap().is_some());
    setup.lab.rename("octo/car", "octo/racer").unwrap();
    let person = setup.lab.token(ALL, &["octo/racer"]);
    let person = Credentials::Token(Token::new(&person, "x").unwrap());
    let client = Client::new(setup.settings(person)).unwrap();
    assert!(client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap().is_some());
    assert_eq!(client.report_run(&run, &pending("x")).await.unwrap(), Outcome::Made);
    assert_eq!(setup.lab.statuses("octo/racer").len(), 1);

    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Lab::start(folder.path()).unwrap();
    let to = format!("{}/repos/octo/racer/git/ref/tags/v1.0.0", elsewhere.url());
    setup.lab.rule(Rule::always("GET", "/git/ref/", Fault::Redirects(to)));
    let error = client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap_err();
    assert!(matches!(error.problem, Problem::Unreadable(_)), "{error}");
    assert_eq!(elsewhere.take_asked(), []);
    // Round and round.
    setup.lab.clear_rules();
    let to = format!("{}/repos/octo/racer/git/ref/tags/v1.0.0", setup.lab.url());
    setup.lab.rule(Rule::always("GET", "/git/ref/", Fault::Redirects(to)));
    let error = client.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap_err();
    assert!(error.to_string().contains("from place to place"), "{error}");
}
