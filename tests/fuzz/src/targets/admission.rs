//! Policies, and the whole way from a registry's documents to a verdict.

use pitlane_fetch::{Layout, Source, gather};
use pitlane_release::{Floor, Platform, Policy, Question, admit};

use super::{images::write_layout, signatures::SIGNER, text, wait};
use crate::{Reached, Target, template};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "policy",
        run: policy,
        more: &[
            "policies/*.yaml",
            "shared:conformance/policy/valid/*",
            "shared:conformance/policy/invalid/*",
            "shared:conformance/policy/e2e/*",
            "shared:conformance/policy/examples/policies/*",
        ],
        words: &[
            "spec:",
            "images:",
            "  - glob: \"**\"",
            "authorities:",
            "key:",
            "data: |",
            "secretRef: { name: release }",
            "keyless:",
            "static: { action: pass }",
            "mode: warn",
            "drive:",
            "sources:",
            "minLaps: 0",
            "carKinds: []",
            "minimumCounter: 1",
            "attestations:",
        ],
        max: 12_000,
    },
    Target {
        name: "admission",
        run: admission,
        more: &[],
        words: &[
            "{{d1}}",
            "{{d2}}",
            "{{h2}}",
            "{{d3}}",
            "{{s3}}",
            "{{d5}}",
            "{{h5}}",
            "{{d6}}",
            "{{s6}}",
            "{{now}}",
            "\n%%\n",
            "seal ",
            "\"counter\":1",
            "\"evidence\":[]",
            "\"rollbackTo\":1",
            "linux/arm64",
            "\"layers\":[]",
            "\"subject\":[]",
            "https://sigstore.dev/cosign/sign/v1",
            "https://pitlane.dev/release/v1",
            "https://pitlane.dev/lap/v1",
            "https://slsa.dev/provenance/v1",
        ],
        max: 12_000,
    },
];

fn key(name: &str) -> Option<String> {
    (name == "release").then(|| SIGNER.key.to_pem())
}

fn policy(input: &[u8]) -> Reached {
    let parsed = Policy::parse(text(input), &key);
    if let Ok(policy) = &parsed {
        let image = "127.0.0.1:5000/team/car:v1".parse().unwrap();
        let _ = policy.covers(&image);
        // An authority is what lets anything in; a policy without one would say nothing.
        assert!(!policy.authorities.is_empty());
    }
    Reached::of(&parsed.map(|_| ()))
}

/// The first document is the policy, the second a layout's index, the rest its blobs. A blob that
/// begins with `seal ` is signed by the key `release`.
fn admission(input: &[u8]) -> Reached {
    let value = |name: &str| (name == "now").then(|| b"2026-06-01T00:00:00Z".to_vec());
    let finish = |document: Vec<u8>| match document.strip_prefix(b"seal ") {
        Some(payload) => SIGNER.seal(payload),
        None => document,
    };
    let documents = template::documents(input, &value, &finish);
    let Some((policy, blobs)) = documents.split_first() else { return Reached::refused("empty") };
    let policy = match Policy::parse(text(policy), &key) {
        Ok(policy) => policy,
        Err(error) => return Reached::refused(error),
    };
    let layout = match Layout::open(&write_layout(blobs)) {
        Ok(layout) => Source::Layout(layout),
        Err(error) => return Reached::refused(error),
    };
    let image = "r.example/team/car:v1".parse().unwrap();
    let mut reached = Reached::refused("");
    for platform in Platform::ALL {
        let evidence = match wait(gather(&layout, &policy, &image, platform)) {
            Ok(evidence) => evidence,
            Err(error) => {
                reached = reached.and(Reached::refused(error));
                continue;
            }
        };
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let question = Question { image: &image, platform, floor: Floor(2), now };
        let verdict = admit(&policy, &question, &evidence);
        if let Ok(verified) = &verdict.answer {
            assert_eq!(verified.platform(), platform);
            assert_eq!(verified.image().repository, image.repository);
            if policy.drive.is_some() {
                let counter = verified.counter().expect("what drives has a place in the order");
                assert!(Floor(2).admits(counter), "below the floor");
            }
        }
        let again = admit(&policy, &question, &evidence);
        assert_eq!(again.answer.is_ok(), verdict.answer.is_ok(), "same question, another answer");
        let how = verdict.answer.map(|_| ()).map_err(|refusal| refusal.code().to_owned());
        reached = reached.and(Reached::of(&how));
    }
    reached
}
