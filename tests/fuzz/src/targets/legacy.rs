//! Signatures from before bundles: layers of `.sig` and `.att` tags, and those tags.

use std::{collections::BTreeMap, fs, path::Path, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_fetch::{Layout, Source, gather};
use pitlane_release::{
    Digest, Policy, Repository,
    bundle::MAX_BUNDLE,
    evidence::LegacyLayer,
    oci,
    sigstore::{
        DSSE_LAYER, Expect, Identity, Keyless, LegacyKind, TrustRoot, Witness, legacy_by_key,
        legacy_kind, verify_legacy,
    },
    simple::{MAX_PAYLOAD, SIMPLE_SIGNING, SimpleSigning},
};
use serde_json::Value;

use super::{
    images::write_layout,
    signatures::{SIGNED, SIGNER, material},
    text, wait,
};
use crate::{Reached, Target, template};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "legacy-layer",
        run: layer,
        more: &[
            "shared:conformance/images/*/blobs/sha256/21454caf3a160dfbe6359f0501aa8401c6c0f2c7a8b71380ea21f8c4b48b64fe",
            "shared:conformance/images/*/blobs/sha256/738d456c898daf28d211c2e0b8ecf5dc67b9a1d631c99ef2c4b4669bcb7a0354",
            "shared:conformance/images/*/blobs/sha256/58e9fa25fbbfe6f6535d47f8e4888a3e1c379997604ffe02ccfe3af6a5b31812",
        ],
        words: &[
            "type application/vnd.dsse.envelope.v1+json\n",
            "type application/vnd.dev.cosign.simplesigning.v1+json\n",
            "dev.cosignproject.cosign/signature {{simplesig}}\n",
            "dev.sigstore.cosign/certificate ",
            "dev.sigstore.cosign/chain ",
            "dev.sigstore.cosign/bundle {\"SignedEntryTimestamp\":\"\",\"Payload\":{}}\n",
            "dev.sigstore.cosign/rfc3161timestamp {\"SignedRFC3161Timestamp\":\"AA==\"}\n",
            "-----BEGIN CERTIFICATE-----\\n",
            "-----END CERTIFICATE-----\\n",
            "{{simple}}",
            "{{envelope}}",
            "{{payload}}",
            "{{sig}}",
            "\"optional\":{}",
            "\n%%\n",
        ],
        max: 24_000,
    },
    Target {
        name: "legacy-tags",
        run: tags,
        more: &[],
        words: &[
            "{{d1}}",
            "{{d2}}",
            "{{s2}}",
            "\"size\":18446744073709551615",
            "\"size\":65537",
            "\"kind\":\"dev.cosignproject.cosign/sigs\"",
            "\"kind\":\"dev.cosignproject.cosign/atts\"",
            "application/vnd.dsse.envelope.v1+json",
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "\"annotations\":{}",
            "\n%%\n",
        ],
        max: 12_000,
    },
];

/// The one simple-signing payload that this process signs.
static SIMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let repository: Repository = "r.example/team/car".parse().unwrap();
    serde_json::to_vec(&SimpleSigning::of(&repository, Digest::from_bytes([0x22; 32]))).unwrap()
});
static SIMPLE_SIG: LazyLock<String> = LazyLock::new(|| STANDARD.encode(SIGNER.sign(&SIMPLE)));
static ENVELOPE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sealed: Value = serde_json::from_slice(&SIGNER.seal(SIGNED)).unwrap();
    serde_json::to_vec(&sealed["dsseEnvelope"]).unwrap()
});
static ROOT: LazyLock<TrustRoot> = LazyLock::new(|| TrustRoot::public_good().unwrap());
static BY_KEY: LazyLock<Expect> =
    LazyLock::new(|| Expect::Key { key: SIGNER.key.clone(), witness: Witness::NONE });
/// The signers of the images in the shared data.
static BY_IDENTITY: LazyLock<Expect> = LazyLock::new(|| {
    let generator = |version: &str| {
        let workflow = "generator_container_slsa3.yml@refs/tags";
        let folder = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows";
        let issuer = "https://token.actions.githubusercontent.com";
        Identity::exact(format!("{folder}/{workflow}/{version}"), issuer)
    };
    let person = Identity::exact("mitr@redhat.com", "https://github.com/login/oauth");
    Expect::Keyless(Keyless {
        any_of: vec![generator("v1.4.0"), generator("v2.1.0"), person],
        witness: Witness::default(),
        sct: true,
    })
});
/// The blobs of those images: what was really signed.
static BLOBS: LazyLock<BTreeMap<Digest, Vec<u8>>> = LazyLock::new(|| {
    let Some(shared) = std::env::var_os("PITLANE_SHARED") else { return BTreeMap::new() };
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    list(&Path::new(&shared).join("conformance/images"))
        .flat_map(|image| list(&image.path().join("blobs/sha256")).collect::<Vec<_>>())
        .filter_map(|blob| fs::read(blob.path()).ok())
        .map(|bytes| (Digest::of(&bytes), bytes))
        .collect()
});

fn value(name: &str) -> Option<Vec<u8>> {
    match name {
        "simple" => Some(SIMPLE.clone()),
        "simplesig" => Some(SIMPLE_SIG.clone().into_bytes()),
        "envelope" => Some(ENVELOPE.clone()),
        _ => material(name),
    }
}

