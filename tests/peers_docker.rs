//! Docker runs what we made, and Debian's registry, which knows no referrers and wants a login,
//! takes what we push.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::common::{
    Process, Ran,
    docker::Daemon,
    http, is_root, json as parse,
    lane::{Lane, quick},
    peer, port, run, skip, swap, until, write_secret,
};

/// `ci` and this password, as `htpasswd -B` writes it.
const PASSWORD: &str = "pit-wall-secret-1";
const HTPASSWD: &str = "ci:$2b$05$ymjdpq4Sbl.uunWAynqY6uo6792i864FhIqNUlQrc2TKcTeWVAmnm\n";

#[test]
fn docker_runs_the_image_locked_down() {
    let (Some(docker), Some(_)) = (peer("docker"), peer("dockerd")) else { return };
    if !is_root() {
        return skip("the Docker daemon of the tests needs root");
    }
    let lane = Lane::quick();
    let image = lane.release("v1.0.0");
    let daemon = Daemon::start();
    let docker = |args: &[&str]| -> Ran {
        let mut command = Command::new(&docker);
        command.args(["--host", &Daemon::host()]).args(args).stdin(Stdio::null());
        run(command.env("HOME", lane.dir.path()))
    };
    docker(&["pull", "--quiet", "--platform", "linux/amd64", &image]).ok();
    let mut confined = vec!["run", "--rm", "--pull=never", "--network", "none", "--read-only"];
    confined.extend(["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit"]);
    confined.extend(["64", "--memory", "256m", &image]);
    let selftest = [&confined[..], &["selftest", "--model", "/models/pilot.onnx"]].concat();
    let answer = parse(docker(&selftest).ok());
    assert_eq!((&answer["passed"], &answer["finite"]), (&true.into(), &true.into()), "{answer:#}");
    assert_eq!(answer["model"], lane.statement(&image)["predicate"]["model"]["digest"]);
    assert!(!answer["frames"].as_array().unwrap().is_empty());
    // The image says how it wants to be started: as nobody, quiet, driving.
    let inspected = parse(docker(&["inspect", &image]).ok());
    let config = &inspected[0]["Config"];
    assert!(config["User"].as_str().unwrap().starts_with("65532"), "{config:#}");
    assert_eq!(config["Entrypoint"][0], "/usr/bin/pitlane-car");
    let quiet = config["Env"].as_array().unwrap().contains(&"ORT_DISABLE_TELEMETRY=1".into());
    assert!(quiet, "{config:#}");
    // Nothing to run commands with is in it.
    let shell = [&["run", "--rm", "--pull=never", "--network", "none"][..], &["--entrypoint"]];
    docker(&[&shell.concat()[..], &["/bin/sh", &image, "-c", "true"]].concat()).fails();
    docker(&["rmi", &image]).ok();
    daemon.stop();
}

/// Debian's docker-registry with a login, in the lane's folder.
fn docker_registry(lane: &Lane, host: &str) -> Option<Process> {
    let program = peer("docker-registry")?;
    fs::write(lane.path("htpasswd"), HTPASSWD).unwrap();
    let root = lane.path("docker-registry");
    let config = serde_json::json!({
        "version": "0.1",
        "log": { "level": "warn" },
        "storage": { "filesystem": { "rootdirectory": root } },
        "http": { "addr": host },
        "auth": { "htpasswd": { "realm": "tests", "path": lane.path("htpasswd") } },
    });
    let file = lane.path("docker-registry.yaml");
    fs::write(&file, config.to_string()).unwrap();
    let log = lane.path("docker-registry.log");
    let process = Process::start(Command::new(program).arg("serve").arg(file), &log);
    until(30, "docker-registry answers", || http::get(host, "/v2/"));
    Some(process)
}

#[test]
fn a_registry_with_a_login_and_no_referrers() {
    let lane = Lane::new(quick, crate::common::lane::lapless);
    let free = port();
    let host = format!("127.0.0.1:{}", free.number);
    let Some(_registry) = docker_registry(&lane, &host) else { return };
    assert_eq!(http::get(&host, "/v2/").unwrap().status, 401);
    let own = lane.registry.clone();
    let password = lane.path("docker.password");
    let pipeline = |name: &str, secret: &str| {
        write_secret(&password, secret);
        lane.pipeline_file(name, |text| {
            let text = quick(&text[..text.find("  promote:").unwrap()].replace(&own, &host));
            let image = format!("repository: {host}/team/donkeycar\n");
            let login = format!("    user: ci\n    passwordFile: {}\n", password.display());
            swap(&text, &image, &format!("{image}{login}"))
        })
    };
    let wrong = lane.one_shot("v1.0.0", &pipeline("wrong", "not it"), &[]).fails();
    assert!(wrong.contains("401") || wrong.to_lowercase().contains("auth"), "{wrong}");
    assert!(!wrong.contains("not it"), "a password is shown: {wrong}");

    let file = pipeline("external", PASSWORD);
    for (counter, tag) in [(1, "v1.0.0"), (2, "v1.1.0")] {
        let made = parse(lane.one_shot(tag, &file, &[]).ok());
        // Counted from what is signed in that registry: there is no service here.
        assert_eq!(made["counter"], counter, "{made:#}");
        let image = made["image"].as_str().unwrap();
        let mut check = Command::new(crate::common::bin("pitlane-verifier"));
        check.args(["check", image, "--output", "json", "--layers", "--user", "ci", "--policy"]);
        check.arg(lane.path("config/policy.yaml")).arg("--key");
        check.arg(lane.path("state/keys/release.pub"));
        let open = run(check.env("PITLANE_REGISTRY_PASSWORD", "not it"));
        assert_eq!(open.code, Some(1), "{open:?}");
        let verdict = parse(run(check.env("PITLANE_REGISTRY_PASSWORD", PASSWORD)).ok());
        assert_eq!(verdict["counter"], counter, "{verdict:#}");
        if let Some(cosign) = peer("cosign") {
            let login = "Y2k6cGl0LXdhbGwtc2VjcmV0LTE=";
            let auths = serde_json::json!({ "auths": { &host: { "auth": login } } });
            fs::write(lane.path("config.json"), auths.to_string()).unwrap();
            let mut verify = Command::new(cosign);
            verify.args(["verify", "--insecure-ignore-tlog", "--key"]);
            verify.arg(lane.path("state/keys/release.pub")).arg(image);
            verify.env("HOME", lane.dir.path()).env("DOCKER_CONFIG", lane.dir.path());
            let said = run(&mut verify).ok();
            assert!(said.contains(image.split('@').nth(1).unwrap()), "{said}");
        }
    }
    // A tag that is there is not moved.
    let tree = lane.tree("donkeycar");
    lane.git(&tree, &["commit", "--quiet", "--allow-empty", "-m", "More"]);
    lane.git(&tree, &["tag", "-f", "v1.1.0"]);
    let moved = lane.one_shot("v1.1.0", &file, &[]);
    assert_eq!(moved.code, Some(10), "{moved:?}");
    assert!(moved.stderr.contains("is already"), "{}", moved.stderr);
}
