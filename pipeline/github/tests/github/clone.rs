//! Cloning by git itself, with the token in its environment.

use std::{path::Path, process::Output};

use pitlane_github::{Client, Credentials, GitEnv, Token};

use crate::{
    common::{Setup, tag},
    reports::{pending, run},
};

/// Fetches a tag as the pipeline does: an empty environment, no prompts, no configuration.
async fn fetch(url: &str, env: Option<&GitEnv>, folder: &Path) -> Output {
    let mut command = tokio::process::Command::new("git");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(["clone", "--quiet", "--bare", "--branch", "v1.0.0", "--depth", "1", url]);
    let bare = folder.join("bare");
    let _ = std::fs::remove_dir_all(&bare);
    command.arg(&bare);
    if let Some(env) = env {
        command.envs(env.pairs());
    }
    command.output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_with_the_installations_token_and_not_without() {
    let setup = Setup::new();
    let client = setup.client();
    let folder = tempfile::tempdir().unwrap();
    let url = setup.lab.clone_url("octo/car");
    let env = client.git_env(&setup.repo, &url).await.unwrap();
    let cloned = fetch(&url, Some(&env), folder.path()).await;
    assert!(cloned.status.success(), "{}", String::from_utf8_lossy(&cloned.stderr));
    let mut show = tokio::process::Command::new("git");
    show.arg("--git-dir")
        .arg(folder.path().join("bare"))
        .args(["show", "v1.0.0:models/pilot.onnx"]);
    assert_eq!(show.output().await.unwrap().stdout, b"onnx");
    let config = std::fs::read_to_string(folder.path().join("bare/config")).unwrap();
    assert!(!config.contains("Authorization"), "the token stays out of files: {config}");

    let refused = fetch(&url, None, folder.path()).await;
    assert!(!refused.status.success());
    let ended = env.clone();
    setup.lab.revoke_tokens();
    assert!(!fetch(&url, Some(&ended), folder.path()).await.status.success());
    // A token for another repository.
    setup.lab.repository("octo/other", true).unwrap();
    let other = setup.lab.token("contents=write", &["octo/other"]);
    let other = Credentials::Token(Token::new(&other, "x").unwrap());
    let other = Client::new(setup.settings(other)).unwrap();
    let env = other.git_env(&setup.repo, &url).await.unwrap();
    assert!(!fetch(&url, Some(&env), folder.path()).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_for_git_can_only_read_and_goes_to_one_host() {
    let setup = Setup::new();
    let client = setup.client();
    let env = client.git_env(&setup.repo, &setup.lab.clone_url("octo/car")).await.unwrap();
    let pairs: Vec<(&str, &str)> = env.pairs().collect();
    assert_eq!(pairs[0], ("GIT_CONFIG_COUNT", "1"));
    assert_eq!(pairs[1].1, format!("http.{}/.extraHeader", setup.lab.url()));
    let encoded = pairs[2].1.strip_prefix("Authorization: Basic ").unwrap();
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded);
    let login = String::from_utf8(decoded.unwrap()).unwrap();
    let token = login.strip_prefix("x-access-token:").unwrap();
    let reader = Credentials::Token(Token::new(token, "x").unwrap());
    let reader = Client::new(setup.settings(reader)).unwrap();
    assert!(reader.resolve_tag(&setup.repo, &tag("v1.0.0")).await.unwrap().is_some());
    let error = reader.report_run(&run(&setup), &pending("x")).await.unwrap_err();
    assert_eq!(error.status(), Some(403));
    // It is kept, and is not the one for requests.
    setup.lab.take_asked();
    let again = client.git_env(&setup.repo, &setup.lab.clone_url("octo/car")).await.unwrap();
    assert_eq!(again.pairs().collect::<Vec<_>>(), pairs);
    assert_eq!(setup.lab.take_asked(), []);
    for elsewhere in ["https://github.com/octo/car.git", "/srv/git/car.git", "http://127.0.0.1:1/x"]
    {
        let error = client.git_env(&setup.repo, elsewhere).await.unwrap_err();
        assert!(error.to_string().contains("gets no token"), "{error}");
    }
}
