//! What a release carries beside laps and signatures, by the judgement of those who made the
//! formats: cosign for attestations, CycloneDX's own validator for SBOMs, the OpenSSF project's
//! `model_signing` for the model's signature.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_pipeline::model_signing;
use pitlane_release::{
    Digest,
    bundle::{Bundle, Signed},
    key::PublicKey,
    statement::Statement,
};
use serde_json::Value;

use crate::common::{
    json as parse,
    lane::{Lane, lapless, quick},
    peer, repository, run, skip,
};

const CYCLONEDX: &str = "https://cyclonedx.org/bom";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// A program of the Python environment that scripts/peers-python.sh makes.
fn python(name: &str) -> Option<PathBuf> {
    let path = repository().join("target/peers/venv-model-signing/bin").join(name);
    if path.is_file() {
        return Some(path);
    }
    skip(&format!("{name} is missing: run scripts/peers-python.sh"));
    None
}

fn key(lane: &Lane, name: &str) -> String {
    lane.path(&format!("state/keys/{name}.pub")).to_str().unwrap().to_owned()
}

/// The payloads of the evidence of one type, in the statement's order.
fn payloads(lane: &Lane, image: &str, kind: &str) -> Vec<Value> {
    let statement = lane.statement(image);
    let all = statement["predicate"]["evidence"].as_array().unwrap();
    let named = all.iter().filter(|one| one["predicateType"] == kind);
    let payload = |one: &Value| {
        let bundle = parse(lane.blob(one["digest"].as_str().unwrap()));
        parse(STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap())
    };
    named.map(payload).collect()
}

fn subjects(statement: &Value) -> Vec<String> {
    let subjects = statement["subject"].as_array().unwrap().iter();
    subjects.map(|one| format!("sha256:{}", one["digest"]["sha256"].as_str().unwrap())).collect()
}

#[test]
fn cosign_accepts_each_attestation_of_its_image_alone() {
    let Some(cosign) = peer("cosign") else { return };
    let lane = Lane::quick();
    lane.keys("stranger");
    let index = lane.release("v1.0.0");
    let verify = |by: &str, kind: &str, image: &str| {
        let mut command = Command::new(&cosign);
        command.args(["verify-attestation", "--insecure-ignore-tlog", "--type", kind, "--key"]);
        command.arg(key(&lane, by)).arg(image).env("HOME", lane.dir.path());
        run(command.env("DOCKER_CONFIG", lane.dir.path()))
    };
    for architecture in ["amd64", "arm64"] {
        let digest = lane.platform(&index, architecture);
        let image = format!("{}@{digest}", lane.images());
        for kind in ["slsaprovenance1", "cyclonedx"] {
            let said = verify("release", kind, &image).ok();
            let envelope = parse(said.lines().next().unwrap());
            let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
            assert!(subjects(&parse(payload)).contains(&digest), "{said}");
            verify("stranger", kind, &image).fails();
        }
    }
    // An SBOM speaks of one manifest, and is listed once for each.
    let boms = payloads(&lane, &index, CYCLONEDX);
    let about: Vec<Vec<String>> = boms.iter().map(subjects).collect();
    let digests = ["amd64", "arm64"].map(|arch| vec![lane.platform(&index, arch)]);
    assert_eq!(about, digests);
    verify("release", "cyclonedx", &index).fails();
}

const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(wrong) if wrong else 0)
";

