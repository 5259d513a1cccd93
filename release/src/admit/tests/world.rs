//! A whole good release with its policy, every document still open for changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sigstore_crypto::KeyPair;

use super::super::*;
use crate::{
    Floor, ImageRef,
    bundle::seal,
    facts::MODEL,
    golden::GOLDEN,
    key::PublicKey,
    lap::LAP,
    oci::{Descriptor, INDEX, LAYER_TAR, MANIFEST, PlatformSpec},
    provenance::{BUILD_TYPE, PROVENANCE},
    statement::RELEASE,
};

/// A key pair.
pub(super) struct Signer {
    pub(super) pair: KeyPair,
    pub(super) key: PublicKey,
}

impl Signer {
    pub(super) fn new() -> Self {
        let pair = KeyPair::generate_ecdsa_p256().unwrap();
        let key = PublicKey::from_spki(pair.public_key_der().unwrap().as_bytes()).unwrap();
        Self { pair, key }
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).unwrap().as_bytes().to_vec()
    }

    pub(super) fn bundle(&self, statement: &Value) -> Vec<u8> {
        let sign = |pae: &[u8]| self.pair.sign(pae).map(|s| s.as_bytes().to_vec());
        seal(statement.to_string().as_bytes(), &self.key.hint(), sign).unwrap()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "most callers make the value on the spot")]
pub(super) fn statement(kind: &str, about: &[Digest], predicate: Value) -> Value {
    let subject: Vec<Value> =
        about.iter().map(|d| json!({"digest": {"sha256": d.hex()}})).collect();
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": subject,
           "predicateType": kind, "predicate": predicate})
}

/// A whole good release, with every document still open for changes.
pub(super) struct World {
    pub(super) ours: Signer,
    pub(super) stranger: Signer,
    pub(super) image: ImageRef,
    /// Who signs laps.
    pub(super) laps_by: Option<Signer>,
    pub(super) platform: Platform,
    pub(super) floor: Floor,
    pub(super) now: &'static str,
    pub(super) policy: String,
    pub(super) configs: BTreeMap<Platform, Vec<u8>>,
    pub(super) manifests: BTreeMap<Platform, Vec<u8>>,
    pub(super) index: Vec<u8>,
    pub(super) lap: Value,
    pub(super) provenance: Value,
    pub(super) model: Value,
    pub(super) golden: Value,
    pub(super) release: Value,
}

