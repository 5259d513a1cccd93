//! The Python Sigstore client and `pitlane-verifier verify-bundle` give the same verdict.
//!
//! Both run in a network namespace without an interface where that is possible, so that neither
//! can ask anybody. The client's own trusted root comes with it; another one is handed over as a
//! client trust configuration (`--trust-config`). It knows no managed keys.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::common::{
    Ran, bin, is_root, json as parse, repository, run,
    sigstore::{Instance, PERSON, name},
    skip,
};

/// The signer of the conformance suite's bundles (its `test/client.py`).
const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// Bundles that say something about each part: good ones of each form, and for each a bad one.
const CASES: [(&str, bool); 12] = [
    ("happy-path-v0.1", true),
    ("happy-path-v0.3", true),
    ("happy-path-intoto-in-dsse-v3", true),
    ("trust-root-tlog-validity-end-inclusive", true),
    ("rekor2-happy-path", true),
    ("rekor2-checkpoint-multiple-cosigs", true),
    ("signature-mismatch_fail", false),
    ("dsse-invalid-sig_fail", false),
    ("inclusion-proof-corrupted-hash_fail", false),
    ("checkpoint-bad-keyhint_fail", false),
    ("rekor2-no-timestamp_fail", false),
    ("wrong-material_fail", false),
];

/// A good bundle that the client does not take, and what it says: it knows no log entries of the
/// kind `intoto`.
const NOT_KNOWN_TO_IT: (&str, &str) = ("intoto-with-custom-trust-root", "Integrated time only");

/// The client, where `scripts/peers.sh` put it.
fn python_sigstore() -> Option<PathBuf> {
    let program = repository().join("target/peers/venv-sigstore/bin/sigstore");
    if program.is_file() {
        return Some(program);
    }
    skip("the Python Sigstore client is missing: run scripts/peers.sh");
    None
}

/// A command that reaches nobody: root can take the network away from it.
fn alone(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(program);
    command
}

/// The Python client's verdict on a bundle with a certificate.
///
/// `trusted_root`: a file with the authorities and logs to trust; none for the public-good
/// instance's, which the client brings along.
pub(crate) fn python_sigstore_verify(
    client: &Path,
    bundle: &Path,
    artifact: &Path,
    (identity, issuer): (&str, &str),
    trusted_root: Option<&Path>,
) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = alone(client);
    command.env("HOME", home.path()).env("XDG_CACHE_HOME", home.path());
    command.env("XDG_DATA_HOME", home.path()).env("NO_COLOR", "1");
    if let Some(root) = trusted_root {
        let file = home.path().join("trust.json");
        let any = json!({ "selector": "ANY" });
        let config = json!({
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": parse(fs::read(root).unwrap()),
            // Nothing is signed; the format wants it.
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "rekorTlogConfig": any, "tsaConfig": any,
            },
        });
        fs::write(&file, config.to_string()).unwrap();
        command.arg("--trust-config").arg(file);
    }
    command.args(["verify", "identity", "--offline", "--bundle"]).arg(bundle);
    command.args(["--cert-identity", identity, "--cert-oidc-issuer", issuer]);
    run(command.arg(artifact))
}

/// Our verdict on the same.
fn our_verify(
    bundle: &Path,
    artifact: &Path,
    (identity, issuer): (&str, &str),
    trusted_root: Option<&Path>,
) -> Ran {
    let mut command = alone(&bin("pitlane-verifier"));
    command.args(["verify-bundle", "--output", "json", "--bundle"]).arg(bundle);
    command.args(["--certificate-identity", identity, "--certificate-oidc-issuer", issuer]);
    if let Some(root) = trusted_root {
        command.arg("--trusted-root").arg(root);
    }
    run(command.arg(artifact))
}

#[test]
fn the_python_client_and_we_agree() {
    let Some(client) = python_sigstore() else { return };
    let Some(shared) = std::env::var_os("PITLANE_SHARED").map(PathBuf::from) else {
        return skip("PITLANE_SHARED is not set");
    };
    let data = shared.join("conformance/bundle-verify");
    if !data.is_dir() {
        return skip(&format!("{} is missing", data.display()));
    }
    for (name, good) in CASES {
        let case = Case::open(&data, name);
        let (theirs, ours) = case.both(&client, &case.identity);
        // Theirs is 1 for every refusal; a traceback would be none.
        let want = if good { (Some(0), Some(0)) } else { (Some(1), Some(10)) };
        assert_eq!((theirs.code, ours.code), want, "{name}: {theirs:?}\n{ours:?}");
        assert!(!theirs.stderr.contains("Traceback"), "{name}: {theirs:?}");
        if good {
            let (theirs, ours) = case.both(&client, "somebody@example.org");
            let codes = (theirs.code, ours.code);
            assert_eq!(codes, (Some(1), Some(10)), "{name}: {theirs:?}\n{ours:?}");
        }
    }
    let (name, said) = NOT_KNOWN_TO_IT;
    let case = Case::open(&data, name);
    let (theirs, ours) = case.both(&client, &case.identity);
    assert_eq!((theirs.code, ours.code), (Some(1), Some(0)), "{name}: {theirs:?}\n{ours:?}");
    assert!(theirs.stderr.contains(said), "{name}: {theirs:?}");
}

/// Both ways: the client verifies what `pitlane sign-bundle` signs, for its signer alone.
#[test]
fn the_python_client_verifies_what_we_sign() {
    let Some(client) = python_sigstore() else { return };
    let instance = Instance::start();
    let root = instance.lab.trusted_root();
    for (config, in_toto) in [
        (instance.lab.signing_config(), false),
        (instance.lab.signing_config(), true),
        (instance.lab.old_signing_config(), false),
    ] {
        instance.sign(&config, in_toto).ok();
        let (bundle, artifact) = (instance.path("out.json"), instance.path("pilot.onnx"));
        let verify = |who: &str| {
            let signer = (who, instance.issuer());
            python_sigstore_verify(&client, &bundle, &artifact, signer, Some(&root))
        };
        verify(&name(&PERSON)).ok();
        verify("mallory@example.org").fails();
    }
}

/// A case of the conformance suite.
struct Case {
    bundle: PathBuf,
    artifact: PathBuf,
    identity: String,
    issuer: String,
    root: Option<PathBuf>,
}

impl Case {
    fn open(data: &Path, name: &str) -> Self {
        let case = data.join(name);
        let text = |file: &str, usual: &str| {
            let text = fs::read_to_string(case.join(file));
            text.map_or_else(|_| usual.to_owned(), |text| text.trim_end().to_owned())
        };
        let own = case.join("artifact");
        Self {
            bundle: case.join("bundle.sigstore.json"),
            artifact: if own.exists() { own } else { data.join("a.txt") },
            identity: text("identity", IDENTITY),
            issuer: text("issuer", ISSUER),
            root: Some(case.join("trusted_root.json")).filter(|root| root.exists()),
        }
    }

    /// Their verdict and ours, when this signer is asked for.
    fn both(&self, client: &Path, identity: &str) -> (Ran, Ran) {
        let signer = (identity, self.issuer.as_str());
        let root = self.root.as_deref();
        let theirs = python_sigstore_verify(client, &self.bundle, &self.artifact, signer, root);
        (theirs, our_verify(&self.bundle, &self.artifact, signer, root))
    }
}
