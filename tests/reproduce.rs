//! A release is built again from its provenance, elsewhere, and whatever differs is named.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::common::{
    Ran, copy, json as parse,
    lane::{Lane, lapless, quick},
    made, run,
};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// The inputs of a release as another machine has them: copies, in other places.
struct Elsewhere {
    lane: Lane,
    image: String,
    clone: PathBuf,
    base: PathBuf,
    amd64: PathBuf,
    arm64: PathBuf,
}

impl Elsewhere {
    fn new() -> Self {
        let mut lane = Lane::new(quick, lapless);
        lane.start();
        let image = lane.release("v1.0.0");
        let at = |name: &str| lane.path(&format!("elsewhere/{name}"));
        let (clone, base) = (at("clone"), at("base"));
        let (amd64, arm64) = (at("car-1"), at("car-2"));
        fs::create_dir_all(&base).unwrap();
        copy(&made("target/base/layout"), &base);
        fs::copy(crate::common::bin("pitlane-car"), &amd64).unwrap();
        fs::copy(made("target/arm64/pitlane-car"), &arm64).unwrap();
        let origin = lane.bare("donkeycar");
        let from = origin.to_str().unwrap();
        lane.git(lane.dir.path(), &["clone", "--quiet", from, clone.to_str().unwrap()]);
        Self { lane, image, clone, base, amd64, arm64 }
    }

    fn command(&self, image: &str, trust: &[&str]) -> Command {
        let mut command = self.lane.pitlane();
        command.args(["reproduce", image, "--output", "json"]).args(trust);
        command.arg("--base").arg(&self.base);
        for (platform, file) in [("amd64", &self.amd64), ("arm64", &self.arm64)] {
            command.arg("--runtime").arg(format!("linux/{platform}={}", file.display()));
        }
        command
    }

    fn by_key(&self, key: &str, args: &[&str]) -> Ran {
        let key = self.key(key);
        let mut command = self.command(&self.image, &["--key", &key]);
        run(command.arg("--repo").arg(&self.clone).args(args))
    }

    /// Changes the provenance that the statement names and has it signed by this key; the
    /// statement is then still to be signed.
    fn resign(&self, image: &str, statement: &mut Value, by: &str, edit: impl Fn(&mut Value)) {
        let lane = &self.lane;
        let all = statement["predicate"]["evidence"].as_array_mut().unwrap();
        let named = all.iter_mut().find(|one| one["predicateType"] == PROVENANCE).unwrap();
        let bundle = parse(lane.blob(named["digest"].as_str().unwrap()));
        let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
        let engine = base64::engine::general_purpose::STANDARD;
        let mut provenance = parse(base64::Engine::decode(&engine, payload).unwrap());
        edit(&mut provenance);
        let file = lane.path("provenance.json");
        fs::write(&file, provenance.to_string()).unwrap();
        let about = format!("{}@{}", lane.images(), lane.platform(image, "amd64"));
        let mut attest = lane.pitlane();
        attest.args(["attest", &about, "--statement"]).arg(&file);
        attest.arg("--key").arg(lane.path(&format!("state/keys/{by}.key")));
        attest.arg("--password-file").arg(lane.path("state/keys/password"));
        attest.arg("--registry-password-file").arg(lane.path("state/registry-token"));
        let made = parse(run(&mut attest).ok())["bundle"].as_str().unwrap().to_owned();
        named["size"] = lane.blob(&made).len().into();
        named["digest"] = made.into();
    }

    fn key(&self, name: &str) -> String {
        self.lane.path(&format!("state/keys/{name}.pub")).to_str().unwrap().to_owned()
    }
}

