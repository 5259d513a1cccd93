//! The admission webhooks by the real program, over TLS, before a real registry with real releases.

use std::{fs, path::PathBuf};

use pitlane_verifier::webhook::pods::KINDS;
use serde_json::{Value, json};

use crate::common::{
    admission::{Admission, certify, pod, review},
    lane::{Lane, lapless},
    skip, swap, until,
};

/// A lane with a release, and the webhook by its car's policy.
fn start() -> (Lane, String, Admission) {
    let lane = Lane::quick();
    let image = lane.release("v1.0.0");
    fs::create_dir(lane.path("policies")).unwrap();
    fs::copy(lane.path("config/policy.yaml"), lane.path("policies/car.yaml")).unwrap();
    let key = format!("release={}", lane.path("state/keys/release.pub").display());
    let policies = lane.path("policies");
    let args = ["--policy", policies.to_str().unwrap(), "--key", &key];
    let admission = Admission::start(lane.dir.path(), &args);
    (lane, image, admission)
}

/// An index like the image's that nobody signed.
fn unsigned(lane: &Lane, image: &str, mark: &str) -> String {
    let mut index = lane.manifest(image.split('@').nth(1).unwrap());
    index["annotations"]["org.opencontainers.image.version"] = mark.into();
    lane.put_index(&index)
}

fn update(review: &Value, old: &Value) -> Value {
    let mut review = review.clone();
    review["request"]["operation"] = "UPDATE".into();
    review["request"]["oldObject"] = old["request"]["object"].clone();
    review
}

#[test]
fn only_releases_become_pods() {
    let (lane, image, admission) = start();
    admission.allowed("validate", &pod(&image));
    assert!(admission.metric("cache_total{how=\"made\"}") > 0.0);
    admission.allowed("validate", &pod(&image));
    assert!(admission.metric("cache_total{how=\"hit\"}") > 0.0);

    let bad = unsigned(&lane, &image, "v6.6.6");
    let message = admission.denied("validate", &pod(&bad), 403, "unsigned");
    for want in ["`car`", bad.as_str(), "policy `donkeycar`", "linux/arm64", "hint: "] {
        assert!(message.contains(want), "{want}: {message}");
    }
    let message = admission.denied("validate", &pod("nginx"), 403, "no-policy");
    assert!(message.contains("index.docker.io/library/nginx:latest"), "{message}");
    admission.denied("validate", &pod("Not An Image"), 403, "unusable-name");
    admission.denied("validate", &pod(""), 403, "unusable-name");
    let gone = format!("{}@sha256:{}", lane.images(), "0".repeat(64));
    admission.denied("validate", &pod(&gone), 503, "undecided");

    // One bad image, wherever it stands, and whoever owns the object.
    for kind in &KINDS {
        for list in ["containers", "initContainers", "ephemeralContainers", "volumes"] {
            let of = |other: &str| {
                let mut pod = json!({ "containers": [{ "name": "car", "image": image }] });
                let item = match list {
                    "volumes" => json!({ "name": "x", "image": { "reference": other } }),
                    _ => json!({ "name": "x", "image": other }),
                };
                match pod[list].as_array_mut() {
                    Some(all) => all.push(item),
                    None => pod[list] = json!([item]),
                }
                let parts = kind.spec.split('/').rev().filter(|part| !part.is_empty());
                let mut object = parts.fold(pod, |inner, part| {
                    let mut outer = json!({});
                    outer[part] = inner;
                    outer
                });
                object["metadata"]["ownerReferences"] = json!([{ "controller": true, "uid": "x" }]);
                review(kind.groups[0], kind.kind, &object)
            };
            admission.allowed("validate", &of(&image));
            admission.denied("validate", &of(&bad), 403, "unsigned");
        }
    }
    let role = review("rbac.authorization.k8s.io", "Role", &json!({ "rules": [] }));
    admission.allowed("validate", &role);
    let mut removed = pod(&bad);
    removed["request"]["operation"] = "DELETE".into();
    removed["request"]["object"] = Value::Null;
    admission.allowed("validate", &removed);
}

