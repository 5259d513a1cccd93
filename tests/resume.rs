//! `kill -9` of the service in every step: the run ends as if nothing had happened, once.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::common::{
    Process, bin, is_root, json as parse,
    lane::{Lane, lapless, lenient, one_lap, quick},
    peer, port, run, swap, until, write_secret,
};

const STEPS: [&str; 9] =
    ["checkout", "model", "assemble", "prove", "push", "attest", "sign", "check", "promote"];
/// Kills at moments that nothing chose, over the time a release without laps takes.
const SWEEP: u64 = 12;

/// Commits of the GitOps repository that name an image.
fn promotions(lane: &Lane, image: &str) -> usize {
    let digest = image.split('@').nth(1).unwrap();
    let grep = format!("--grep={digest}");
    lane.git(&lane.bare("gitops"), &["log", "--format=%H", &grep, "main"]).lines().count()
}

/// One run, one counter, one promotion, one release that the car admits and cosign verifies.
#[track_caller]
fn released_once(lane: &Lane, tag: &str, counter: u64) -> Value {
    let run_of_tag = lane.wait(tag, "done");
    assert_eq!(lane.runs(tag).unwrap().len(), 1, "more than one run of {tag}");
    assert_eq!(run_of_tag["counter"], counter, "{run_of_tag:#}");
    let image = lane.image(&run_of_tag);
    let wanted = lane.git(&lane.bare("gitops"), &["show", "main:car/kustomization.yaml"]);
    assert!(wanted.contains(image.split('@').nth(1).unwrap()), "{image} is not in {wanted}");
    assert_eq!(promotions(lane, &image), 1, "promotions of {tag}");
    let tagged = format!("{}:{tag}", lane.images());
    let verdict = parse(lane.check(&tagged, &["--layers"]).ok());
    assert_eq!(verdict["counter"], counter, "{verdict:#}");
    assert_eq!(lane.statement(&image)["predicate"]["counter"], counter);
    if let Some(cosign) = peer("cosign") {
        let mut verify = Command::new(cosign);
        verify.args(["verify", "--insecure-ignore-tlog", "--key"]);
        verify.arg(lane.path("state/keys/release.pub")).arg(&image);
        run(verify.env("HOME", lane.dir.path())).ok();
    }
    run_of_tag
}

/// Programs of this lane that still run.
fn left_over(lane: &Lane) -> Vec<String> {
    let place = lane.dir.path().to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .filter(|line| line.contains(place))
        .collect()
}

/// Kills the service as soon as the step is seen; whether the run was still under way.
fn kill_in(lane: &mut Lane, tag: &str, step: &str) -> bool {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        assert!(Instant::now() < end, "{tag} never came to {step}");
        let Some(found) = lane.runs(tag).and_then(|runs| runs.first().cloned()) else { continue };
        let steps = lane.steps(&found).unwrap();
        if steps.iter().any(|record| record["step"] == step) {
            lane.kill();
            return found["state"] != "done";
        }
    }
}