impl World {
    pub(super) fn new() -> Self {
        let mut configs = BTreeMap::new();
        let mut manifests = BTreeMap::new();
        let mut children = Vec::new();
        for platform in Platform::ALL {
            let config = json!({"os": "linux", "architecture": platform.architecture(),
                "config": {"Entrypoint": ["/usr/bin/pitlane-car"]},
                "rootfs": {"type": "layers", "diff_ids": [Digest::of("model layer")]}});
            let config = config.to_string().into_bytes();
            let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
                "config": Descriptor::of(crate::oci::CONFIG, &config),
                "layers": [Descriptor::of(LAYER_TAR, b"model layer")]});
            let manifest = manifest.to_string().into_bytes();
            let mut child = Descriptor::of(MANIFEST, &manifest);
            child.platform = Some(PlatformSpec::from(platform));
            children.push(child);
            configs.insert(platform, config);
            manifests.insert(platform, manifest);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
        let index = index.to_string().into_bytes();
        let [amd64, arm64] = Platform::ALL.map(|p| Digest::of(&manifests[&p]));
        let model = Digest::of("model");
        let lap = json!({"result": "PASSED", "configuration": [], "passedTests": ["a"],
            "failedTests": [], "platform": "linux/amd64", "manifest": amd64,
            "sharesModel": {"linux/arm64": arm64}, "model": model,
            "drives": [{"track": "oval", "trackDigest": Digest::of("t"), "seed": 1,
                "light": "day", "start": 0.0, "lockStep": true, "lapsWanted": 3, "laps": 3,
                "lapTimesS": [9.0], "frames": 600, "simSeconds": 30.0, "offRoad": false, "hits": 0,
                "meanAbsCteM": 0.1, "maxAbsCteM": 0.3, "roadHalfWidthM": 0.5, "passed": true}]});
        let provenance = json!({"buildDefinition": {"buildType": BUILD_TYPE,
            "externalParameters": {"source": {"uri": "git+https://git.example/team/car",
                "ref": "refs/tags/v1"}, "pipeline": "car.yaml", "model": "models/pilot.onnx",
                "platforms": ["linux/amd64", "linux/arm64"]},
            "resolvedDependencies": [{"digest": {"gitCommit": "1".repeat(40)}}]},
            "runDetails": {"builder": {"id": "https://lab.example/pitlane"},
                "metadata": {"invocationId": "1", "startedOn": "2026-01-01T00:00:00Z",
                    "finishedOn": "2026-01-01T00:00:01Z"}}});
        let facts = json!({"digest": model, "bytes": 900, "irVersion": 8, "opset": 13,
            "operators": {"Conv": 3, "Gemm": 2}, "parameters": 90,
            "inputs": [{"name": "image", "element": "float32", "shape": [1, 120, 160, 3]}],
            "outputs": [{"name": "steering", "element": "float32", "shape": [1, 1]}],
            "producer": "torch 2"});
        let card = json!({"apiVersion": "pitlane.dev/v1", "kind": "ModelCard", "name": "pilot",
            "pilot": "linear", "input": {"shape": [1, 120, 160, 3], "layout": "NHWC",
                "channels": "RGB", "scale": 0.004},
            "outputs": [{"name": "steering", "meaning": "steering"},
                {"name": "throttle", "meaning": "throttle"}], "license": "MIT"});
        let golden = json!({"apiVersion": "pitlane.dev/v1", "kind": "GoldenFrames",
            "model": model, "tolerance": 0.0001,
            "frames": [{"name": "black", "outputs": [{"name": "steering", "values": [0.25]}]}]});
        let release = json!({"carKind": "donkeycar", "source": {"repository": "team/car",
            "tag": "v1", "commit": "1".repeat(40)}, "counter": 7,
            "pipeline": Digest::of("p"), "model": {"digest": model,
            "layer": Digest::of("model layer")}, "index": Digest::of(&index),
            "platforms": {"linux/amd64": amd64, "linux/arm64": arm64}, "evidence": [],
            "issuedAt": "2026-01-01T00:00:02Z", "expiresAt": "2027-01-01T00:00:00Z"});
        Self {
            ours: Signer::new(),
            stranger: Signer::new(),
            laps_by: None,
            image: "r.example/team/car:v1".parse().unwrap(),
            platform: Platform::LinuxArm64,
            floor: Floor(7),
            now: "2026-06-01T00:00:00Z",
            policy: "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: { name: demo }
spec:
  images: [{ glob: r.example/team/** }]
  authorities: [{ name: release, key: { secretRef: { name: ours } } }]
drive:
  sources: [{ repository: team/car, carKinds: [donkeycar] }]
  requireExpiry: true
  minimumCounter: 2
  laps: { tracks: [oval], minLaps: 3, maxAbsCteM: 0.4 }
  provenance: { builders: [https://lab.example/pitlane] }
  model:
    pilots: [linear]
    inputShapes: [[1, 120, 160, 3]]
    opsetMax: 13
    operators: [Conv, Gemm]
    maxBytes: 900
    maxParameters: 90
    licenses: [MIT]
  golden: { frames: [black], maxTolerance: 0.0001 }
"
            .into(),
            configs,
            manifests,
            index,
            lap,
            provenance,
            model: json!({ "facts": facts, "card": card }),
            golden,
            release,
        }
    }

    pub(super) fn about(&self) -> [Digest; 3] {
        let [amd64, arm64] = Platform::ALL.map(|p| Digest::of(&self.manifests[&p]));
        [Digest::of(&self.index), amd64, arm64]
    }

    /// Signs everything as it stands now.
    pub(super) fn evidence(&self) -> Evidence {
        let about = self.about();
        let mut release = self.release.clone();
        let mut named = BTreeMap::new();
        for (kind, predicate) in [
            (LAP, &self.lap),
            (PROVENANCE, &self.provenance),
            (MODEL, &self.model),
            (GOLDEN, &self.golden),
        ] {
            let signer = self.laps_by.as_ref().filter(|_| kind == LAP).unwrap_or(&self.ours);
            let bundle = signer.bundle(&statement(kind, &about[1..], predicate.clone()));
            let digest = Digest::of(&bundle);
            release["evidence"]
                .as_array_mut()
                .unwrap()
                .push(json!({"predicateType": kind, "digest": digest, "size": bundle.len()}));
            named.insert(digest, bundle);
        }
        Evidence {
            requested: self.image.repository.pin(Digest::of(&self.index)),
            top: self.index.clone(),
            manifest: Some(self.manifests[&self.platform].clone()),
            config: Some(self.configs[&self.platform].clone()),
            bundles: vec![],
            legacy: vec![],
            statements: vec![self.ours.bundle(&statement(RELEASE, &about, release))],
            named,
        }
    }

    pub(super) fn judge(&self, evidence: &Evidence) -> Verdict {
        let key = |name: &str| match name {
            "laps" => self.laps_by.as_ref().map(|signer| signer.key.to_pem()),
            _ => Some(self.ours.key.to_pem()),
        };
        let policy = Policy::parse(&self.policy, &key).unwrap();
        let question = Question {
            image: &self.image,
            platform: self.platform,
            floor: self.floor,
            now: self.now.parse().unwrap(),
        };
        admit(&policy, &question, evidence)
    }

    pub(super) fn code(&self, evidence: &Evidence) -> &'static str {
        match self.judge(evidence).answer {
            Ok(_) => "admitted",
            Err(refusal) => refusal.code(),
        }
    }
}
