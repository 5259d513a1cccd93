//! OCI documents: manifests, indexes, configs, lists of referrers; and layouts of them.

use std::fs;

use pitlane_fetch::{Layout, Source};
use pitlane_release::{
    Digest, Platform, Repository,
    oci::{self, parse_config, parse_index, parse_manifest, parse_referrers},
};

use super::{fresh_folder, wait};
use crate::{Reached, Target, template};

const WORDS: &[&str] = &[
    "\"schemaVersion\":2",
    "\"schemaVersion\":1",
    "\"manifests\":[]",
    "\"layers\":[]",
    "\"config\":{}",
    "\"mediaType\":\"application/vnd.oci.image.index.v1+json\"",
    "\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\"",
    "\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\",\"variant\":\"v8\"}",
    "\"subject\":",
    "\"annotations\":{\"a\":\"b\"}",
    "\"size\":18446744073709551615",
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "org.opencontainers.image.ref.name",
    "{{d1}}",
    "{{s1}}",
    "{{d2}}",
];

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "oci-documents",
        run: documents,
        more: &["shared:conformance/images/slsa-v2.1.0/blobs/sha256/*"],
        words: WORDS,
        max: 20_000,
    },
    Target { name: "oci-layout", run: layout, more: &[], words: WORDS, max: 12_000 },
];

fn documents(input: &[u8]) -> Reached {
    let manifest = parse_manifest(input);
    let index = parse_index(input);
    assert!(manifest.is_err() || index.is_err(), "it reads as a manifest and as an index");
    if let Ok(manifest) = &manifest {
        assert!(manifest.layers.len() <= oci::MAX_LAYERS);
        let again = serde_json::to_vec(manifest).unwrap();
        assert_eq!(&parse_manifest(&again).unwrap(), manifest);
    }
    if let Ok(index) = &index {
        let again = serde_json::to_vec(index).unwrap();
        assert_eq!(&parse_index(&again).unwrap(), index);
        for platform in Platform::ALL {
            let known = index.child(platform).and_then(|child| child.platform.as_ref()?.known());
            assert!(known.is_none_or(|known| known == platform));
        }
    }
    let config = parse_config(input);
    if let Ok(config) = &config {
        let again = serde_json::to_vec(config).unwrap();
        assert_eq!(&parse_config(&again).unwrap(), config);
    }
    let referrers = parse_referrers(input);
    [
        Reached::of(&manifest),
        Reached::of(&index),
        Reached::of(&config),
        Reached::of(&referrers.map(|list| list.len())),
    ]
    .into_iter()
    .reduce(Reached::and)
    .unwrap()
}

/// Writes documents as a layout: the first is its index, the others its blobs.
pub(super) fn write_layout(documents: &[Vec<u8>]) -> std::path::PathBuf {
    let root = fresh_folder();
    let blobs = root.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(root.join("index.json"), documents.first().map_or(&[][..], Vec::as_slice)).unwrap();
    for document in documents.iter().skip(1) {
        fs::write(blobs.join(Digest::of(document).hex()), document).unwrap();
    }
    root
}

/// The two readers of layouts: the fetcher, and the assembler of the base image.
fn layout(input: &[u8]) -> Reached {
    let documents = template::documents(input, &|_| None, &|document| document);
    let root = write_layout(&documents);
    let mut reached = Platform::ALL
        .map(|platform| Reached::of(&pitlane_pipeline::assemble::base::read(&root, platform)))
        .into_iter()
        .reduce(Reached::and)
        .unwrap();
    let opened = Layout::open(&root);
    reached = reached.and(Reached::of(&opened));
    let Ok(layout) = opened else { return reached };
    let source = Source::Layout(layout);
    let repository: Repository = "r.example/team/car".parse().unwrap();
    wait(async {
        let named = source.manifest(&repository, "v1").await;
        reached = reached.and(Reached::of(&named));
        if let Ok(tags) = source.tags(&repository, 5).await {
            assert!(tags.len() <= 5);
        }
        for document in documents.iter().skip(1) {
            let digest = Digest::of(document);
            let found = source.referrers(&repository, &digest).await.unwrap();
            assert!(found.len() <= pitlane_fetch::MAX_REFERRERS);
            reached = reached.and(Reached::accepted(found.len().min(2)));
            let whole = source.manifest(&repository, &digest.to_string()).await.unwrap();
            assert_eq!(&whole, document);
        }
    });
    reached
}