#[test]
fn tags_are_pinned_to_what_is_judged() {
    let (lane, image, admission) = start();
    let tag = format!("{}:v1.0.0", lane.images());
    let digest = image.split('@').nth(1).unwrap();
    let message = admission.denied("validate", &pod(&tag), 403, "not-pinned");
    assert!(message.contains("mutating webhook"), "{message}");

    let pinned = admission.mutated(&pod(&tag));
    let written = pinned["request"]["object"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(written, format!("{tag}@{digest}"));
    admission.allowed("validate", &pinned);
    assert_eq!(admission.mutated(&pinned), pinned, "pinned once");
    // What no policy speaks of is not asked for anywhere, and refused as it is.
    assert_eq!(admission.mutated(&pod("nginx")), pod("nginx"));
    admission.denied("mutate", &pod("Not An Image"), 403, "unusable-name");
    let gone = pod(&format!("{}:v0.0.1", lane.images()));
    admission.denied("mutate", &gone, 503, "undecided");

    // A copy of an owner's template is left alone: its owner would make another one for ever.
    let template = |owned: bool| {
        let spec = json!({ "containers": [{ "name": "car", "image": tag }] });
        let owners = json!([{ "controller": true, "kind": "Deployment", "name": "car" }]);
        let owners = if owned { owners } else { json!([]) };
        json!({ "metadata": { "ownerReferences": owners },
            "spec": { "template": { "spec": spec } } })
    };
    let owned = review("apps", "ReplicaSet", &template(true));
    assert_eq!(admission.mutated(&owned), owned);
    admission.denied("validate", &owned, 403, "not-pinned");
    let own = review("apps", "ReplicaSet", &template(false));
    admission.allowed("validate", &admission.mutated(&own));

    // What stood there before lets nothing in, and a running Pod is not restarted for a label.
    let before = pod(&tag);
    let labelled = update(&before, &before);
    let response = admission.allowed("validate", &labelled);
    assert!(response["warnings"][0].as_str().unwrap().contains("not pinned"), "{response:#}");
    assert_eq!(admission.mutated(&labelled), labelled);
    let bad = unsigned(&lane, &image, "v6.6.6");
    admission.denied("validate", &update(&pod(&bad), &before), 403, "unsigned");
    // The API server answers 422 to every change of a Job's template.
    let job = review("batch", "Job", &template(false));
    let done = update(&job, &job);
    assert_eq!(admission.mutated(&done), done);
    admission.allowed("validate", &done);
    assert!(admission.mutated(&job).to_string().contains(digest), "a new one is pinned");
    // A Deployment's change is a wish for new Pods: those are pinned.
    let deployment = review("apps", "Deployment", &template(false));
    let pinned = admission.mutated(&update(&deployment, &deployment));
    assert!(pinned.to_string().contains(digest), "{pinned:#}");
}

#[test]
fn a_hundred_pods_are_one_check() {
    let (lane, image, admission) = start();
    let many = pod(&unsigned(&lane, &image, "many"));
    let before = admission.metric("judged_total");
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| admission.denied("validate", &many, 403, "unsigned"));
        }
    });
    let made = admission.metric("judged_total") - before;
    assert!((made - 1.0).abs() < 0.1, "{made} checks");
}

