//! The hook in a real git server: `git push` of tags of every kind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use super::{Served, route};
use crate::service::{
    hook::{HookError, Install, Post, install, post},
    route::Routes,
    secret::{Secrets, Token},
    store::{RunFilter, Store},
    webhook::Intake,
};

const ARGS: &str = "PITLANE_TEST_HOOK_ARGS";

/// `pitlane hook post`, as the hook starts it.
#[tokio::test]
#[ignore = "started by the hook of the test below as a process of its own"]
async fn child() {
    let Ok(args) = std::env::var(ARGS) else { return };
    let words: Vec<&str> = args.split(' ').collect();
    let value = |key: &str| {
        let at = words.iter().position(|word| *word == key).unwrap();
        words[at + 1].to_owned()
    };
    assert_eq!(words[..2], ["hook", "post"]);
    let want = Post {
        url: value("--url"),
        secret_file: value("--secret-file").into(),
        repository: value("--repository"),
        repository_dir: None,
    };
    for told in post(&want, std::io::stdin()).await {
        println!("pitlane: {}", told.line);
    }
}

fn git(dir: &Path, args: &[&str]) -> Output {
    let who = [
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@b"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@b"),
    ];
    Command::new("git")
        .current_dir(dir)
        .args(["-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"])
        .args(args)
        .envs(who)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap()
}

