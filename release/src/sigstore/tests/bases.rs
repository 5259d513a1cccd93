//! The good bundles that the mutations start from: `conformance/` of the shared data.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    Digest,
    key::PublicKey,
    sigstore::{BundleVerdict, Expect, Identity, Subject, TrustRoot, Witness, verify},
};

/// The suite's defaults (`test/client.py`).
const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// Every format, log version and kind of signer once.
const BASES: [&str; 10] = [
    "bundle-verify/happy-path-v0.1",
    "bundle-verify/happy-path-v0.3",
    "bundle-verify/happy-path-intoto-in-dsse-v3",
    "bundle-verify/intoto-with-custom-trust-root",
    "bundle-verify/rekor2-happy-path",
    "bundle-verify/rekor2-checkpoint-multiple-cosigs",
    "bundle-verify/managed-key-happy-path",
    "bundle-verify/managed-key-and-trusted-root",
    "bundle-extra/cosign-oci-attestation",
    "bundle-extra/rust-cosign-v3-blob",
];

/// A good bundle with all that its verification takes.
pub(super) struct Base {
    pub(super) name: &'static str,
    pub(super) bundle: Value,
    pub(super) expect: Expect,
    root: TrustRoot,
    artifact: Option<Vec<u8>>,
    digest: Digest,
}

impl Base {
    fn open(shared: &Path, name: &'static str) -> Self {
        let dir = shared.join(name);
        let text = |file: &str| fs::read_to_string(dir.join(file)).ok();
        let own = fs::read(dir.join("artifact")).ok();
        let artifact = match text("digest") {
            Some(_) => None,
            None => own.or_else(|| fs::read(dir.join("../a.txt")).ok()),
        };
        let digest = match &artifact {
            Some(bytes) => Digest::of(bytes),
            None => text("digest").unwrap().trim().parse().unwrap(),
        };
        let or = |file: &str, default: &str| {
            text(file).map_or_else(|| default.to_owned(), |text| text.trim_end().to_owned())
        };
        let expect = match text("key.pub") {
            Some(pem) => {
                Expect::Key { key: PublicKey::from_pem(&pem).unwrap(), witness: Witness::default() }
            }
            None => {
                Expect::identity(Identity::exact(or("identity", IDENTITY), or("issuer", ISSUER)))
            }
        };
        let root = match text("trusted_root.json") {
            Some(json) => TrustRoot::parse(json.as_bytes()).unwrap(),
            None => TrustRoot::public_good().unwrap(),
        };
        let bundle = serde_json::from_str(&text("bundle.sigstore.json").unwrap()).unwrap();
        Self { name, bundle, expect, root, artifact, digest }
    }

    /// Its subject, as bytes where they are known.
    pub(super) fn subject(&self) -> Subject<'_> {
        match &self.artifact {
            Some(bytes) => Subject::Bytes(bytes),
            None => Subject::Digest(self.digest),
        }
    }

    /// Verifies another text in place of the bundle.
    pub(super) fn verify_text(&self, text: &[u8]) -> BundleVerdict {
        verify(text, self.subject(), &self.expect, &self.root)
    }

    /// Verifies another value in place of the bundle.
    pub(super) fn verify(&self, bundle: &Value) -> BundleVerdict {
        self.verify_text(bundle.to_string().as_bytes())
    }

    /// Verifies the bundle for another signer or subject.
    pub(super) fn verify_as(&self, subject: Subject<'_>, expect: &Expect) -> BundleVerdict {
        verify(self.bundle.to_string().as_bytes(), subject, expect, &self.root)
    }
}

/// All bases, each of which verifies as it is; none where the data is absent.
pub(super) fn bases() -> Vec<Base> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = env::var_os("PITLANE_SHARED").map_or_else(beside, PathBuf::from);
    let shared = shared.join("conformance");
    if !shared.is_dir() {
        assert!(
            env::var("CI").as_deref() != Ok("true"),
            "CI=true, but {} is missing: set PITLANE_SHARED",
            shared.display()
        );
        eprintln!("SKIP: {} is missing (set PITLANE_SHARED)", shared.display());
        return Vec::new();
    }
    let bases: Vec<Base> = BASES.iter().map(|name| Base::open(&shared, name)).collect();
    for base in &bases {
        let verdict = base.verify(&base.bundle);
        assert!(verdict.answer.is_ok(), "{}: {:?}", base.name, verdict.answer);
    }
    bases
}