#[test]
fn without_a_registry_nothing_new_is_admitted() {
    let (mut lane, image, admission) = start();
    let bad = unsigned(&lane, &image, "later");
    admission.allowed("validate", &pod(&image));
    lane.kill();
    // By the verdict that is kept.
    admission.allowed("validate", &pod(&image));
    let message = admission.denied("validate", &pod(&bad), 503, "undecided");
    assert!(message.contains("cannot be reached"), "{message}");
    let tag = pod(&format!("{}:v1.0.0", lane.images()));
    admission.denied("mutate", &tag, 503, "undecided");
    // Another generation of policies has no verdict yet.
    let file = lane.path("policies/car.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, swap(&text, "name: donkeycar", "name: renamed")).unwrap();
    until(20, "the policies are read", || {
        (admission.metric("policy_generation") > 1.5).then_some(())
    });
    admission.denied("validate", &pod(&image), 503, "undecided");
    lane.start();
    until(20, "it answers again", || {
        admission.ask("validate", &pod(&image))["allowed"].as_bool().unwrap().then_some(())
    });
}

#[test]
fn files_change_while_it_serves() {
    let (lane, image, mut admission) = start();
    let shown = |admission: &Admission| {
        let body = pod(&image).to_string();
        admission.send("POST", "/validate", body.as_bytes()).unwrap().1
    };
    let first = shown(&admission);
    let certs = lane.path("certs");
    // A key that is another's: the pair before stays.
    let key = fs::read(certs.join("tls.key")).unwrap();
    fs::write(certs.join("tls.key"), fs::read(certs.join("ca.key")).unwrap()).unwrap();
    until(20, "the pair is seen", || (admission.metric("certificate_current") < 0.5).then_some(()));
    assert_eq!(shown(&admission), first);
    assert!(admission.health("/readyz").1.contains("certificate before"));
    fs::write(certs.join("tls.key"), key).unwrap();
    assert_eq!(certify(&certs)["renewed"], true);
    until(20, "the new certificate is shown", || (shown(&admission) != first).then_some(()));
    assert!(admission.metric("certificate_current") > 0.5);

    // A second policy that speaks of the image must admit it, too.
    let other = lane.path("policies/other.yaml");
    let text = fs::read_to_string(lane.path("policies/car.yaml")).unwrap();
    let stricter = swap(&text, "name: donkeycar", "name: trucks");
    fs::write(&other, swap(&stricter, "carKinds: [donkeycar]", "carKinds: [truck]")).unwrap();
    let message = until(20, "the second policy counts", || {
        let response = admission.ask("validate", &pod(&image));
        let denied = !response["allowed"].as_bool().unwrap();
        denied.then(|| response["status"]["message"].as_str().unwrap().to_owned())
    });
    assert!(message.contains("(wrong-kind) by policy `trucks`"), "{message}");
    assert!(!message.contains("`donkeycar`: it"), "{message}");
    // A broken file changes nothing but what is told.
    fs::write(&other, "kind: [").unwrap();
    until(20, "the broken file is seen", || {
        (admission.metric("policies_current") < 0.5).then_some(())
    });
    let (status, ready) = admission.health("/readyz");
    assert!(status == 200 && ready.contains("other.yaml"), "{ready}");
    admission.denied("validate", &pod(&image), 403, "wrong-kind");
    fs::remove_file(&other).unwrap();
    until(20, "the policy is gone", || {
        admission.ask("validate", &pod(&image))["allowed"].as_bool().unwrap().then_some(())
    });
    assert!(admission.metric("reloads_failed_total") > 1.5);
    assert_eq!(admission.process.terminate().code(), Some(0));
}

#[test]
fn one_platform_where_a_cluster_has_one() {
    let (lane, image, _) = start();
    let policy = lane.policy_file("arm", |text| {
        swap(&lapless(text), "platforms: [linux/amd64, linux/arm64]", "platforms: [linux/arm64]")
    });
    let key = lane.path("state/keys/release.pub");
    let common = ["--policy", policy.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let start = |name: &str, more: &[&str]| {
        let dir = lane.path(name);
        fs::create_dir(&dir).unwrap();
        Admission::start(&dir, &[&common[..], more].concat())
    };
    // The image carries amd64 as well, and a Pod may be put anywhere.
    let all = start("all", &[]);
    let message = all.denied("validate", &pod(&image), 403, "wrong-platform");
    assert!(message.contains("for linux/amd64"), "{message}");
    let arm = start("arm", &["--platform", "linux/arm64", "--no-match", "warn", "--drop-tags"]);
    arm.allowed("validate", &pod(&image));
    let response = arm.allowed("validate", &pod("nginx"));
    assert!(response["warnings"][0].as_str().unwrap().contains("no policy"), "{response:#}");
    let pinned = arm.mutated(&pod(&format!("{}:v1.0.0", lane.images())));
    let written = &pinned["request"]["object"]["spec"]["containers"][0]["image"];
    assert_eq!(written, &json!(image));
    // Tags by what they name now, where that was asked for.
    let tags = start("tags", &["--platform", "linux/arm64", "--resolve-tags"]);
    let response = tags.allowed("validate", &pod(&format!("{}:v1.0.0", lane.images())));
    assert!(response["warnings"][0].as_str().unwrap().contains("may be another"), "{response:#}");
}

/// A webhook whose policy speaks of nothing that is asked.
fn bare() -> (tempfile::TempDir, Admission) {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("p.yaml");
    let text = "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\n\
                metadata: { name: none }\nspec:\n  images: [{ glob: \"r.example/none\" }]\n  \
                authorities: [{ static: { action: fail } }]\n";
    fs::write(&policy, text).unwrap();
    let admission = Admission::start(dir.path(), &["--policy", policy.to_str().unwrap()]);
    (dir, admission)
}

#[test]
fn bodies_that_are_no_review_get_an_error() {
    let (_dir, admission) = bare();
    let deep = format!("{}{}", "{\"a\":".repeat(50_000), "1".to_owned() + &"}".repeat(50_000));
    let huge = vec![b' '; 7 * 1024 * 1024 + 1];
    let good = pod("nginx").to_string();
    let shape = good.replace("[{\"image\":\"nginx\",\"name\":\"car\"}]", "7");
    assert_ne!(shape, good);
    for (hook, body, want) in [
        ("/validate", &b"null"[..], 400),
        ("/validate", b"", 400),
        ("/validate", b"{", 400),
        ("/validate", b"\xff\xfe", 400),
        ("/validate", shape.as_bytes(), 400),
        ("/mutate", shape.as_bytes(), 400),
        ("/validate", deep.as_bytes(), 400),
        ("/mutate", &good.as_bytes()[..good.len() - 9], 400),
        ("/validate", &huge, 413),
        ("/other", good.as_bytes(), 404),
    ] {
        let (answer, _) = admission.send("POST", hook, body).unwrap();
        assert_eq!(answer.status, want, "{hook} {} bytes", body.len());
        assert!(answer.json()["error"].as_str().is_some_and(|text| !text.is_empty()));
    }
    let (answer, _) = admission.send("GET", "/validate", b"").unwrap();
    assert_eq!(answer.status, 405);
    // And it still answers.
    admission.denied("validate", &pod("nginx"), 403, "no-policy");
    assert_eq!(admission.health("/healthz").0, 200);
}

#[test]
fn millions_of_containers_cost_nothing() {
    const LISTED: usize = 2_000_000;
    let (_dir, admission) = bare();
    let empty = format!("[{}{{}}]", "{},".repeat(LISTED));
    let with = |review: &Value| review.to_string().replace("\"MANY\"", &empty).into_bytes();
    let mut new = pod("nginx");
    new["request"]["object"]["spec"]["containers"] = "MANY".into();
    let mut old = update(&pod("nginx"), &pod("nginx"));
    old["request"]["oldObject"]["spec"]["containers"] = "MANY".into();
    let (new, old) = (with(&new), with(&old));
    assert!(new.len() > 6_000_000 && new.len() < 7 * 1024 * 1024);
    std::thread::scope(|scope| {
        for (body, reason) in [(&new, "unusable-object"), (&old, "no-policy")].repeat(3) {
            let admission = &admission;
            scope.spawn(move || {
                let (answer, _) = admission.send("POST", "/validate", body).unwrap();
                assert_eq!(answer.json()["response"]["status"]["reason"], reason);
            });
        }
    });
    let status = fs::read_to_string(format!("/proc/{}/status", admission.process.child.id()));
    let status = status.unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = most.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    // What the manifest grants.
    assert!(most < 320 * 1024, "{most} kB");
}

#[test]
fn a_registry_has_one_spelling_and_a_log_has_our_lines() {
    let (dir, admission) = bare();
    let message = admission.denied("validate", &pod("R.example/none"), 403, "unusable-name");
    assert!(message.contains("lower case"), "{message}");
    admission.denied("mutate", &pod("r.example:0443/none:v1"), 403, "unusable-name");
    // A policy speaks of it, so that the tag counts, and not that there is no policy.
    admission.denied("validate", &pod("r.example:443/none"), 403, "not-pinned");

    let mut named = pod("nginx");
    named["request"]["name"] = "x\nforged\u{1b}[2K".into();
    named["request"]["object"]["spec"]["containers"][0]["name"] = "y\nforged\r".into();
    let message = admission.denied("validate", &named, 403, "no-policy");
    assert!(message.contains("`y?forged?`"), "{message}");
    let log = until(20, "it is in the log", || {
        let log = fs::read_to_string(dir.path().join("admission.log")).unwrap();
        log.contains("x?forged?").then_some(log)
    });
    assert!(log.lines().all(|line| !line.starts_with("forged")), "{log}");
}

#[test]
fn reviews_that_others_recorded() {
    let beside = || crate::common::repository().join("../shared");
    let shared = std::env::var_os("PITLANE_SHARED").map_or_else(beside, PathBuf::from);
    let dir = shared.join("conformance/admission");
    if !dir.is_dir() {
        skip(&format!("{} is missing (set PITLANE_SHARED)", dir.display()));
        return;
    }
    let (_dir, admission) = bare();
    let mut seen = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let body = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let recorded: Value = serde_json::from_slice(&body).unwrap();
        seen += 1;
        for hook in ["validate", "mutate"] {
            if name.contains("broken") || name.contains("null") {
                let (answer, _) = admission.send("POST", &format!("/{hook}"), &body).unwrap();
                assert_eq!(answer.status, 400, "{name}");
                continue;
            }
            let response = admission.ask(hook, &recorded);
            // Nothing of theirs is ours; what has no Pods, or changes none, passes.
            let passes = hook == "mutate" || name.contains("role");
            let unchanged = recorded["request"]["operation"] == "UPDATE"
                && recorded["request"]["object"]["spec"]["template"]
                    == recorded["request"]["oldObject"]["spec"]["template"];
            assert_eq!(response["allowed"], passes || unchanged, "{name}: {response:#}");
            assert!(response["patch"].is_null(), "{name}");
        }
    }
    assert!(seen >= 15, "only {seen} reviews");
}