#[test]
fn sboms_are_cyclonedx_and_list_what_is_there() {
    let lane = Lane::quick();
    let index = lane.release("v1.0.0");
    let release = lane.statement(&index)["predicate"].clone();
    let boms = payloads(&lane, &index, CYCLONEDX);
    assert_eq!(boms.len(), 2);
    for (statement, architecture) in boms.iter().zip(["amd64", "arm64"]) {
        let bom = &statement["predicate"];
        let manifest = lane.platform(&index, architecture);
        assert_eq!(bom["metadata"]["component"]["version"], manifest.as_str());
        let components = bom["components"].as_array().unwrap();
        let one = |name: &str| {
            let mut named = components.iter().filter(|component| component["name"] == name);
            let found = named.next().unwrap_or_else(|| panic!("{name} is not in {bom:#}"));
            assert!(named.next().is_none(), "{name} twice");
            found
        };
        // Each of the base's packages, as the lock names it.
        let text = fs::read_to_string(repository().join("pipelines/base.lock.yaml")).unwrap();
        let platform = &parse(text)["platforms"][format!("linux/{architecture}")];
        for part in ["debian", "wheels"] {
            for package in platform[part].as_array().unwrap() {
                let found = one(package["package"].as_str().unwrap());
                assert_eq!(found["version"], package["version"]);
                assert_eq!(found["hashes"][0]["content"], package["sha256"]);
            }
        }
        let libc = one("libc6")["purl"].as_str().unwrap();
        let want = format!("?arch={architecture}&distro=bookworm");
        assert!(libc.starts_with("pkg:deb/debian/libc6@") && libc.ends_with(&want), "{libc}");
        // The runtime by its bytes, and the crates that it says it is made of, which are locked.
        let binary = match architecture {
            "amd64" => crate::common::bin("pitlane-car"),
            _ => crate::common::made("target/arm64/pitlane-car"),
        };
        let runtime = one("pitlane-car");
        let hex = Digest::of(fs::read(binary).unwrap()).hex();
        assert_eq!(runtime["hashes"][0]["content"], hex);
        let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
        let crates = components
            .iter()
            .filter(|c| c["bom-ref"].as_str().is_some_and(|name| name.starts_with("crate:")));
        let mut count = 0;
        for component in crates {
            let (name, version) = (&component["name"], &component["version"]);
            assert!(lock.contains(&format!("name = {name}\nversion = {version}\n")), "{component}");
            count += 1;
        }
        assert!(count > 30, "{count} crates");
        one("ort");
        assert!(components.iter().all(|c| c["name"] != "syn"), "it only helped to build");
        // The model by its digest, with the card's words.
        let model = one("donkeycar-linear");
        assert_eq!(model["type"], "machine-learning-model");
        let digest = format!("sha256:{}", model["hashes"][0]["content"].as_str().unwrap());
        assert_eq!(release["model"]["digest"], digest.as_str());
        assert_eq!(model["licenses"][0]["expression"], "Apache-2.0");
        let parameters = &model["modelCard"]["modelParameters"];
        let data = parameters["datasets"][0]["description"].as_str().unwrap();
        assert!(data.contains("9000 pictures"), "{data}");
    }
    let Some(python) = python("python3") else { return };
    let validate = |bom: &Value| {
        let file = lane.path("bom.json");
        fs::write(&file, bom.to_string()).unwrap();
        run(Command::new(&python).arg("-c").arg(VALIDATE).arg(file))
    };
    for statement in &boms {
        validate(&statement["predicate"]).ok();
    }
    // The judge refuses what the format forbids.
    let mut wrong = boms[0]["predicate"].clone();
    wrong["components"][0]["surprise"] = 1.into();
    validate(&wrong).fails();
    let mut wrong = boms[0]["predicate"].clone();
    wrong["serialNumber"] = "urn:uuid:1".into();
    validate(&wrong).fails();
}

#[test]
fn the_openssf_tool_verifies_an_exported_model() {
    let mut lane = Lane::new(quick, lapless);
    lane.start();
    lane.keys("stranger");
    let index = lane.release("v1.0.0");
    let folder = lane.path("pilot");
    let export = |by: &str| {
        let mut command = lane.pitlane();
        command.args(["model", "export", &index, "--key", &key(&lane, by), "--out"]);
        run(command.arg(&folder))
    };
    let refused = export("stranger");
    assert_eq!((refused.code, folder.exists()), (Some(10), false), "{refused:?}");
    let said = parse(export("release").ok());
    assert_eq!(said["model"], lane.statement(&index)["predicate"]["model"]["digest"]);
    assert!(export("release").fails().contains("is not empty"));
    for name in ["pilot.onnx", "pilot.yaml"] {
        let source = fs::read(lane.tree("donkeycar").join("models").join(name)).unwrap();
        assert_eq!(fs::read(folder.join(name)).unwrap(), source, "{name}");
    }
    if let Some(tool) = python("model_signing") {
        let verify = |by: &str| {
            let mut command = Command::new(&tool);
            command.args(["verify", "key", "--signature"]).arg(folder.join("model.sig"));
            run(command.arg("--public_key").arg(key(&lane, by)).arg(&folder))
        };
        let said = verify("release").ok();
        assert!(said.contains("Verification succeeded"), "{said}");
        verify("stranger").fails();
        // From another folder, by a relative path.
        let mut relative = Command::new(&tool);
        relative.args(["verify", "key", "--signature", "model.sig", "--public_key"]);
        run(relative.arg(key(&lane, "release")).arg(".").current_dir(&folder)).ok();
        fs::write(folder.join("more.txt"), "more").unwrap();
        verify("release").fails();
        fs::remove_file(folder.join("more.txt")).unwrap();
        let card = folder.join("pilot.yaml");
        let good = fs::read_to_string(&card).unwrap();
        fs::write(&card, format!("{good}# another card\n")).unwrap();
        verify("release").fails();
        fs::write(&card, good).unwrap();
        verify("release").ok();
    }
    // A layer that changed in the registry is not written.
    let layer = lane.statement(&index)["predicate"]["model"]["layer"].as_str().unwrap().to_owned();
    let again = lane.path("again");
    let ran = lane.altered(
        &layer,
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        || {
            let mut command = lane.pitlane();
            command.args(["model", "export", &index, "--key", &key(&lane, "release"), "--out"]);
            run(command.arg(&again))
        },
    );
    assert_eq!((ran.code, again.exists()), (Some(10), false), "{ran:?}");
    lane.stop();
}