/// A line for the type and for each annotation, a line `%%`, the payload. Or a manifest, whose
/// layers are then those of the shared images.
fn layer(input: &[u8]) -> Reached {
    if input.trim_ascii_start().starts_with(b"{") {
        return stored(input);
    }
    let documents = template::cut(input);
    let head = template::fill(documents[0], &value);
    let payload = template::fill(documents.get(1).copied().unwrap_or_default(), &value);
    let mut layer =
        LegacyLayer { media_type: String::new(), payload, annotations: BTreeMap::new() };
    for (name, value) in text(&head).lines().filter_map(|line| line.split_once(' ')) {
        match name {
            "type" => value.clone_into(&mut layer.media_type),
            _ => drop(layer.annotations.insert(name.to_owned(), value.replace("\\n", "\n"))),
        }
    }
    let simple = SimpleSigning::parse(&layer.payload);
    if let Ok(simple) = &simple {
        // Numbers with a point may be printed with another last digit.
        if simple.optional.as_ref().is_none_or(|optional| !optional.to_string().contains('.')) {
            let again = serde_json::to_vec(simple).unwrap();
            assert_eq!(&SimpleSigning::parse(&again).unwrap(), simple);
        }
    }
    let kind = legacy_kind(&layer);
    let by_key = legacy_by_key(&layer, &SIGNER.key);
    match (&by_key, kind) {
        (None, _) => {}
        (Some(payload), Some(LegacyKind::Signature)) => {
            assert!(*payload == *SIMPLE && *payload == layer.payload, "it was never signed");
        }
        (Some(payload), Some(LegacyKind::Attestation)) => {
            assert_eq!(payload, SIGNED, "it was never signed");
        }
        (Some(_), None) => panic!("a layer of no known kind has a signature"),
    }
    let in_full = verify_legacy(&layer, &BY_KEY, &ROOT);
    if let Ok(payload) = &in_full {
        assert_eq!(Some(payload), by_key.as_ref(), "the two ways to verify by key disagree");
    }
    let by_identity = verify_legacy(&layer, &BY_IDENTITY, &ROOT);
    assert!(by_identity.is_err(), "none of this is signed with a certificate of public Sigstore");
    Reached::of(&by_key.ok_or("not signed by the key"))
        .and(Reached::of(&in_full))
        .and(Reached::of(&by_identity))
        .and(Reached::refused(simple.err().unwrap_or_default()))
}

/// Layers whose annotations are the input's and whose bytes are those that were signed.
fn stored(input: &[u8]) -> Reached {
    let manifest = match oci::parse_manifest(input) {
        Ok(manifest) => manifest,
        Err(error) => return Reached::refused(error),
    };
    let mut reached = Reached::refused("");
    for layer in manifest.layers.into_iter().take(3) {
        let payload = BLOBS.get(&layer.digest).cloned().unwrap_or_default();
        let (media_type, annotations) = (layer.media_type, layer.annotations);
        let layer = LegacyLayer { media_type, payload, annotations };
        let verified = verify_legacy(&layer, &BY_IDENTITY, &ROOT);
        if let Ok(verified) = &verified {
            let signed = if legacy_kind(&layer) == Some(LegacyKind::Signature) {
                layer.payload.clone()
            } else {
                let envelope: Value = serde_json::from_slice(&layer.payload).unwrap();
                STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()
            };
            assert!(!signed.is_empty() && *verified == signed, "another payload");
        }
        assert!(legacy_by_key(&layer, &SIGNER.key).is_none(), "our key signed none of these");
        assert!(verify_legacy(&layer, &BY_KEY, &ROOT).is_err());
        reached = reached.and(Reached::of(&verified));
    }
    reached
}

/// An index and what it names, as a layout; what is gathered under an image's old tags.
fn tags(input: &[u8]) -> Reached {
    static POLICY: LazyLock<Policy> = LazyLock::new(|| {
        let text = "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\n\
            metadata: { name: fuzz }\nspec:\n  images: [{ glob: \"**\" }]\n  authorities:\n    \
            - { name: release, key: { secretRef: { name: release } } }\n";
        let key = |name: &str| (name == "release").then(|| SIGNER.key.to_pem());
        Policy::parse(text, &key).unwrap()
    });
    let documents = template::documents(input, &|_| None, &|document| document);
    let source = match Layout::open(&write_layout(&documents)) {
        Ok(layout) => Source::Layout(layout),
        Err(error) => return Reached::refused(error),
    };
    let repository: Repository = "r.example/team/car".parse().unwrap();
    let digest = Digest::from_bytes([7; 32]);
    let found = match wait(gather::signed(&source, &POLICY, &repository, &digest)) {
        Ok(signed) => signed.legacy,
        Err(error) => return Reached::refused(error),
    };
    let mut kinds = [0_usize; 2];
    for layer in &found {
        let size = layer.payload.len() as u64;
        match layer.media_type.as_str() {
            SIMPLE_SIGNING => assert!(size <= MAX_PAYLOAD, "{size} bytes"),
            DSSE_LAYER => assert!(size <= MAX_BUNDLE, "{size} bytes"),
            other => panic!("a layer of type `{other}`"),
        }
        kinds[usize::from(layer.media_type == DSSE_LAYER)] += 1;
    }
    assert!(found.len() <= 128, "{} layers of two tags", found.len());
    match found.len() {
        0 => Reached::refused("nothing"),
        _ => Reached::accepted(kinds.map(|n| if n > 0 { "some" } else { "none" }).join(" ")),
    }
}
