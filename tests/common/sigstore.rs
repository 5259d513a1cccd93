//! A Sigstore instance on loopback with the programs that sign and verify in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pitlane_sigstore_lab::{Lab, Subject};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Ran, bin, json as parse, run, write_secret};

/// Somebody, and a job that releases a car.
pub(crate) const PERSON: Subject<'static> = Subject::Person { email: "eve@example.org" };
pub(crate) const JOB: Subject<'static> = Subject::Workflow {
    repository: "team/donkeycar",
    workflow: ".github/workflows/release.yml",
    reference: "refs/tags/v1.0.0",
    commit: "0123456789abcdef0123456789abcdef01234567",
};
const JOB_NAME: &str =
    "https://github.com/team/donkeycar/.github/workflows/release.yml@refs/tags/v1.0.0";

/// The type of the statement that is signed.
pub(crate) const REVIEW: &str = "https://example.org/review/v1";

/// The name that a certificate has for a token's holder.
pub(crate) fn name(subject: &Subject<'_>) -> String {
    match subject {
        Subject::Person { email } => (*email).to_owned(),
        Subject::Workflow { .. } => JOB_NAME.to_owned(),
    }
}

/// An instance, a folder, an artifact and a statement about it.
pub(crate) struct Instance {
    pub(crate) lab: Lab,
    dir: TempDir,
}

impl Instance {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lab = Lab::start(&dir.path().join("lab")).unwrap();
        let instance = Self { lab, dir };
        fs::write(instance.path("pilot.onnx"), "a model").unwrap();
        let digest = pitlane_release::Digest::of("a model");
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": "pilot.onnx", "digest": { "sha256": digest.hex() } }],
            "predicateType": REVIEW,
            "predicate": { "passed": true },
        });
        fs::write(instance.path("review.json"), statement.to_string()).unwrap();
        instance.token(&instance.lab.token(&PERSON));
        instance
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Leaves a token where the programs look for it.
    pub(crate) fn token(&self, token: &str) {
        write_secret(&self.path("token"), token);
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.lab.addresses().issuer
    }

    /// A program in the folder, with nothing of this machine's identity.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(self.dir.path()).env("HOME", self.dir.path());
        for name in
            ["SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
        {
            command.env_remove(name);
        }
        command
    }

    /// `pitlane sign-bundle`, which writes `out.json`, up to its token and file.
    pub(crate) fn signing(&self, config: &Path) -> Command {
        let mut command = self.command(bin("pitlane"));
        command.args(["sign-bundle", "--bundle", "out.json"]);
        command.arg("--trusted-root").arg(self.lab.trusted_root());
        command.arg("--signing-config").arg(config);
        command
    }

    /// Signs the artifact, or the statement, with the token that lies there.
    pub(crate) fn sign(&self, config: &Path, in_toto: bool) -> Ran {
        self.sign_within(20, config, in_toto)
    }

    /// As `sign`, with so many seconds for a request.
    pub(crate) fn sign_within(&self, seconds: u32, config: &Path, in_toto: bool) -> Ran {
        let mut command = self.signing(config);
        command.args(["--token-file", "token", "--timeout", &seconds.to_string()]);
        if in_toto {
            command.args(["--in-toto", "review.json"])
        } else {
            command.arg("pilot.onnx")
        };
        run(&mut command)
    }

    /// Verifies a bundle for somebody; gives the exit code and the verdict.
    pub(crate) fn verify(
        &self,
        bundle: &str,
        who: &str,
        issuer: &str,
        root: &Path,
    ) -> (i32, Value) {
        self.verify_file(bundle, who, issuer, root, "pilot.onnx")
    }

    /// As `verify`, for another file.
    pub(crate) fn verify_file(
        &self,
        bundle: &str,
        who: &str,
        issuer: &str,
        root: &Path,
        file: &str,
    ) -> (i32, Value) {
        let mut command = self.command(bin("pitlane-verifier"));
        command.args(["verify-bundle", "--bundle", bundle, "--certificate-identity", who]);
        command.args(["--certificate-oidc-issuer", issuer, "--output", "json"]);
        let ran = run(command.arg("--trusted-root").arg(root).arg(file));
        (ran.code.unwrap(), parse(ran.stdout))
    }

    /// The bundle that was written.
    pub(crate) fn bundle(&self) -> Option<Value> {
        fs::read(self.path("out.json")).ok().map(parse)
    }

    /// The folder's files that are not the instance's or the test's own.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| !["lab", "pilot.onnx", "review.json", "token"].contains(&&**name))
            .collect()
    }
}
