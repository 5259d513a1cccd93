//! Releases that a CI run signs without any key to keep, and the cars that admit them: the
//! pipeline with `sign.keyless`, a policy with `keyless` and `drive.workflow`, and a Sigstore
//! instance on loopback.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pitlane_sigstore_lab::Subject;
use serde_json::Value;

use crate::common::{
    Ran, bin, is_root, json as parse,
    lane::{Lane, quick, signed_by},
    peer, run,
    sigstore::{Instance, JOB, PERSON},
    skip, swap, write_secret,
};

pub(crate) const TAG: &str = "v1.0.0";

/// A lane's registry and repositories, with a pipeline that signs keyless.
pub(crate) struct Keyless {
    pub(crate) lane: Lane,
    pub(crate) instance: Instance,
    pub(crate) pipeline: PathBuf,
}

impl Keyless {
    pub(crate) fn start() -> Self {
        let mut lane = Lane::new(quick, str::to_owned);
        lane.start();
        let instance = Instance::start();
        let sign = format!(
            "    keyless: {{ signingConfig: {}, trustedRoot: {}, tokenFile: {} }}\n",
            instance.lab.signing_config().display(),
            instance.lab.trusted_root().display(),
            lane.path("token").display()
        );
        let policy = lane.path("config/policy.yaml");
        let ours = lane.path("config/cars.yaml");
        let pipeline = lane.side_pipeline("keyless", |text| {
            let text = swap(&quick(text), policy.to_str().unwrap(), ours.to_str().unwrap());
            signed_by(&text, &sign)
        });
        let keyless = Self { lane, instance, pipeline };
        keyless.policy("cars", str::to_owned);
        keyless
    }

