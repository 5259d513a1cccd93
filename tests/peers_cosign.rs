//! cosign accepts what we sign, and we accept what cosign signs; each refuses the other's
//! strangers.

use std::{fs, path::PathBuf, process::Command};

use crate::common::{
    Ran, is_root, json as parse,
    lane::{Lane, lenient, one_lap},
    peer, repository, run, skip,
};

const TYPES: [&str; 3] =
    ["slsaprovenance1", "https://pitlane.dev/lap/v1", "https://pitlane.dev/release/v1"];

/// cosign as its users run it, without a transparency log.
pub(crate) struct Cosign {
    pub(crate) program: PathBuf,
    pub(crate) lane: Lane,
}

impl Cosign {
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(&self.program);
        let token = fs::read_to_string(self.lane.path("state/registry-token")).unwrap();
        let auth = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            format!("cosign:{}", token.trim()),
        );
        let auths = serde_json::json!({ "auths": { &self.lane.registry: { "auth": auth } } });
        fs::write(self.lane.path("config.json"), auths.to_string()).unwrap();
        command.args(args).env("HOME", self.lane.dir.path()).current_dir(self.lane.dir.path());
        run(command.env("COSIGN_PASSWORD", "cosign").env("DOCKER_CONFIG", self.lane.dir.path()))
    }

    pub(crate) fn verify(&self, key: &str, image: &str) -> Ran {
        self.run(&["verify", "--insecure-ignore-tlog", "--key", &self.key(key), image])
    }

    pub(crate) fn attested(&self, key: &str, kind: &str, image: &str) -> Ran {
        let key = self.key(key);
        let args = ["verify-attestation", "--insecure-ignore-tlog", "--key", &key, "--type", kind];
        self.run(&[&args[..], &[image]].concat())
    }

    /// A `--signing-config` without anything on the network.
    pub(crate) fn offline(&self) -> &'static str {
        let none =
            ["--no-default-fulcio", "--no-default-oidc", "--no-default-rekor", "--no-default-tsa"];
        let config = ["signing-config", "create", "--out", "offline.json"];
        self.run(&[&config[..], &none[..]].concat()).ok();
        "offline.json"
    }

    pub(crate) fn key(&self, name: &str) -> String {
        self.lane.path(&format!("state/keys/{name}.pub")).to_str().unwrap().to_owned()
    }
}

#[test]
fn cosign_verifies_what_we_signed() {
    let Some(program) = peer("cosign") else { return };
    if !is_root() {
        return skip("the jail of `prove` is tested as root");
    }
    let mut lane = Lane::new(one_lap, lenient);
    lane.start();
    lane.keys("stranger");
    let index = lane.release("v1.0.0");
    let platforms = ["amd64", "arm64"].map(|arch| lane.platform(&index, arch));
    let images = platforms.map(|digest| format!("{}@{digest}", lane.images()));
    let cosign = Cosign { program, lane };
    for image in images.iter().chain([&index]) {
        let said = cosign.verify("release", image).ok();
        assert!(said.contains(image.split('@').nth(1).unwrap()), "{said}");
        let refused = cosign.verify("stranger", image).fails();
        assert!(refused.contains("signature"), "{refused}");
    }
    // Provenance and laps speak of the platform manifests, the statement of the index.
    let (amd, arm) = (&images[0], &images[1]);
    for (kind, image) in [(0, amd), (0, arm), (1, amd), (1, arm), (2, &index)] {
        cosign.attested("release", TYPES[kind], image).ok();
        cosign.attested("stranger", TYPES[kind], image).fails();
    }
    let said = cosign.attested("release", TYPES[2], &index).ok();
    let envelope = parse(said.lines().next().unwrap());
    let engine = base64::engine::general_purpose::STANDARD;
    let payload = envelope["payload"].as_str().unwrap();
    let statement = parse(base64::Engine::decode(&engine, payload).unwrap());
    assert_eq!(statement["predicate"]["counter"], 1, "{statement:#}");
    // What was not said is not verified.
    cosign.attested("release", "https://pitlane.dev/review/v1", amd).fails();
}

