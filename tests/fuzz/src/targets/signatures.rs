//! Signatures: bundles, trusted roots, keys, statements. Nothing is vouched for that was not signed.

use std::sync::LazyLock;

use pitlane_release::{
    Digest,
    bundle::{Bundle, Signed, seal},
    key::PublicKey,
    lap::{LAP, Lap},
    provenance::{PROVENANCE, Provenance},
    sigstore::{Expect, Identity, Subject, TrustRoot, Witness, verify},
    statement::{ReleaseStatement, Statement},
};
use sigstore_crypto::KeyPair;

use super::text;
use crate::{Reached, Target, template};

const STATEMENT_WORDS: &[&str] = &[
    "https://in-toto.io/Statement/v1",
    "https://pitlane.dev/release/v1",
    "https://pitlane.dev/lap/v1",
    "https://slsa.dev/provenance/v1",
    "\"platforms\":{}",
    "\"counter\":0",
    "\"rollbackTo\":1",
    "\"expiresAt\":\"2027-01-01T00:00:00Z\"",
    "\"evidence\":[]",
    "\"subject\":[]",
    "\"2026-01-01T00:00:00.999999999-23:59\"",
    "linux/arm64",
];
const BUNDLE_WORDS: &[&str] = &[
    "\"publicKey\":{\"hint\":\"\"}",
    "\"messageSignature\":{\"signature\":\"AA==\"}",
    "\"dsseEnvelope\":",
    "\"tlogEntries\":[]",
    "\"rfc3161Timestamps\":[]",
    "\"inclusionProof\":",
    "\"inclusionPromise\":",
    "\"certificate\":{\"rawBytes\":\"MIIB\"}",
    "\"x509CertificateChain\":{\"certificates\":[]}",
    "\"canonicalizedBody\":\"e30=\"",
    "\"logIndex\":\"-1\"",
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "{{payload}}",
    "{{sig}}",
    "{{hint}}",
];

pub(super) const TARGETS: &[Target] = &[
    Target { name: "bundle", run: bundle, more: &[], words: BUNDLE_WORDS, max: 8_000 },
    Target {
        name: "verify-bundle",
        run: verify_bundle,
        more: &[
            "shared:conformance/bundle-verify/*/bundle.sigstore.json",
            "shared:conformance/bundle-extra/*/bundle.sigstore.json",
        ],
        words: BUNDLE_WORDS,
        max: 24_000,
    },
    Target {
        name: "trusted-root",
        run: trusted_root,
        more: &[
            "shared:conformance/public-good-trusted_root.json",
            "shared:conformance/bundle-verify/*/trusted_root.json",
        ],
        words: &["\"tlogs\":[]", "\"certificateAuthorities\":[]", "\"validFor\":{\"start\":\"\"}"],
        max: 16_000,
    },
    Target {
        name: "public-key",
        run: public_key,
        more: &[
            "shared:conformance/bundle-verify/*/key.pub",
            "shared:conformance/policy/examples/keys/*.pub",
        ],
        words: &["-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----", "\n"],
        max: 20_000,
    },
    Target { name: "statement", run: statement, more: &[], words: STATEMENT_WORDS, max: 10_000 },
];

/// The signer of this process, and the one statement that it ever signed in [`bundle`].
pub(super) struct Signer {
    pair: KeyPair,
    pub(super) key: PublicKey,
}

pub(super) static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let pair = KeyPair::generate_ecdsa_p256().unwrap();
    let key = PublicKey::from_spki(pair.public_key_der().unwrap().as_bytes()).unwrap();
    Signer { pair, key }
});

impl Signer {
    /// The signature of a message, DER.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).unwrap().as_bytes().to_vec()
    }

    /// A bundle around a payload.
    pub(super) fn seal(&self, payload: &[u8]) -> Vec<u8> {
        let sign = |pae: &[u8]| self.pair.sign(pae).map(|signed| signed.as_bytes().to_vec());
        seal(payload, &self.key.hint(), sign).unwrap()
    }
}

/// The one statement that is signed in bundles and envelopes.
pub(super) const SIGNED: &[u8] = br#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"2222222222222222222222222222222222222222222222222222222222222222"}}],"predicateType":"x","predicate":{}}"#;

/// The base64 of the one payload and its signature.
static MATERIAL: LazyLock<(String, String)> = LazyLock::new(|| {
    let sealed: serde_json::Value = serde_json::from_slice(&SIGNER.seal(SIGNED)).unwrap();
    let envelope = &sealed["dsseEnvelope"];
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (text(&envelope["payload"]), text(&envelope["signatures"][0]["sig"]))
});

