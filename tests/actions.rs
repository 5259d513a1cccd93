//! What car repositories use from `.github`: the release step of a CI job, run as the runner runs
//! it, with a Sigstore instance that gives the job its token; and the form of the files.

use std::{fs, process::Command};

use serde_json::Value;

use crate::{
    common::{Ran, bin, is_root, repository, run, skip},
    keyless_lane::{Keyless, TAG},
};

/// `release.sh` in the environment of a job.
fn step(keyless: &Keyless, variables: &[(&str, &str)]) -> Ran {
    let lane = &keyless.lane;
    let mut command = Command::new(repository().join(".github/actions/release/release.sh"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", lane.dir.path()).current_dir(lane.dir.path());
    command.env("RUNNER_TEMP", lane.dir.path()).env("PITLANE", bin("pitlane"));
    command.env("PIPELINE", &keyless.pipeline).env("REPOSITORY_DIR", lane.tree("donkeycar"));
    command.env("GITHUB_REF_TYPE", "tag").env("GITHUB_REF_NAME", TAG);
    command.env("GITHUB_OUTPUT", lane.path("output"));
    command.env("GITHUB_STEP_SUMMARY", lane.path("summary.md"));
    run(command.envs(variables.iter().copied()))
}

#[test]
fn a_job_releases_its_tag() {
    if !is_root() {
        return skip("the lane is tested as root");
    }
    let keyless = Keyless::start();
    let token = fs::read_to_string(keyless.lane.path("state/registry-token")).unwrap();
    let token = token.trim();

    // The login comes from the step, not from the pipeline file.
    let text = fs::read_to_string(&keyless.pipeline).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("registry-token")).collect();
    assert_eq!(without.len() + 1, text.lines().count());
    fs::write(&keyless.pipeline, without.join("\n")).unwrap();

    // Not of a tag; another file than the repository's; a registry that knows no such token.
    let refused = step(&keyless, &[("GITHUB_REF_TYPE", "branch")]).fails();
    assert!(refused.contains("run it on push of tags"), "{refused}");
    let refused = step(&keyless, &[("PIPELINE", "/nowhere/pitlane.yaml")]).fails();
    assert!(refused.contains("name the pipeline file"), "{refused}");
    keyless.lane.git(&keyless.lane.tree("donkeycar"), &["tag", TAG]);
    keyless.job(TAG, &keyless.head());
    step(&keyless, &[("REGISTRY_USER", "ci"), ("REGISTRY_TOKEN", "wrong")]).fails();
    assert!(!keyless.lane.path("output").exists());

    let said = step(&keyless, &[("REGISTRY_USER", "ci"), ("REGISTRY_TOKEN", token)]);
    assert!(!format!("{}{}", said.stdout, said.stderr).contains(token), "the token is told");
    let out: Value = serde_json::from_str(said.ok().lines().last().unwrap()).unwrap();
    let output = fs::read_to_string(keyless.lane.path("output")).unwrap();
    for name in ["image", "index", "counter", "commit", "tag"] {
        let value = out[name].as_str().map_or_else(|| out[name].to_string(), str::to_owned);
        assert!(output.lines().any(|line| line == format!("{name}={value}")), "{output}");
    }
    let summary = fs::read_to_string(keyless.lane.path("summary.md")).unwrap();
    assert!(summary.contains("pitlane-verifier check"), "{summary}");
    let image = out["image"].as_str().unwrap();
    let (policy, root) =
        (keyless.lane.path("config/cars.yaml"), keyless.instance.lab.trusted_root());
    let (code, verdict) = Keyless::check(&policy, Some(&root), image);
    assert_eq!((code, &verdict["admitted"]), (Some(0), &Value::Bool(true)), "{verdict:#}");
    let left = fs::read_dir(keyless.lane.dir.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    let login = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("pitlane.");
    assert!(!left.iter().any(login), "the login stays behind: {left:?}");
}

/// Others' actions are pinned by commit, jobs have no right by default, and no expression of
/// a stranger's making stands in a script.
#[test]
fn workflows_are_pinned_and_have_no_rights_to_spare() {
    let folder = repository().join(".github");
    let mut files = vec![folder.join("actions/release/action.yml")];
    files.extend(fs::read_dir(folder.join("workflows")).unwrap().map(|one| one.unwrap().path()));
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let value: Value = pitlane_release::yaml::read(&text, 1 << 20).unwrap();
        let shown = file.display();
        if file.parent().unwrap().ends_with("workflows") {
            assert_eq!(value["permissions"], serde_json::json!({}), "{shown}");
        }
        let mut wrong = Vec::new();
        steps(&value, &mut |step| {
            if let Some(uses) = step["uses"].as_str()
                && !uses.starts_with("./")
            {
                let revision = uses.split_once('@').map_or("", |(_, revision)| revision);
                let pinned =
                    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
                if !pinned {
                    wrong.push(uses.to_owned());
                }
            }
            if let Some(script) = step["run"].as_str()
                && script.contains("${{")
            {
                wrong.push(script.to_owned());
            }
        });
        assert!(wrong.is_empty(), "{shown}: {wrong:#?}");
    }
}

/// Every step, wherever it stands.
fn steps(value: &Value, each: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(map) => {
            if map.contains_key("uses") || map.contains_key("run") {
                each(value);
            }
            map.values().for_each(|value| steps(value, each));
        }
        Value::Array(list) => list.iter().for_each(|value| steps(value, each)),
        _ => {}
    }
}