/// A file, and a statement, signed with a key alone: read by cosign and by our own program.
#[test]
fn files_signed_with_a_key() {
    let Some(program) = peer("cosign") else { return };
    let lane = Lane::quick();
    lane.keys("stranger");
    let cosign = Cosign { program, lane };
    let path = |name: &str| cosign.lane.path(name);
    fs::write(path("pilot.onnx"), "weights").unwrap();
    let hex = "d9e1b5cd83dae5dbd3a0f8d3a42e8fe1d2dbf5c7c5a8a4f2b0d5c8b1d0c5d3a1";
    let statement = serde_json::json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://example.org/review/v1",
        "subject": [{"name": "pilot.onnx", "digest": {"sha256": hex}}], "predicate": {},
    });
    fs::write(path("review.json"), statement.to_string()).unwrap();
    let sign = |file: &str, more: &[&str]| {
        let mut command = cosign.lane.pitlane();
        command.args(["sign-bundle", "--key"]).arg(path("state/keys/release.key"));
        command.arg("--password-file").arg(path("state/keys/password")).args(more);
        command.arg("--bundle").arg(path(&format!("{file}.bundle"))).arg(path(file));
        run(&mut command)
    };
    assert!(sign("pilot.onnx", &[]).ok().contains("\"subject\""));
    sign("review.json", &["--in-toto"]).ok();
    assert!(sign("pilot.onnx", &["--in-toto"]).fails().contains("not an in-toto statement"));

    let theirs = |key: &str, file: &str| {
        let (key, bundle) = (cosign.key(key), "pilot.onnx.bundle");
        let args = ["verify-blob", "--insecure-ignore-tlog", "--key", &key, "--bundle", bundle];
        cosign.run(&[&args[..], &[file]].concat())
    };
    let ours = |key: &str, bundle: &str, about: &str| {
        let mut command = Command::new(crate::common::bin("pitlane-verifier"));
        command.args(["verify-bundle", "--allow-unlogged", "--bundle"]).arg(path(bundle));
        run(command.arg("--key").arg(cosign.key(key)).arg(about))
    };
    let file = path("pilot.onnx").display().to_string();
    theirs("release", "pilot.onnx").ok();
    ours("release", "pilot.onnx.bundle", &file).ok();
    ours("release", "review.json.bundle", &format!("sha256:{hex}")).ok();
    theirs("stranger", "pilot.onnx").fails();
    ours("stranger", "pilot.onnx.bundle", &file).fails();
    ours("stranger", "review.json.bundle", &format!("sha256:{hex}")).fails();
    fs::write(path("pilot.onnx"), "other weights").unwrap();
    theirs("release", "pilot.onnx").fails();
    ours("release", "pilot.onnx.bundle", &file).fails();
}

#[test]
fn we_admit_what_cosign_signed() {
    let (Some(program), Some(crane)) = (peer("cosign"), peer("crane")) else { return };
    let lane = Lane::quick();
    let index = lane.release("v1.0.0");
    let copied = format!("{}/team/by-hand:v1", lane.registry);
    let cosign = Cosign { program, lane };
    cosign.run(&["generate-key-pair", "--output-key-prefix", "theirs"]).ok();
    fs::rename(cosign.lane.path("theirs.pub"), cosign.lane.path("state/keys/theirs.pub")).unwrap();
    let offline = cosign.offline();
    // The bare image, without anything that speaks of it.
    let mut copy = Command::new(crane);
    copy.args(["copy", &index, &copied]).env("DOCKER_CONFIG", cosign.lane.dir.path());
    run(&mut copy).ok();
    let image =
        format!("{}/team/by-hand@{}", cosign.lane.registry, index.split('@').nth(1).unwrap());
    let policy = repository().join("policies/signed.yaml");
    let check = |key: &str| cosign.lane.check_by(&policy, key, &image, &[]);
    let refused = |key: &str, code: &str| {
        let ran = check(key);
        let verdict = parse(&ran.stdout);
        assert_eq!(
            (ran.code, &verdict["refusal"]["code"]),
            (Some(10), &code.into()),
            "{verdict:#}"
        );
    };
    refused("release", "unsigned");
    let sign = |key: &str| {
        let args = ["sign", "-y", "--signing-config", offline, "--key", key, &image];
        cosign.run(&args).ok();
    };
    // An attestation by cosign is no signature either.
    fs::write(cosign.lane.path("predicate.json"), r#"{"laps":3}"#).unwrap();
    let attest = ["attest", "-y", "--signing-config", "offline.json", "--key", "theirs.key"];
    let about = ["--type", "https://example.org/laps/v1", "--predicate", "predicate.json", &image];
    cosign.run(&[&attest[..], &about[..]].concat()).ok();
    refused("theirs", "attestation-only");
    sign("theirs.key");
    let verdict = parse(check("theirs").ok());
    assert_eq!(verdict["admitted"], true);
    assert!(verdict["counter"].is_null(), "a cosign signature has no order: {verdict:#}");
    refused("release", "wrong-signer");
    // Our key pair in cosign's hands.
    let password = fs::read_to_string(cosign.lane.path("state/keys/password")).unwrap();
    fs::write(cosign.lane.path("ours.key"), "").unwrap();
    fs::copy(cosign.lane.path("state/keys/release.key"), cosign.lane.path("ours.key")).unwrap();
    let mut sign = Command::new(&cosign.program);
    sign.args(["sign", "-y", "--signing-config", "offline.json", "--key", "ours.key", &image]);
    sign.env("HOME", cosign.lane.dir.path()).current_dir(cosign.lane.dir.path());
    sign.env("COSIGN_PASSWORD", password).env("DOCKER_CONFIG", cosign.lane.dir.path());
    run(&mut sign).ok();
    assert_eq!(parse(check("release").ok())["admitted"], true);
    assert_eq!(parse(check("theirs").ok())["admitted"], true);
    // A policy that asks for a release is not satisfied by a signature.
    let wide = cosign.lane.policy_file("wide", crate::common::lane::lapless);
    let ran = cosign.lane.check_by(&wide, "release", &image, &[]);
    assert_eq!(ran.code, Some(10), "{ran:?}");
}
