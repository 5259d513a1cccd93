//! Pull requests: found, opened once, brought up to date; and git pushes by the same token.

use std::process::Command;

use pitlane_github::{NewPull, PullState};

use crate::common::Setup;

const BRANCH: &str = "pitlane/donkeycar/rc";

/// Pushes a branch with one commit of its own, as git with a login.
async fn push(setup: &Setup) {
    let client = setup.client();
    let url = setup.lab.clone_url("octo/car");
    let env = client.git_env_to_push(&setup.repo, &url).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(args).current_dir(dir.path()).envs(env.pairs()).env("HOME", dir.path());
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "p").env(format!("GIT_{role}_EMAIL"), "p@q");
        }
        let out = git.output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    git(&["clone", "--quiet", &url, "."]);
    git(&["commit", "--quiet", "--allow-empty", "-m", "promotes"]);
    git(&["push", "--quiet", "origin", &format!("HEAD:refs/heads/{BRANCH}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_opened_found_changed_and_merged() {
    let setup = Setup::new();
    let client = setup.client();
    let repo = &setup.repo;
    let new = NewPull { head: BRANCH, base: "main", title: "v1 to rc", body: "counter 1" };
    assert_eq!(client.find_pull(repo, BRANCH, "main").await.unwrap(), None);
    assert!(client.open_pull(repo, new).await.is_err(), "there is no such branch");
    push(&setup).await;
    let opened = client.open_pull(repo, new).await.unwrap();
    assert_eq!(
        (opened.number, opened.state, opened.body.as_str()),
        (1, PullState::Open, "counter 1")
    );
    assert_eq!(client.open_pull(repo, new).await.unwrap(), opened, "a second time is the same");
    assert_eq!(client.find_pull(repo, BRANCH, "main").await.unwrap(), Some(opened.clone()));
    assert_eq!(client.find_pull(repo, BRANCH, "production").await.unwrap(), None);
    let changed = client.update_pull(repo, 1, "v2 to rc", "counter 2").await.unwrap();
    assert_eq!((changed.number, changed.body.as_str()), (1, "counter 2"));
    let long = "x".repeat(65_537);
    assert!(client.update_pull(repo, 1, "v2", &long).await.is_err(), "it would be cut");
    setup.lab.merge_pull("octo/car", 1).unwrap();
    let merged = client.find_pull(repo, BRANCH, "main").await.unwrap().unwrap();
    assert_eq!(merged.state, PullState::Merged);
    assert_eq!(setup.lab.pulls("octo/car").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_what_is_missing() {
    let setup = Setup::granted("contents=write metadata=read");
    push(&setup).await;
    let client = setup.client();
    let error = client.find_pull(&setup.repo, BRANCH, "main").await.unwrap_err().to_string();
    assert!(error.contains("pull requests: write"), "{error}");
    // Reading is no writing.
    let reader = Setup::granted("contents=read metadata=read");
    let client = reader.client();
    let url = reader.lab.clone_url("octo/car");
    assert!(client.git_env_to_push(&reader.repo, &url).await.is_err());
    assert!(client.git_env(&reader.repo, &url).await.is_ok());
}
