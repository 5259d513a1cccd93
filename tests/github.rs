//! A pipeline whose source is on GitHub: a GitHub in memory over real HTTP, and the service as
//! people start it. Nobody delivers anything; tags are found, and everything is reported.

use std::fs;

use pitlane_github_lab::{AppKey, Lab, Signature};
use serde_json::{Value, json};

use crate::common::{
    lane::{Lane, lapless, quick},
    repository, swap, until, write_secret,
};

const SOURCE: &str = "team/donkeycar";
const GITOPS: &str = "team/gitops";
const GRANTED: &str = "checks=write contents=write deployments=write metadata=read \
                       pull_requests=write statuses=write";
const RUN_LIMIT: u64 = 120;

/// A lane whose source is on a GitHub of its own.
struct OnGithub {
    lane: Lane,
    lab: Lab,
    _folder: tempfile::TempDir,
}

impl OnGithub {
    fn start(edit: impl Fn(&str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::start(folder.path()).unwrap();
        lab.repository(SOURCE, true).unwrap();
        lab.repository(GITOPS, true).unwrap();
        let app: AppKey = lab.app(GRANTED, &[SOURCE, GITOPS]).unwrap();
        let pipeline = |text: &str| {
            let gitops = text.lines().find(|line| line.contains("gitops.git")).unwrap().to_owned();
            let there = format!("    url: {}", lab.clone_url(GITOPS));
            let text = &swap(text, &gitops, &there);
            let from = text.lines().find(|line| line.contains("donkeycar.git")).unwrap();
            let url = format!("    url: {}", lab.clone_url(SOURCE));
            edit(&swap(&quick(text), from, &url))
        };
        let lane = Lane::new(pipeline, lapless);
        write_secret(&lane.path("config/app.pem"), &app.pem);
        let file = lane.path("config/service.yaml");
        let mut service: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        service["github"] = json!({
            "address": lab.enterprise_api(), "app": { "id": app.id, "keyFile": "app.pem" },
            "pollSeconds": 1, "runUrl": "https://lane.example/runs/{run}",
        });
        fs::write(&file, service.to_string()).unwrap();
        let car = |name: &str| fs::read(lane.tree("gitops").join("car").join(name)).unwrap();
        let (wanted, set) = (car("kustomization.yaml"), car("car.yaml"));
        let files: [(&str, &[u8]); 2] =
            [("car/kustomization.yaml", &wanted), ("car/car.yaml", &set)];
        lab.commit(GITOPS, &files, "Start").unwrap();
        let mut on = Self { lane, lab, _folder: folder };
        // A tag that is older than the service.
        let old = on.commit("before");
        on.lab.push_tags(SOURCE, &[("v0", Some(&old))]).unwrap();
        on.lane.start();
        on
    }

    /// Commits the model once more; the commit.
    fn commit(&self, message: &str) -> String {
        let models = repository().join("examples/donkeycar/models");
        let read = |name: &str| fs::read(models.join(name)).unwrap();
        let (model, card) = (read("pilot.onnx"), read("pilot.yaml"));
        let files: [(&str, &[u8]); 3] = [
            ("models/pilot.onnx", &model),
            ("models/pilot.yaml", &card),
            ("note", message.as_bytes()),
        ];
        self.lab.commit(SOURCE, &files, message).unwrap()
    }

    /// Waits for the first look, after which new tags are new.
    fn looked(&self) {
        until(30, "the first look", || self.lane.log().contains("first look").then_some(()));
    }
}

#[test]
fn tags_that_nobody_delivered_are_released_once_and_reported() {
    let on = OnGithub::start(str::to_owned);
    on.looked();
    // GitHub tells nothing of more than three tags that are pushed at once.
    let commits: Vec<String> = (1..=4).map(|n| on.commit(&format!("release {n}"))).collect();
    let names: Vec<String> = (1..=4).map(|n| format!("v{n}")).collect();
    let tags: Vec<(&str, Option<&str>)> =
        names.iter().zip(&commits).map(|(n, c)| (n.as_str(), Some(c.as_str()))).collect();
    on.lab.push_tags(SOURCE, &tags).unwrap();
    for (tag, commit) in names.iter().zip(&commits) {
        let run =
            until(RUN_LIMIT, &format!("{tag} is found"), || on.lane.runs(tag)?.first().cloned());
        let run = if run["state"] == "done" { run } else { on.lane.wait(tag, "done") };
        assert_eq!(
            (run["commit"].as_str(), on.lane.runs(tag).unwrap().len()),
            (Some(&**commit), 1)
        );
    }
    assert!(on.lane.runs("v0").unwrap().is_empty(), "what was there before is not released");
    // Everything is reported, once each.
    let last = until(RUN_LIMIT, "the last release's notes", || {
        let releases = on.lab.releases(SOURCE);
        (releases.len() == 4).then_some(releases)
    });
    let image = on.lane.image(&on.lane.runs("v4").unwrap()[0]);
    let notes = last.iter().find(|one| one["tag_name"] == "v4").unwrap()["body"].as_str().unwrap();
    assert!(notes.contains(&image) && notes.contains("cosign verify --key"), "{notes}");
    let reported = until(30, "all reports", || {
        let done = on.lab.statuses(SOURCE).iter().filter(|s| s["state"] == "success").count();
        let deployments = on.lab.deployments(SOURCE);
        let told =
            deployments.iter().filter(|one| one["statuses"][0]["state"] == "in_progress").count();
        (done == 4 && told == 4).then_some(on.lab.checks(SOURCE))
    });
    for commit in &commits {
        let of: Vec<&Value> =
            reported.iter().filter(|check| check["head_sha"] == **commit).collect();
        assert_eq!(of.len(), 10, "a check run for each step: {of:#?}");
        for check in of {
            assert_eq!(check["status"], "completed", "{check:#}");
            let conclusion = check["conclusion"].as_str().unwrap();
            assert!(["success", "skipped"].contains(&conclusion), "{check:#}");
            let link = check["details_url"].as_str().unwrap();
            assert!(link.starts_with("https://lane.example/runs/r"), "{link}");
        }
    }
    // A tag that moves is refused, and a restart makes nothing twice.
    on.lab.push_tags(SOURCE, &[("v1", Some(&commits[3]))]).unwrap();
    let alerts = until(30, "the alert", || {
        let alerts = on.lane.api("/alerts")?["alerts"].clone();
        alerts.as_array().is_some_and(|all| !all.is_empty()).then_some(alerts)
    });
    assert_eq!((&alerts[0]["code"], &alerts[0]["tag"]), (&json!("tag-moved"), &json!("v1")));
    let mut on = on;
    on.lane.kill();
    on.lane.start();
    let new = on.commit("release 5");
    on.lab.push_tags(SOURCE, &[("v5", Some(&new))]).unwrap();
    until(RUN_LIMIT, "v5 is found", || on.lane.runs("v5")?.first().cloned());
    on.lane.wait("v5", "done");
    until(30, "its notes", || (on.lab.releases(SOURCE).len() == 5).then_some(()));
    for tag in &names {
        assert_eq!(on.lane.runs(tag).unwrap().len(), 1, "{tag}");
    }
    until(30, "its deployment", || (on.lab.deployments(SOURCE).len() >= 5).then_some(()));
    assert_eq!(on.lab.deployments(SOURCE).len(), 5);
    let of_old = on.lab.checks(SOURCE);
    assert_eq!(of_old.iter().filter(|check| check["head_sha"] == *commits[0]).count(), 10);
}

#[test]
fn where_signatures_are_asked_for_an_unsigned_tag_is_refused() {
    let signed =
        |text: &str| swap(text, "    tags: \"v*\"", "    tags: \"v*\"\n    signedTags: true");
    let on = OnGithub::start(signed);
    on.looked();
    let commit = on.commit("a release");
    let tag = |name: &str, signature| on.lab.tag_object(SOURCE, name, &commit, signature).unwrap();
    let unsigned = tag("v1", Signature::None);
    let broken = tag("v2", Signature::Says(false, "bad_email"));
    let other = tag("v9", Signature::Says(true, "valid"));
    let good = tag("v4", Signature::Says(true, "valid"));
    let all = [("v1", &unsigned), ("v2", &broken), ("v3", &other), ("v4", &good), ("v5", &commit)];
    let tags: Vec<(&str, Option<&str>)> = all.iter().map(|(n, o)| (*n, Some(o.as_str()))).collect();
    on.lab.push_tags(SOURCE, &tags).unwrap();
    for (name, _) in all {
        until(RUN_LIMIT, &format!("{name} is found"), || on.lane.runs(name)?.first().cloned());
        if name == "v4" {
            on.lane.wait(name, "done");
            continue;
        }
        let run = on.lane.wait(name, "failed");
        assert_eq!(run["error"]["code"], "tag-unsigned", "{run:#}");
    }
    let failed = until(30, "the refusals are reported", || {
        let statuses = on.lab.statuses(SOURCE);
        let of = statuses.into_iter().filter(|s| s["state"] == "failure").collect::<Vec<_>>();
        (of.len() == 4).then_some(of)
    });
    assert!(failed[0]["description"].as_str().unwrap().contains("sign"), "{failed:#?}");
}

/// Promotion by pull request: a person merges, and the next release opens another.
#[test]
fn a_pull_request_is_opened_and_what_people_do_with_it_counts() {
    let by_pull =
        |text: &str| swap(text, "    branch: main", "    branch: main\n    how: pullRequest");
    let on = OnGithub::start(by_pull);
    on.looked();
    let first = on.commit("one");
    on.lab.push_tags(SOURCE, &[("v1", Some(&first))]).unwrap();
    until(RUN_LIMIT, "v1 is found", || on.lane.runs("v1")?.first().cloned());
    let image = on.lane.image(&on.lane.wait("v1", "done"));
    let pulls = on.lab.pulls(GITOPS);
    assert_eq!(pulls.len(), 1, "{pulls:#?}");
    let body = pulls[0]["body"].as_str().unwrap();
    for want in [image.as_str(), "pitlane-verifier check", "cosign verify", &first] {
        assert!(body.contains(want), "{want}: {body}");
    }
    let deployed = |state: &str| {
        let all = on.lab.deployments(SOURCE);
        all.iter().any(|one| one["statuses"][0]["state"] == state).then_some(())
    };
    until(30, "it waits for its pull request", || deployed("queued"));
    let second = on.commit("two");
    on.lab.push_tags(SOURCE, &[("v2", Some(&second))]).unwrap();
    until(RUN_LIMIT, "v2 is found", || on.lane.runs("v2")?.first().cloned());
    let image = on.lane.image(&on.lane.wait("v2", "done"));
    let pulls = on.lab.pulls(GITOPS);
    assert_eq!(pulls.len(), 1, "the open one is brought up to date");
    assert!(pulls[0]["body"].as_str().unwrap().contains(&image));
    on.lab.merge_pull(GITOPS, 1).unwrap();
    let third = on.commit("three");
    on.lab.push_tags(SOURCE, &[("v3", Some(&third))]).unwrap();
    until(RUN_LIMIT, "v3 is found", || on.lane.runs("v3")?.first().cloned());
    on.lane.wait("v3", "done");
    assert_eq!(on.lab.pulls(GITOPS).len(), 2, "what was merged is done with");
}
