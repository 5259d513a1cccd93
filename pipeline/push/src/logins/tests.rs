//! Logins by host and path, and from helper programs that behave and that do not.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

use super::*;

fn logins(text: &str) -> Logins {
    Logins { file: "config.json".into(), wire: serde_json::from_str(text).unwrap(), helpers: None }
}

async fn find(logins: &Logins, image: &str) -> String {
    let found = logins.find(&image.parse().unwrap()).await;
    match found {
        Ok(Some(Login::Password { user, password })) => format!("{user}:{}", *password),
        Ok(Some(Login::Identity(token))) => format!("identity {}", *token),
        Ok(None) => "none".into(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn entries_by_host_and_path() {
    let encode = |login: &str| STANDARD.encode(login);
    let file = logins(&format!(
        r#"{{"auths":{{
            "r.example:5000":{{"auth":"{}"}},
            "r.example:5000/team":{{"auth":"{}"}},
            "https://old.example/v1/":{{"auth":"{}"}},
            "https://index.docker.io/v1/":{{"auth":"{}"}},
            "plain.example":{{"username":"u","password":"p"}},
            "token.example":{{"auth":"","identitytoken":"abc"}},
            "helped.example":{{}},
            "broken.example":{{"auth":"%%%"}}
        }},"HttpHeaders":{{"x":"y"}}}}"#,
        encode("host:one"),
        encode("team:two:with:colons"),
        encode("old:three"),
        encode("hub:four")
    ));
    for (image, want) in [
        ("r.example:5000/car", "host:one"),
        ("r.example:5000/team/car", "team:two:with:colons"),
        ("r.example:5000/teamwork/car", "host:one"),
        ("old.example/car", "old:three"),
        ("docker.io/team/car", "hub:four"),
        ("plain.example/car", "u:p"),
        ("token.example/car", "identity abc"),
        ("helped.example/car", "none"),
        ("r.example/car", "none"),
    ] {
        assert_eq!(find(&file, image).await, want, "{image}");
    }
    let broken = find(&file, "broken.example/car").await;
    assert!(broken.contains("config.json") && !broken.contains("%%%"), "{broken}");
}

#[test]
fn a_file_that_is_none_shows_nothing_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, r#"{"auths":{"r.example":{"auth":["hunter2"]}}}"#).unwrap();
    let error = Logins::read(&path).unwrap_err().to_string();
    assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
    fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
    assert!(Logins::read(&path).is_err());
}

/// A folder with a helper of this script.
fn helper(script: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker-credential-test");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[tokio::test]
async fn helpers() {
    let store = r#"{"credsStore":"test","auths":{"r.example":{}}}"#;
    let own = r#"{"credHelpers":{"r.example":"test"},"credsStore":"nowhere"}"#;
    let good = r#"read server; echo "{\"ServerURL\":\"$server\",\"Username\":\"u\",\"Secret\":\"$1-$server\"}""#;
    let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
    for (script, config, want) in [
        (good, store, "u:get-r.example"),
        (good, own, "u:get-r.example"),
        (token, store, "identity t"),
        ("echo 'credentials not found in native keychain'; exit 1", store, "none"),
    ] {
        let dir = helper(script);
        let logins = logins(config).with_helpers(dir.path());
        assert_eq!(find(&logins, "r.example/car").await, want, "{script}");
    }
    for (script, word) in [
        ("echo 'hunter2 locked'; echo 'hunter2 locked' >&2; exit 3", "exit status: 3"),
        ("echo '{\"Secret\": \"hunter2\"'", "is no answer"),
        ("exec cat /dev/zero", "more than"),
    ] {
        let dir = helper(script);
        let logins = logins(store).with_helpers(dir.path());
        let error = find(&logins, "r.example/car").await;
        assert!(error.contains(word) && !error.contains("hunter2"), "{script}: {error}");
    }
    let missing = find(&logins(store).with_helpers(Path::new("/nonexistent")), "r.example/a").await;
    assert!(missing.contains("docker-credential-test"), "{missing}");
    // A store that fails is no matter where it was never asked to keep the login.
    let locked = helper("exit 1");
    let stranger = logins(store).with_helpers(locked.path());
    assert_eq!(find(&stranger, "other.example/car").await, "none");
    for name in ["../test", "a/b", "", "a b"] {
        let config = format!(r#"{{"credHelpers":{{"r.example":"{name}"}}}}"#);
        let error = find(&logins(&config), "r.example/car").await;
        assert!(error.contains("is no name"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_helper_that_hangs_is_ended_with_all_that_it_started() {
    let dir = helper("echo $$ > \"$(dirname \"$0\")/pid\"; sleep 1000 & wait");
    let began = Instant::now();
    let limit = std::time::Duration::from_millis(500);
    let path = dir.path().join("docker-credential-test");
    let answer = helper::run(&path, "r.example", limit).await;
    assert!(answer.is_err_and(|why| why.contains("did not end")));
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
    let pid = fs::read_to_string(dir.path().join("pid")).unwrap();
    let gone = || {
        !Path::new(&format!("/proc/{}/fd", pid.trim())).exists()
            || fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
                .is_ok_and(|s| s.contains(") Z"))
    };
    for _ in 0..100 {
        if gone() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the helper still runs");
}