fn interrupted(lane: &Lane, run_of_tag: &Value) -> BTreeSet<String> {
    let steps = lane.steps(run_of_tag).unwrap();
    let broken = steps.iter().filter(|record| record["outcome"] == "interrupted");
    broken.map(|record| record["step"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_kill_in_each_step_changes_nothing() {
    if !is_root() {
        return crate::common::skip("the jail of `prove` is tested as root");
    }
    let mut lane = Lane::new(one_lap, lenient);
    lane.start();
    let mut hit = BTreeSet::new();
    let mut early = 0;
    for (number, step) in (1..).zip(STEPS) {
        let tag = format!("v1.0.{number}");
        lane.push_tag(&tag);
        early += u32::from(kill_in(&mut lane, &tag, step));
        let what = format!("what {step} started ends with the service");
        until(20, &what, || left_over(&lane).is_empty().then_some(()));
        lane.start();
        let ended = released_once(&lane, &tag, number);
        let records = lane.steps(&ended).unwrap();
        // What was finished before the kill is not done again.
        for record in &records {
            let finished = records
                .iter()
                .filter(|other| other["step"] == record["step"] && other["outcome"] == "done");
            assert_eq!(finished.count(), 1, "{records:#?}");
        }
        hit.extend(interrupted(&lane, &ended));
    }
    eprintln!("interrupted in {hit:?}; {early} of 9 before the end");
    // The quickest steps take a millisecond or two; most must have been hit, and the long ones.
    assert!(early >= 8, "only {early} kills came before the end");
    assert!(hit.len() >= 4 && hit.contains("prove") && hit.contains("checkout"), "only {hit:?}");
    lane.stop();
}

#[test]
fn a_kill_at_any_moment_changes_nothing() {
    let mut lane = Lane::quick();
    let began = Instant::now();
    lane.release("v1.0.0");
    let whole = began.elapsed();
    let mut hit = BTreeSet::new();
    for number in 0..SWEEP {
        let tag = format!("v2.0.{number}");
        lane.push_tag(&tag);
        let after = whole.mul_f64(f64::from(u32::try_from(number).unwrap()) / 12.0);
        std::thread::sleep(after);
        lane.kill();
        lane.start();
        let ended = released_once(&lane, &tag, number + 2);
        hit.extend(interrupted(&lane, &ended));
    }
    eprintln!("a release takes {whole:?}; interrupted in {hit:?}");
    assert!(!hit.is_empty(), "no kill came while a step ran");
    lane.stop();
}

#[test]
fn a_delivery_that_comes_again_makes_no_second_run() {
    let mut lane = Lane::quick();
    fs::remove_file(lane.bare("donkeycar").join("hooks/post-receive")).unwrap();
    lane.push_tag("v1.0.0");
    let bare = lane.bare("donkeycar");
    let object = lane.git(&bare, &["rev-parse", "v1.0.0"]);
    let commit = lane.git(&bare, &["rev-parse", "v1.0.0^{commit}"]);
    let body = json!({
        "ref": "refs/tags/v1.0.0", "before": "0".repeat(40), "after": object,
        "created": true, "deleted": false, "forced": false,
        "head_commit": { "id": commit }, "commits": [],
        "repository": { "full_name": "team/donkeycar" },
    });
    let body = body.to_string();
    let secret = fs::read_to_string(lane.path("state/webhook-secret")).unwrap();
    let secret = secret.trim();
    assert_eq!(lane.deliver("first-1", body.as_bytes(), "not the secret").status, 401);
    assert_eq!(lane.runs("v1.0.0").unwrap().len(), 0);
    let first = lane.deliver("first-1", body.as_bytes(), secret);
    assert_eq!(first.status, 202, "{first:?}");
    // The same again before and after a crash, under the same and another delivery id.
    let again = lane.deliver("first-1", body.as_bytes(), secret);
    assert_eq!(again.json()["run"], first.json()["run"]);
    lane.kill();
    lane.start();
    for id in ["first-1", "second-2"] {
        let again = lane.deliver(id, body.as_bytes(), secret);
        assert_eq!((again.status, &again.json()["run"]), (202, &first.json()["run"]));
    }
    released_once(&lane, "v1.0.0", 1);
    let after = lane.deliver("third-3", body.as_bytes(), secret);
    assert_eq!(after.json()["run"], first.json()["run"]);
    // The same delivery id with another body is no redelivery.
    let other = swap(&body, "v1.0.0", "v9.0.0");
    assert_eq!(lane.deliver("first-1", other.as_bytes(), secret).status, 409);
    released_once(&lane, "v1.0.0", 1);
    lane.stop();
}

#[test]
fn a_failed_run_is_kept_and_retried_when_the_cause_is_mended() {
    let elsewhere = port();
    let host = format!("127.0.0.1:{}", elsewhere.number);
    let mut lane = Lane::new(quick, lapless);
    let (own, token) = (lane.registry.clone(), lane.path("elsewhere.token"));
    write_secret(&token, "a-token-for-elsewhere-0123456789");
    lane.pipeline_file("donkeycar", |text| {
        let image = format!("repository: {own}/team/donkeycar\n");
        let new =
            format!("repository: {host}/team/donkeycar\n    passwordFile: {}\n", token.display());
        quick(&swap(text, &image, &new))
    });
    let gitops = lane.tree("gitops");
    let file = gitops.join("car/kustomization.yaml");
    fs::write(&file, swap(&fs::read_to_string(&file).unwrap(), &own, &host)).unwrap();
    lane.git(&gitops, &["commit", "--quiet", "-a", "-m", "Another registry"]);
    lane.git(&gitops, &["push", "--quiet", lane.bare("gitops").to_str().unwrap(), "main"]);
    lane.start();
    lane.push_tag("v1.0.0");
    let failed = lane.wait("v1.0.0", "failed");
    assert_eq!(failed["failedStep"], "push", "{failed:#}");
    assert!(failed["error"]["hint"].as_str().unwrap().contains("retry"), "{failed:#}");
    // It is still there after a restart, and nobody was promoted.
    lane.kill();
    lane.start();
    assert_eq!(lane.wait("v1.0.0", "failed")["id"], failed["id"]);
    assert_eq!(lane.git(&lane.bare("gitops"), &["rev-list", "--count", "main"]), "2");

    let id = failed["id"].as_str().unwrap().to_owned();
    let pitlane_runs = |lane: &Lane, args: &[&str]| {
        let mut command = lane.pitlane();
        command.arg("runs").args(args).args(["--output", "json", "--api", &lane.api_url()]);
        run(command.arg("--token-file").arg(lane.path("state/api-token")))
    };
    // A retry while the cause lasts fails again, as the same run.
    assert_eq!(parse(pitlane_runs(&lane, &["retry", &id]).ok())["state"], "queued");
    until(60, "the retry has begun", || {
        let steps = lane.steps(&failed)?;
        let pushes = steps.iter().filter(|record| record["step"] == "push");
        (pushes.count() > 1).then_some(())
    });
    lane.wait("v1.0.0", "failed");

    let mut command = Command::new(bin("pitlane"));
    command.args(["registry", "serve", "--listen", &host, "--root"]).arg(lane.path("elsewhere"));
    command.arg("--push-token-file").arg(&token);
    let (_registry, _) = Process::server(&mut command, &lane.path("elsewhere.log"));
    pitlane_runs(&lane, &["retry", &id]).ok();
    until(60, "the retry is taken up", || {
        (lane.runs("v1.0.0")?[0]["error"].is_null()).then_some(())
    });
    lane.wait("v1.0.0", "done");
    let runs = parse(pitlane_runs(&lane, &["list", "--tag", "v1.0.0"]).ok());
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs:#}");
    assert_eq!(runs[0]["counter"], 1);
    let image = lane.image(&runs[0]);
    assert!(image.starts_with(&host), "{image}");
    assert_eq!(promotions(&lane, &image), 1);
    let steps = lane.steps(&runs[0]).unwrap();
    let of = |step: &str| steps.iter().filter(|record| record["step"] == step).count();
    assert_eq!((of("checkout"), of("assemble")), (1, 1), "finished steps are not done again");
    assert!(of("push") >= 3, "{steps:#?}");
    parse(lane.check(&image, &["--layers"]).ok());
    lane.stop();
}

/// Whether the service has begun this step of the tag's run a second time.
fn tried_again(lane: &Lane, tag: &str, step: &str) -> Option<()> {
    let run = lane.runs(tag)?.first()?.clone();
    let steps = lane.steps(&run)?;
    let tries = steps.iter().filter(|record| record["step"] == step);
    (tries.count() > 1).then_some(())
}

/// A git server that is away for a moment: neither the source's nor the one that is promoted to
/// may cost a release, which nobody could retry once a newer one is done.
#[test]
fn a_git_server_that_is_away_for_a_moment_is_asked_again() {
    let away = port();
    let url = format!("http://127.0.0.1:{}/team/donkeycar.git", away.number);
    let mut lane = Lane::quick();
    let gitops = lane.bare("gitops");
    let aside = gitops.with_extension("aside");
    fs::rename(&gitops, &aside).unwrap();
    lane.push_tag("v1.0.0");
    until(60, "the promotion is tried again", || tried_again(&lane, "v1.0.0", "promote"));
    fs::rename(&aside, &gitops).unwrap();
    released_once(&lane, "v1.0.0", 1);

    // Nobody listens where the source should be; then it is where it was.
    let local = lane.bare("donkeycar").to_str().unwrap().to_owned();
    lane.stop();
    lane.pipeline_file("donkeycar", |text| quick(&swap(text, &local, &url)));
    lane.start();
    lane.push_tag("v1.0.1");
    until(60, "the checkout is tried again", || tried_again(&lane, "v1.0.1", "checkout"));
    lane.kill();
    lane.pipeline_file("donkeycar", quick);
    lane.start();
    released_once(&lane, "v1.0.1", 2);
    lane.stop();
}

/// A registry that is away for a moment is no reason to wake anybody.
#[test]
fn a_registry_that_is_away_for_a_moment_is_asked_again() {
    let elsewhere = port();
    let host = format!("127.0.0.1:{}", elsewhere.number);
    let mut lane = Lane::new(quick, lapless);
    let own = lane.registry.clone();
    lane.pipeline_file("donkeycar", |text| {
        let image = format!("repository: {own}/team/donkeycar\n");
        let text = swap(text, &image, &format!("repository: {host}/team/donkeycar\n"));
        quick(&text)
    });
    lane.start();
    lane.push_tag("v1.0.0");
    let failed = lane.wait("v1.0.0", "failed");
    assert_eq!(failed["error"]["retryable"], true, "{failed:#}");
    assert!(lane.log().contains("again=true"), "{}", lane.log());
    lane.stop();
}