/// The names of what differs: inputs, outputs.
#[track_caller]
fn differs(ran: &Ran) -> (Vec<String>, Vec<String>) {
    assert_eq!(ran.code, Some(10), "stdout: {}\nstderr: {}", ran.stdout, ran.stderr);
    let report = parse(&ran.stdout);
    assert_eq!(report["same"], false);
    let names = |rows: &Value| -> Vec<String> {
        let rows = rows.as_array().unwrap().iter().filter(|row| row["same"] == false);
        rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    let (inputs, outputs) = (names(&report["inputs"]), names(&report["outputs"]));
    for name in inputs.iter().chain(&outputs) {
        assert!(ran.stderr.contains(name), "{name}: {}", ran.stderr);
    }
    (inputs, outputs)
}

/// Changes one byte in the middle of a file.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_release_is_reproduced_and_what_differs_is_named() {
    let mut there = Elsewhere::new();
    let report = parse(there.by_key("release", &[]).ok());
    assert_eq!(report["same"], true, "{report:#}");
    let index = there.image.split('@').nth(1).unwrap();
    let rows = |kind: &str| report[kind].as_array().unwrap().clone();
    let last = rows("outputs").pop().unwrap();
    assert_eq!((&last["name"], &last["got"]), (&"index".into(), &index.into()));
    let names: Vec<Value> = rows("inputs").iter().map(|row| row["name"].clone()).collect();
    assert_eq!(
        names,
        [
            "commit",
            "commit time",
            "model",
            "card",
            "base linux/amd64",
            "base linux/arm64",
            "runtime linux/amd64",
            "runtime linux/arm64"
        ]
    );
    // By tag and policy; the tag in the clone is gone, the commit counts.
    there.lane.git(&there.clone, &["tag", "--delete", "v1.0.0"]);
    let (policy, key) = (there.lane.path("config/policy.yaml"), there.key("release"));
    let trust = ["--policy", policy.to_str().unwrap(), "--key", &key];
    let tagged = format!("{}:v1.0.0", there.lane.images());
    let mut command = there.command(&tagged, &trust);
    assert_eq!(parse(run(command.arg("--repo").arg(&there.clone)).ok())["same"], true);

    // One byte in each input.
    let good = there.arm64.clone();
    there.arm64 = there.lane.path("elsewhere/car-3");
    fs::copy(&good, &there.arm64).unwrap();
    flip(&there.arm64);
    let (inputs, outputs) = differs(&there.by_key("release", &[]));
    assert_eq!(inputs, ["runtime linux/arm64"]);
    assert_eq!(
        outputs,
        ["linux/arm64 layer: runtime", "linux/arm64 config", "linux/arm64 manifest", "index"]
    );
    there.arm64 = good;

    let model = there.lane.path("elsewhere/pilot.onnx");
    fs::copy(there.lane.tree("donkeycar").join("models/pilot.onnx"), &model).unwrap();
    let given = ["--model", model.to_str().unwrap()];
    assert_eq!(parse(there.by_key("release", &given).ok())["same"], true);
    flip(&model);
    let (inputs, outputs) = differs(&there.by_key("release", &given));
    assert_eq!(inputs, ["model"]);
    assert_eq!(outputs[0], "model layer");
    assert_eq!(outputs.last().unwrap(), "index");

    let manifest = there.lane.manifest(&there.lane.platform(&there.image, "amd64"));
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    flip(&there.base.join("blobs/sha256").join(layer.strip_prefix("sha256:").unwrap()));
    let (inputs, outputs) = differs(&there.by_key("release", &[]));
    assert_eq!((inputs, outputs.len()), (vec!["base linux/amd64 layer 1".to_owned()], 0));
    there.lane.stop();
}