/// What bundle templates may name.
pub(super) fn material(name: &str) -> Option<Vec<u8>> {
    let value = match name {
        "payload" => MATERIAL.0.clone(),
        "sig" => MATERIAL.1.clone(),
        "hint" => SIGNER.key.hint(),
        _ => return None,
    };
    Some(value.into_bytes())
}

fn bundle(input: &[u8]) -> Reached {
    let input = template::fill(input, &material);
    let parsed = Bundle::parse(&input);
    if let Ok(bundle) = &parsed {
        assert_eq!(bundle.verify([]), Signed::ByNobodyKnown);
        return match bundle.verify([&SIGNER.key]) {
            Signed::By(key, payload) => {
                assert_eq!((key, payload), (&SIGNER.key, SIGNED), "it was never signed");
                Reached::accepted("signed")
            }
            Signed::Altered => Reached::refused("altered"),
            Signed::ByNobodyKnown => Reached::refused("nobody known"),
        };
    }
    Reached::of(&parsed)
}

/// The signer of the conformance suite's bundles (its `test/client.py`).
const IDENTITY: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";
/// The digest of the suite's usual artifact (its `a.txt`).
const ARTIFACT: &str = "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf";

/// Everything that is asked of a bundle, by identity and by key.
fn verify_bundle(input: &[u8]) -> Reached {
    static ROOT: LazyLock<TrustRoot> = LazyLock::new(|| TrustRoot::public_good().unwrap());
    static BY_IDENTITY: LazyLock<Expect> =
        LazyLock::new(|| Expect::identity(Identity::exact(IDENTITY, ISSUER)));
    static BY_KEY: LazyLock<Expect> = LazyLock::new(|| Expect::Key {
        key: PublicKey::from_spki(SIGNER.key.spki()).unwrap(),
        witness: Witness::NONE,
    });
    let input = template::fill(input, &material);
    let subject = Digest::from_bytes([0x22; 32]);
    let by_key = verify(&input, Subject::Digest(subject), &BY_KEY, &ROOT).answer;
    if let Ok(verified) = &by_key {
        // What a key signed here is one payload; a bundle that verifies holds it unchanged.
        let bundle = Bundle::parse(&input).expect("a verified bundle parses");
        assert_eq!(bundle.untrusted_payload(), SIGNED, "it was never signed");
        assert_eq!(verified.subject(), &subject);
    }
    let artifact: Digest = ARTIFACT.parse().unwrap();
    let by_identity = verify(&input, Subject::Digest(artifact), &BY_IDENTITY, &ROOT).answer;
    if let Ok(verified) = &by_identity {
        let same = matches!(verified.signer(), pitlane_release::sigstore::Signer::Identity { san, issuer, .. }
            if san == IDENTITY && issuer == ISSUER);
        assert!(same && verified.subject() == &artifact, "{verified:?}");
    }
    Reached::of(&by_key).and(Reached::of(&by_identity))
}

fn trusted_root(input: &[u8]) -> Reached {
    Reached::of(&TrustRoot::parse(input).map(|_| ()))
}

fn public_key(input: &[u8]) -> Reached {
    let by_der = PublicKey::from_spki(input);
    let by_pem = PublicKey::from_pem(text(input));
    for key in [&by_der, &by_pem].into_iter().flatten() {
        let again = PublicKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.spki(), key.spki());
        assert!(!key.verifies(b"what was never signed", &[0x30, 6, 2, 1, 1, 2, 1, 1]));
    }
    Reached::of(&by_der.map(|_| ())).and(Reached::of(&by_pem.map(|_| ())))
}

fn statement(input: &[u8]) -> Reached {
    let release = ReleaseStatement::read(input);
    if let Ok(statement) = &release {
        assert!(statement.is_about(&statement.predicate.index));
        let again = serde_json::to_vec(statement).unwrap();
        assert_eq!(&ReleaseStatement::read(&again).unwrap(), statement);
    }
    let lap = Statement::<Lap>::parse(input, LAP);
    let provenance = Statement::<Provenance>::parse(input, PROVENANCE);
    let kinds = [release.is_ok(), lap.is_ok(), provenance.is_ok()];
    assert!(kinds.into_iter().filter(|kind| *kind).count() <= 1, "one payload is two kinds");
    Reached::of(&release).and(Reached::of(&lap)).and(Reached::of(&provenance))
}
