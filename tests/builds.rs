//! Pipelines with a Dockerfile, from tag to release, by the service and by hand, on a real engine.

use std::{fs, process::Command, time::Duration};

use serde_json::json;

use crate::common::{
    engine::{Engine, built, one_platform, runtime},
    json as parse,
    lane::{Lane, lapless, lenient, one_lap, quick},
    made, repository, run, swap, until,
};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const SBOM: &str = "https://cyclonedx.org/bom";
const LAP: &str = "https://pitlane.dev/lap/v1";

/// A Dockerfile of a friend: an argument, a step, a start of its own.
const FRIEND: &str = "\
ARG BASE=localhost/pitlane-lane:amd64
FROM ${BASE} AS tools
RUN uname -m > /machine
FROM ${BASE}
ARG COLOUR=none
COPY --from=tools /machine /opt/car/machine
COPY start.sh /opt/car/start.sh
RUN echo $COLOUR > /opt/car/colour
USER 65532:65532
ENTRYPOINT [\"/bin/sh\", \"/opt/car/start.sh\"]
";
const START: &str = "exec /usr/bin/pitlane-car drive --model /models/pilot.onnx \"$@\"\n";

#[test]
fn a_dockerfile_of_two_platforms_drives_and_is_released() {
    let Some(engine) = Engine::start() else { return };
    let (Some(amd64), Some(arm64)) = (engine.base("amd64"), engine.base("arm64")) else { return };
    run(&mut Command::new(repository().join("scripts/qemu.sh"))).ok();
    let arm_car = made("target/arm64/pitlane-car").display().to_string();
    let lines = format!(
        "{}    args: {{ COLOUR: green }}\n    platforms: {{ linux/arm64: {{ args: {{ BASE: '{arm64}' }} }} }}\n",
        swap(&runtime(), " }\n", &format!(", linux/arm64: {arm_car} }}\n")),
    );
    let bases = format!("'{amd64}', '{arm64}'");
    let mut lane = Lane::new(|text| one_lap(&built(text, &bases, &lines)), lenient);
    let pipeline = lane.path("config/donkeycar.yaml");
    let checked = run(lane.pitlane().args(["config", "check"]).arg(&pipeline)).ok();
    assert_eq!(parse(checked)[0]["ok"], true);
    lane.start();
    lane.context(&[("Dockerfile", FRIEND), ("start.sh", START)]);
    let image = lane.release("v1.0.0");

    for (arch, machine) in [("amd64", "x86_64\n"), ("arm64", "aarch64\n")] {
        let text =
            |name: &str| String::from_utf8(lane.file_in(&image, arch, name).unwrap()).unwrap();
        assert_eq!(text("opt/car/machine"), machine);
        assert_eq!(text("opt/car/colour"), "green\n");
        assert_eq!(text("opt/car/start.sh"), START);
        assert!(lane.file_in(&image, arch, "usr/bin/pitlane-car").is_some(), "the runtime is laid");
        let platform = format!("linux/{arch}");
        let verdict = parse(lane.check(&image, &["--platform", &platform, "--layers"]).ok());
        assert_eq!(verdict["admitted"], true, "{verdict:#}");
    }
    // The model is the last layer of both, the same blob, at the paths of assembled images.
    let last = ["amd64", "arm64"].map(|arch| {
        let manifest = lane.manifest(&lane.platform(&image, arch));
        manifest["layers"].as_array().unwrap().last().unwrap()["digest"].clone()
    });
    let release = lane.statement(&image);
    assert_eq!([&last[0], &last[1]], [&release["predicate"]["model"]["layer"]; 2]);
    let model = fs::read(repository().join("examples/donkeycar/models/pilot.onnx")).unwrap();
    assert_eq!(lane.file_in(&image, "arm64", "models/pilot.onnx").unwrap(), model);

    let made = &lane.evidence(&image, PROVENANCE)["predicate"]["buildDefinition"];
    assert_eq!(made["buildType"], "https://pitlane.dev/buildtypes/dockerfile-car-image/v1");
    let dependency = |name: &str| {
        let all = made["resolvedDependencies"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}: {made:#}"))
    };
    let dockerfile = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(FRIEND));
    assert_eq!(dependency("dockerfile linux/arm64")["digest"]["sha256"], dockerfile);
    let id = engine.docker(&["image", "inspect", "--format", "{{.Id}}", &arm64]);
    let base = dependency("base linux/arm64");
    assert_eq!(base["uri"], arm64);
    assert_eq!(format!("sha256:{}", base["digest"]["sha256"].as_str().unwrap()), id.trim());
    let parameters = &made["internalParameters"]["dockerfile"]["linux/arm64"];
    assert_eq!(parameters["args"], json!({ "BASE": arm64, "COLOUR": "green" }));
    assert!(parameters["engine"].as_str().unwrap().starts_with("Docker Engine "));

    let lap = &lane.evidence(&image, LAP)["predicate"];
    assert_eq!((&lap["result"], &lap["platform"]), (&json!("PASSED"), &json!("linux/amd64")));
    let bom = &lane.evidence(&image, SBOM)["predicate"];
    let kinds: Vec<_> = bom["components"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    for kind in ["container", "application", "machine-learning-model"] {
        assert!(kinds.contains(&&json!(kind)), "{kind}: {bom:#}");
    }
    assert_eq!(bom["compositions"][0]["aggregate"], "incomplete");

    // What was pushed is no more on this machine, and the engine keeps nothing.
    let run_of = lane.runs("v1.0.0").unwrap()[0].clone();
    let folder = lane.path("state/runs").join(run_of["id"].as_str().unwrap());
    assert!(folder.join("build-arm64.log").is_file() && !folder.join("image").exists());
    engine.has_nothing_left();

    let mut again = lane.pitlane();
    again.args(["reproduce", &image, "--key"]).arg(lane.path("state/keys/release.pub"));
    again.arg("--base").arg(crate::common::made("target/base/layout"));
    let own = crate::common::bin("pitlane-car");
    again.arg("--runtime").arg(format!("linux/amd64={}", own.display()));
    let said = run(&mut again).fails();
    assert!(said.contains("built from a Dockerfile"), "{said}");
}

#[test]
fn a_build_that_was_killed_is_begun_again() {
    let Some(engine) = Engine::start() else { return };
    let Some(base) = engine.base("amd64") else { return };
    let edit = |text: &str| quick(&one_platform(&built(text, &base, "")));
    let mut lane = Lane::new(edit, lapless);
    lane.start();
    // Told apart from everything else on this machine.
    let mark = format!("7.{}", std::process::id());
    let file = format!("FROM {base}\nRUN sleep {mark}\nRUN echo made > /made\n");
    lane.context(&[("Dockerfile", &file)]);
    lane.push_tag("v1.0.0");
    let asleep = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.starts_with(format!("sleep\0{mark}").as_bytes())).count()
    };
    until(60, "the step runs", || (asleep() == 1).then_some(()));
    lane.kill();
    lane.start();
    let image = lane.image(&lane.wait("v1.0.0", "done"));
    assert_eq!(lane.file_in(&image, "amd64", "made").unwrap(), b"made\n");
    assert_eq!(lane.runs("v1.0.0").unwrap().len(), 1);
    assert_eq!(asleep(), 0);
    engine.has_nothing_left();
    lane.stop();

    // A build that a person cancels ends in the engine, too.
    lane.start();
    lane.context(&[("Dockerfile", &file.replace("/made", "/other"))]);
    lane.push_tag("v1.0.1");
    until(60, "the step runs", || (asleep() == 1).then_some(()));
    let id = lane.runs("v1.0.1").unwrap()[0]["id"].as_str().unwrap().to_owned();
    let mut cancel = lane.pitlane();
    cancel.args(["runs", "cancel", &id, "--api", &lane.api_url(), "--token-file"]);
    run(cancel.arg(lane.path("state/api-token"))).ok();
    until(20, "the step ends", || (asleep() == 0).then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    engine.has_nothing_left();
}

#[test]
fn an_image_without_a_runtime_proves_nothing() {
    let Some(engine) = Engine::start() else { return };
    let Some(base) = engine.base("amd64") else { return };
    let lane = Lane::new(|text| one_lap(&one_platform(&built(text, &base, ""))), lenient);
    lane.context(&[("Dockerfile", &format!("FROM {base}\n"))]);
    let pipeline =
        lane.side_pipeline("side", |text| one_lap(&one_platform(&built(text, &base, ""))));
    fs::write(lane.path("state/registry-token"), "none").unwrap();
    fs::set_permissions(
        lane.path("state/registry-token"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let said = lane.one_shot("v1.0.0", &pipeline, &["--dry-run"]).fails();
    assert!(
        said.contains("has no /usr/bin/pitlane-car") && said.contains("spec.build.runtime"),
        "{said}"
    );
    // The Dockerfile's own: copied from the context, it drives.
    let car = crate::common::bin("pitlane-car");
    fs::copy(car, lane.tree("donkeycar").join("car/pitlane-car")).unwrap();
    lane.context(&[(
        "Dockerfile",
        &format!("FROM {base}\nCOPY pitlane-car /usr/bin/pitlane-car\n"),
    )]);
    let done = parse(lane.one_shot("v1.0.1", &pipeline, &["--dry-run"]).ok());
    assert!(done["stagesMs"]["prove"].as_u64().unwrap() > 0, "{done:#}");
}

#[test]
fn what_an_engine_says_no_to_has_a_code_and_a_next_step() {
    let Some(engine) = Engine::start() else { return };
    let Some(base) = engine.base("amd64") else { return };
    let gone = "localhost/not-there:1";
    let edit = |text: &str| {
        let text = built(text, &format!("'{base}', '{gone}'"), "    limits: { seconds: 10 }\n");
        quick(&one_platform(&text))
    };
    let mut lane = Lane::new(edit, lapless);
    lane.start();
    let cases = [
        (format!("FROM {base}\nRUN echo why; false_alarm\n"), "build-failed", "false_alarm"),
        (format!("FROM {gone}\n"), "base-missing", gone),
        ("FROM evil/base\n".into(), "dockerfile-refused", "evil/base is not among the bases"),
        (format!("FROM {base}\nADD http://127.0.0.1:1/x /x\n"), "dockerfile-refused", "line 2"),
        (format!("FROM {base}\nRUN sleep 40\n"), "build-time", "stopped after 10 s"),
    ];
    for (number, (file, code, want)) in cases.iter().enumerate() {
        lane.context(&[("Dockerfile", file)]);
        let tag = format!("v1.0.{number}");
        lane.push_tag(&tag);
        let run_of = lane.wait(&tag, "failed");
        let error = &run_of["error"];
        assert_eq!(error["code"], *code, "{error:#}");
        assert!(error["message"].as_str().unwrap().contains(want), "{error:#}");
        assert!(!error["hint"].as_str().unwrap().is_empty());
        let refused = error["refused"].as_bool().unwrap();
        assert_eq!(refused, *code == "dockerfile-refused", "{error:#}");
    }
    let tree = lane.tree("donkeycar");
    std::os::unix::fs::symlink("/etc/shadow", tree.join("car/shadow")).unwrap();
    lane.context(&[("Dockerfile", &format!("FROM {base}\nCOPY shadow /\n"))]);
    lane.push_tag("v1.1.0");
    assert_eq!(lane.wait("v1.1.0", "failed")["error"]["code"], "context-refused");
    engine.has_nothing_left();
}