    /// The cars' policy, edited.
    fn policy(&self, name: &str, edit: impl Fn(&str) -> String) -> PathBuf {
        let text = format!(
            "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {{ name: keyless }}
spec:
  images: [{{ glob: '**' }}]
  authorities:
    - name: github
      keyless:
        identities:
          - issuer: {}
            subjectRegExp: ^https://github\\.com/team/donkeycar/\\.github/workflows/release\\.yml@refs/tags/v[0-9.]+$
      ctlog: {{}}
drive:
  sources: [{{ repository: team/donkeycar, carKinds: [donkeycar] }}]
  workflow:
    repositories: [https://github.com/team/donkeycar]
    triggers: [push]
    runners: [github-hosted]
  provenance: {{}}
  evidence: [https://cyclonedx.org/bom]
",
            self.instance.issuer()
        );
        let file = self.lane.path(&format!("config/{name}.yaml"));
        fs::write(&file, edit(&text)).unwrap();
        file
    }

    /// The token of a run for this tag, of the commit that is there.
    pub(crate) fn job(&self, tag: &str, commit: &str) {
        let Subject::Workflow { repository, workflow, .. } = JOB else { unreachable!() };
        let reference = format!("refs/tags/{tag}");
        let job = Subject::Workflow { repository, workflow, reference: &reference, commit };
        write_secret(&self.lane.path("token"), &self.instance.lab.token(&job));
    }

    pub(crate) fn head(&self) -> String {
        self.lane.git(&self.lane.tree("donkeycar"), &["rev-parse", "HEAD"])
    }

    fn release(&self, tag: &str) -> Ran {
        self.lane.one_shot(tag, &self.pipeline, &[])
    }

    pub(crate) fn check(policy: &Path, root: Option<&Path>, image: &str) -> (Option<i32>, Value) {
        let mut command = Command::new(bin("pitlane-verifier"));
        command.args(["check", image, "--output", "json", "--policy"]).arg(policy);
        if let Some(root) = root {
            command.arg("--trusted-root").arg(root);
        }
        let ran = run(&mut command);
        (ran.code, parse(&ran.stdout))
    }
}

#[test]
fn a_car_admits_what_the_release_workflow_signed() {
    if !is_root() {
        return skip("the lane is tested as root");
    }
    let keyless = Keyless::start();
    let root = keyless.instance.lab.trusted_root();
    keyless.job(TAG, &keyless.head());
    keyless.release(TAG).ok();
    let image = format!("{}:{TAG}", keyless.lane.images());
    let policy = keyless.lane.path("config/cars.yaml");
    let (code, verdict) = Keyless::check(&policy, Some(&root), &image);
    assert_eq!((code, &verdict["admitted"]), (Some(0), &Value::Bool(true)), "{verdict:#}");
    let found = |name: &str| {
        let checks = verdict["checks"].as_array().unwrap();
        checks.iter().any(|check| check["check"] == name && check["passed"] == true)
    };
    assert!(found("workflow") && found("provenance") && found("evidence"), "{verdict:#}");

    // Somebody else's instance knows neither this authority nor this log.
    let (code, verdict) = Keyless::check(&policy, None, &image);
    assert_eq!(code, Some(10), "{verdict:#}");
    let code = verdict["refusal"]["code"].as_str().unwrap();
    assert!(["bad-certificate", "bad-log-entry", "bad-time"].contains(&code), "{verdict:#}");

    for (from, to, want) in [
        ("/team/donkeycar/", "/team/jetbot/", "wrong-signer"),
        ("- issuer: http", "- issuer: https://x", "wrong-signer"),
        (
            "repositories: [https://github.com/team/donkeycar]",
            "repositories: [https://github.com/a/b]",
            "wrong-workflow",
        ),
        ("triggers: [push]", "triggers: [schedule]", "wrong-workflow"),
        ("runners: [github-hosted]", "runners: [self-hosted]", "wrong-workflow"),
        (
            "evidence: [https://cyclonedx.org/bom]",
            "evidence: [https://spdx.dev/Document]",
            "no-attestation",
        ),
        ("repository: team/donkeycar", "repository: team/other", "wrong-source"),
    ] {
        let other = keyless.policy("other", |text| swap(text, from, to));
        let (code, verdict) = Keyless::check(&other, Some(&root), &image);
        assert_eq!(code, Some(10), "{to}: {verdict:#}");
        assert_eq!(verdict["refusal"]["code"], want, "{to}: {verdict:#}");
    }
    cosign_accepts(&keyless, &image);
}

/// cosign verifies the index and its attestation by the same root, and refuses another identity.
fn cosign_accepts(keyless: &Keyless, image: &str) {
    let Some(cosign) = peer("cosign") else { return };
    let verify = |name: &str| {
        let mut command = keyless.instance.command(&cosign);
        command.args(["verify", "--certificate-identity", name]);
        command.args(["--certificate-oidc-issuer", keyless.instance.issuer()]);
        command.arg("--trusted-root").arg(keyless.instance.lab.trusted_root());
        run(command.args(["--use-signed-timestamps", image]))
    };
    verify(&crate::common::sigstore::name(&JOB)).ok();
    verify("https://github.com/team/jetbot/.github/workflows/release.yml@refs/tags/v1.0.0").fails();
}

/// The pipeline's own check step refuses what the cars would refuse, and writes no tag.
#[test]
fn a_run_for_something_else_releases_nothing() {
    if !is_root() {
        return skip("the lane is tested as root");
    }
    let keyless = Keyless::start();
    let head = keyless.head();
    type Token<'a> = (&'a str, &'a dyn Fn());
    let cases: [Token<'_>; 3] = [
        ("another CI run signed it", &|| keyless.job("v0.9.0", &head)),
        ("another CI run signed it", &|| keyless.job(TAG, &"1".repeat(40))),
        ("it is signed by `eve@example.org`", &|| {
            write_secret(&keyless.lane.path("token"), &keyless.instance.lab.token(&PERSON));
        }),
    ];
    for (want, token) in cases {
        token();
        let ran = keyless.release(TAG);
        assert_eq!(ran.code, Some(10), "{want}: {}", ran.stderr);
        assert!(ran.stderr.contains(want), "{want}: {}", ran.stderr);
        let image = format!("{}:{TAG}", keyless.lane.images());
        let policy = keyless.lane.path("config/cars.yaml");
        let root = keyless.instance.lab.trusted_root();
        let mut command = Command::new(bin("pitlane-verifier"));
        command.args(["check", &image, "--policy"]).arg(&policy);
        let ran = run(command.arg("--trusted-root").arg(&root));
        assert_eq!(ran.code, Some(1), "no tag was written: {}", ran.stdout);
    }
}