#[test]
fn what_cannot_be_decided_is_no_answer() {
    let there = Elsewhere::new();
    let key = there.key("release");
    let undecided = |ran: Ran, why: &str| {
        assert_eq!(ran.code, Some(1), "stdout: {}\nstderr: {}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
    };
    let mut no_repo = there.command(&there.image, &["--key", &key]);
    undecided(run(&mut no_repo), "--repo");
    let other = there.lane.bare("gitops");
    let mut wrong_repo = there.command(&there.image, &["--key", &key]);
    undecided(run(wrong_repo.arg("--repo").arg(other)), "v1.0.0");
    let mut no_runtime = there.lane.pitlane();
    no_runtime.args(["reproduce", &there.image, "--key", &key, "--base"]).arg(&there.base);
    no_runtime.arg("--runtime").arg(format!("linux/amd64={}", there.amd64.display()));
    undecided(run(no_runtime.arg("--repo").arg(&there.clone)), "--runtime linux/arm64=FILE");
    let digest = there.lane.platform(&there.image, "amd64");
    fs::remove_file(there.lane.blob_file(&digest)).unwrap();
    undecided(there.by_key("release", &[]), "could not decide");
}

#[test]
fn what_strangers_say_is_refused() {
    let there = Elsewhere::new();
    let lane = &there.lane;
    lane.keys("stranger");
    let refused = |ran: Ran, code: &str| {
        assert_eq!(ran.code, Some(10), "stdout: {}\nstderr: {}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(code), "{code}: {}", ran.stderr);
    };
    refused(there.by_key("stranger", &[]), "by nobody the policy names");

    // The provenance itself, word for word, signed by somebody else, and named by a statement
    // of the right key.
    let good = lane.statement(&there.image);
    let mut statement = good.clone();
    there.resign(&there.image, &mut statement, "stranger", |_| ());
    statement["predicate"]["counter"] = 2.into();
    lane.lend(&there.image, &statement);
    refused(there.by_key("release", &[]), "by nobody the policy names");
    // Without provenance there is nothing to go by.
    let all = statement["predicate"]["evidence"].as_array_mut().unwrap();
    all.retain(|one| one["predicateType"] != PROVENANCE);
    statement["predicate"]["counter"] = 3.into();
    lane.lend(&there.image, &statement);
    refused(there.by_key("release", &[]), "without the provenance");
    // One by the right key, which contradicts the statement.
    let mut statement = good;
    there.resign(&there.image, &mut statement, "release", |provenance| {
        let built = &mut provenance["predicate"]["buildDefinition"];
        built["internalParameters"]["pipelineDigest"] = format!("sha256:{}", "0".repeat(64)).into();
    });
    statement["predicate"]["counter"] = 4.into();
    lane.lend(&there.image, &statement);
    refused(there.by_key("release", &[]), "does not fit: built by the pipeline file");
}

/// Files that are given show nothing of the commit that the provenance says they are from.
#[test]
fn files_do_not_stand_in_for_the_commit() {
    let there = Elsewhere::new();
    let lane = &there.lane;
    let tree = lane.tree("donkeycar");
    let model = tree.join("models/pilot.onnx").to_str().unwrap().to_owned();
    let committed = tree.join("models/pilot.yaml").to_str().unwrap().to_owned();
    let key = there.key("release");
    let ask = |image: &str, card: &str, repo: Option<&Path>| {
        let mut command = there.command(image, &["--key", &key, "--model", &model, "--card", card]);
        command.args(repo.map(|repo| format!("--repo={}", repo.display())));
        run(&mut command)
    };
    let ran = ask(&there.image, &committed, None);
    assert_eq!(differs(&ran), (vec!["commit".to_owned()], vec![]));
    assert!(ran.stdout.contains("not looked at") && ran.stderr.contains("--repo"), "{ran:?}");
    let report = parse(ask(&there.image, &committed, Some(&there.clone)).ok());
    let names: Vec<&Value> =
        report["inputs"].as_array().unwrap().iter().map(|row| &row["name"]).take(4).collect();
    assert_eq!(names, ["commit", "commit time", "commit model", "commit card"]);

    // A pipeline that released files of its own and says that they are the commit's.
    let card = lane.path("other.yaml");
    fs::write(&card, fs::read_to_string(&committed).unwrap() + "# never committed\n").unwrap();
    let card = card.to_str().unwrap();
    let pipeline = lane.side_pipeline("side", quick);
    let made = lane.one_shot("v2.0.0", &pipeline, &["--model", &model, "--card", card]);
    let image = parse(made.ok())["image"].as_str().unwrap().to_owned();
    let mut statement = lane.statement(&image);
    there.resign(&image, &mut statement, "release", |provenance| {
        let outside = &mut provenance["predicate"]["buildDefinition"]["externalParameters"];
        assert_eq!(outside["card"], "file:other.yaml");
        outside["model"] = "models/pilot.onnx".into();
        outside["card"] = "models/pilot.yaml".into();
    });
    statement["predicate"]["counter"] = 9.into();
    lane.lend(&image, &statement);
    assert_eq!(differs(&ask(&image, card, Some(&tree))), (vec!["commit card".to_owned()], vec![]));
    assert_eq!(differs(&ask(&image, card, None)), (vec!["commit".to_owned()], vec![]));
}

/// A model that never was in a commit: its file is asked for, and enough.
#[test]
fn a_release_from_files_is_reproduced_from_files() {
    let there = Elsewhere::new();
    let lane = &there.lane;
    let pipeline = lane.side_pipeline("side", quick);
    let models = lane.tree("donkeycar").join("models");
    let files = ["pilot.onnx", "pilot.yaml"].map(|name| models.join(name));
    let [model, card] = files.each_ref().map(|path| path.to_str().unwrap());
    let commit = "1f0c".repeat(10);
    let args = ["--model", model, "--card", card, "--commit", &commit, "--counter", "7"];
    let made = parse(lane.one_shot("v7.0.0", &pipeline, &args).ok());
    let image = made["image"].as_str().unwrap();
    let key = there.key("release");
    let mut command = there.command(image, &["--key", &key]);
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("give it with --model"), "{}", ran.stderr);
    let report = parse(run(command.args(["--model", model, "--card", card])).ok());
    assert_eq!((&report["same"], &report["counter"]), (&true.into(), &7.into()), "{report:#}");
}