fn ok(dir: &Path, args: &[&str]) -> String {
    let output = git(dir, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {args:?}: {said}");
    said + &String::from_utf8_lossy(&output.stdout)
}

struct Server {
    dir: tempfile::TempDir,
    want: Install,
}

impl Server {
    fn new(url: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bare = dir.path().join("octo/car.git");
        fs::create_dir_all(&bare).unwrap();
        ok(&bare, &["init", "-q", "--bare"]);
        let secret_file = dir.path().join("the secret's file");
        drop(Token::from_file_or_new(&secret_file).unwrap());
        let program = dir.path().join("pitlane");
        let module = module_path!().split_once("::").unwrap().1;
        let exe = std::env::current_exe().unwrap();
        // The secret's path has a space and a quote: the words are told apart by the script.
        let script = format!(
            "#!/bin/sh\n[ $# = 8 ] || exit 9\nln -sf \"$6\" '{0}/s'\n\
             {ARGS}=\"$1 $2 $3 $4 $5 {0}/s $7 $8\" exec '{1}' {module}::child --exact --ignored --nocapture\n",
            dir.path().display(),
            exe.display(),
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let want = Install {
            repository_dir: bare,
            url,
            secret_file,
            repository: None,
            force: false,
            program,
        };
        Self { dir, want }
    }

    fn clone(&self) -> PathBuf {
        let work = self.dir.path().join("work");
        fs::create_dir(&work).unwrap();
        ok(&work, &["init", "-q"]);
        ok(&work, &["remote", "add", "origin", self.want.repository_dir.to_str().unwrap()]);
        ok(&work, &["commit", "-q", "--allow-empty", "-m", "one"]);
        work
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_starts_a_run_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    // The service's secret comes from the same file that the hook signs with.
    let mut server = Server::new(String::new());
    let mut secrets = Secrets::new();
    secrets.add_file(&server.want.secret_file, None).unwrap();
    let list = Routes::new(vec![route("octo/car", "car")]).unwrap();
    let listening = Served::start(Intake::new(store.clone(), list, secrets).router()).await;
    server.want.url = listening.url("/webhook");
    let installed = install(&server.want).unwrap();
    assert_eq!((installed.repository.as_str(), installed.backup), ("octo/car", None));
    let hook = fs::read_to_string(&installed.hook).unwrap();
    let secret = fs::read_to_string(&server.want.secret_file).unwrap();
    assert!(!hook.contains(secret.trim()) && hook.contains("--secret-file"), "{hook}");
    install(&server.want).expect("our own hook is written anew");

    let said = tokio::task::spawn_blocking(move || {
        let work = server.clone();
        let mut said = vec![ok(&work, &["push", "origin", "HEAD:refs/heads/main"])];
        ok(&work, &["tag", "v1"]);
        ok(&work, &["tag", "-a", "-m", "two", "v2"]);
        said.push(ok(&work, &["push", "origin", "v1", "v2"]));
        ok(&work, &["commit", "-q", "--allow-empty", "-m", "two"]);
        ok(&work, &["tag", "-f", "v1"]);
        said.push(ok(&work, &["push", "-f", "origin", "v1"]));
        said.push(ok(&work, &["push", "origin", ":refs/tags/v2"]));
        let head = ok(&work, &["rev-parse", "HEAD~"]);
        said.push(head.trim().to_owned());
        // The server does not know the service any more: the push succeeds, and says so.
        fs::write(&server.want.secret_file, "another secret\n").unwrap();
        ok(&work, &["tag", "v3"]);
        said.push(ok(&work, &["push", "origin", "v3"]));
        said
    })
    .await
    .unwrap();
    assert!(!said[0].contains("pitlane:"), "a branch is nothing to tell: {}", said[0]);
    let runs = store.runs(RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), 2);
    for run in &runs {
        let line = format!("remote: pitlane: {} accepted, run {}", run.tag, run.id);
        assert!(said[1].contains(&line), "{}", said[1]);
        assert_eq!(run.commit.as_deref(), Some(said[4].as_str()));
        assert_eq!(run.job().tag_object.is_some(), run.tag == "v2", "v2 is annotated");
    }
    assert!(said[2].contains("pitlane: v1 refused (409)"), "{}", said[2]);
    assert!(said[3].contains("pitlane: v2 ignored: tag v2 was deleted"), "{}", said[3]);
    assert!(said[5].contains("pitlane: v3 refused (401)"), "{}", said[5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_service_holds_no_push_for_long() {
    // It takes connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::new(format!("http://{}/webhook", listener.local_addr().unwrap()));
    let work = server.clone();
    let head = ok(&work, &["rev-parse", "HEAD"]);
    let zero = "0".repeat(40);
    let line = |n| format!("{zero} {} refs/tags/v{n}\n", head.trim());
    let lines = [0, 1, 2, 3, 4].map(line).concat();
    let mut want = Post {
        url: server.want.url.clone(),
        secret_file: server.want.secret_file.clone(),
        repository: "octo/car".to_owned(),
        repository_dir: Some(work),
    };
    let start = Instant::now();
    let told = post(&want, lines.as_bytes()).await;
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    assert_eq!(told.len(), 5, "each tag has its line");
    assert!(told.iter().all(|t| !t.accepted && t.line.contains("was not told")), "{told:?}");
    drop(listener);
    want.url = server.want.url;
    let told = post(&want, &lines.as_bytes()[..lines.len() / 5]).await;
    assert!(told[0].line.contains("refused"), "{told:?}");
    assert!(post(&want, &b"not git's\n\xff"[..]).await.iter().all(|t| !t.accepted));
}

#[test]
fn hooks_that_are_not_written() {
    let server = Server::new("http://127.0.0.1:1/webhook".to_owned());
    let hook = server.want.repository_dir.join("hooks/post-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho mine\n").unwrap();
    assert!(matches!(install(&server.want), Err(HookError::Foreign(_))));
    assert!(fs::read_to_string(&hook).unwrap().contains("mine"));
    let forced = install(&Install { force: true, ..server.want.clone() }).unwrap();
    let backup = forced.backup.unwrap();
    assert!(fs::read_to_string(&backup).unwrap().contains("mine"), "kept");
    assert!(fs::read_to_string(&hook).unwrap().contains("hook post"));

    let with = |change: &dyn Fn(&mut Install)| {
        let mut want = server.want.clone();
        change(&mut want);
        install(&want)
    };
    for url in ["", "ftp://x/webhook", "http://user:secret@host/", "nonsense"] {
        assert!(matches!(with(&|w| w.url = url.into()), Err(HookError::Url(_))), "{url}");
    }
    for name in ["car", "a/b/c", "a/b; rm -rf /", "'/'"] {
        assert!(
            matches!(with(&|w| w.repository = Some(name.into())), Err(HookError::Name(_))),
            "{name}"
        );
    }
    let plain = server.dir.path().join("plain");
    fs::create_dir(&plain).unwrap();
    assert!(matches!(
        with(&|w| w.repository_dir = plain.clone()),
        Err(HookError::Repository { .. })
    ));
    fs::set_permissions(
        &server.want.secret_file,
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    assert!(matches!(install(&server.want), Err(HookError::Secret(_))));
}