/// A release can be told to carry less.
#[test]
fn what_is_not_wanted_is_not_attested() {
    let lane = Lane::quick();
    let pipeline = lane.side_pipeline("bare", |text| {
        let text = quick(text);
        text.replace("    builder:", "    attest: [provenance]\n    builder:")
    });
    let made = parse(lane.one_shot("v1.0.0", &pipeline, &[]).ok());
    let image = made["image"].as_str().unwrap();
    let statement = lane.statement(image);
    let all = statement["predicate"]["evidence"].as_array().unwrap();
    let kinds: Vec<&str> = all.iter().map(|one| one["predicateType"].as_str().unwrap()).collect();
    assert_eq!(kinds, [PROVENANCE]);
    let mut command = lane.pitlane();
    command.args(["model", "export", image, "--key", &key(&lane, "release"), "--out", "out"]);
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(10), "{ran:?}");
    assert!(ran.stderr.contains("without the model signature"), "{}", ran.stderr);
}

/// The project's own fixture: our reading of the format gives the digest that they signed.
#[test]
fn their_model_signature_fits_our_reading() {
    let beside = || repository().join("../shared");
    let shared = std::env::var_os("PITLANE_SHARED").map_or_else(beside, PathBuf::from);
    let dir = shared.join("conformance/model-signing");
    if !dir.is_dir() {
        return skip(&format!("{} is missing (set PITLANE_SHARED)", dir.display()));
    }
    let folder = dir.join("v1.1.0-elliptic-key");
    let pem = fs::read_to_string(dir.join("signing-key-pub.pem")).unwrap();
    let key = PublicKey::from_pem(&pem[pem.find("-----BEGIN").unwrap()..]).unwrap();
    let bytes = fs::read(folder.join("model.sig")).unwrap();
    // The name that we give to their key is theirs.
    let hint = |bytes: &[u8]| parse(bytes)["verificationMaterial"]["publicKey"]["hint"].clone();
    let mut nameless = parse(&bytes);
    nameless["verificationMaterial"]["publicKey"]["hint"] = "".into();
    let named = model_signing::with_hint(nameless.to_string().as_bytes(), &key).unwrap();
    assert_eq!(hint(&named), hint(&bytes));
    let bundle = Bundle::parse(&bytes).unwrap();
    let read = |bundle: &Bundle| match bundle.verify([&key]) {
        Signed::By(_, payload) => Statement::<model_signing::ModelSignature>::parse(
            payload,
            model_signing::MODEL_SIGNATURE,
        )
        .unwrap(),
        other => panic!("{other:?}"),
    };
    let statement = read(&bundle);
    let digest = |name: &str| Digest::of(fs::read(folder.join(name)).unwrap());
    let files =
        BTreeMap::from([("signme-1", digest("signme-1")), ("signme-2", digest("signme-2"))]);
    assert!(model_signing::signs(&statement, &files));
    let other =
        BTreeMap::from([("signme-1", digest("signme-1")), ("signme-2", digest("ignore-me"))]);
    assert!(!model_signing::signs(&statement, &other));
}
