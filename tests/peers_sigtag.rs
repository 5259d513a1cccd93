//! `.sig` tags: cosign accepts ours on its old path, and nobody's signature is lost.

use std::{fs, process::Command};

use crate::{
    common::{
        Ran, json as parse,
        lane::{Lane, quick},
        peer, run, swap,
    },
    peers_cosign::Cosign,
};

/// Verifies by `.sig` tags alone.
fn old_path(cosign: &Cosign, key: &str, image: &str) -> Ran {
    let key = cosign.key(key);
    let how = ["verify", "--insecure-ignore-tlog", "--new-bundle-format=false", "--key", &key];
    cosign.run(&[&how[..], &[image]].concat())
}

#[test]
fn sig_tags_stand_beside_those_of_others() {
    let (Some(program), Some(crane)) = (peer("cosign"), peer("crane")) else { return };
    let cosign = Cosign { program, lane: Lane::quick() };
    let lane = &cosign.lane;
    lane.keys("stranger");
    let bundles_only = lane.side_pipeline("bundles", quick);
    let index = parse(lane.one_shot("v1.0.0", &bundles_only, &[]).ok())["image"].clone();
    let index = index.as_str().unwrap();
    old_path(&cosign, "release", index).fails();

    // Somebody else signs first, in the old format.
    cosign.run(&["generate-key-pair", "--output-key-prefix", "theirs"]).ok();
    fs::rename(lane.path("theirs.pub"), lane.path("state/keys/theirs.pub")).unwrap();
    let old = ["--use-signing-config=false", "--tlog-upload=false", "--new-bundle-format=false"];
    let sign = ["sign", "-y", "--key", "theirs.key"];
    cosign.run(&[&sign[..], &old[..], &[index]].concat()).ok();

    let both = lane.side_pipeline("both", |text| {
        swap(&quick(text), "  sign:\n", "  sign:\n    sigTags: true\n")
    });
    lane.one_shot("v1.0.0", &both, &[]).ok();
    let digests = [index.split('@').nth(1).unwrap().to_owned()]
        .into_iter()
        .chain(["amd64", "arm64"].map(|arch| lane.platform(index, arch)));
    let manifest = |digest: &str| {
        let tag = format!("{}:{}.sig", lane.images(), digest.replace(':', "-"));
        let mut read = Command::new(&crane);
        run(read.args(["manifest", &tag]).env("DOCKER_CONFIG", lane.dir.path())).ok()
    };
    let mut before = Vec::new();
    for digest in digests {
        let image = format!("{}@{digest}", lane.images());
        let said = old_path(&cosign, "release", &image).ok();
        let payload = &parse(said.trim())[0]["critical"];
        assert_eq!(payload["identity"]["docker-reference"], lane.images());
        assert_eq!(payload["image"]["docker-manifest-digest"], digest.as_str());
        old_path(&cosign, "stranger", &image).fails();
        before.push((digest.clone(), manifest(&digest)));
    }
    old_path(&cosign, "theirs", index).ok();
    let layers = |text: &str| parse(text)["layers"].as_array().unwrap().len();
    assert_eq!(before.iter().map(|(_, text)| layers(text)).collect::<Vec<_>>(), [2, 1, 1]);

    // Again: a signature that is there is not made twice.
    lane.one_shot("v1.0.0", &both, &[]).ok();
    for (digest, text) in &before {
        assert_eq!(manifest(digest), *text);
    }
    // What is no list of signatures is not written over.
    let tag = format!("{}:{}.sig", lane.images(), before[1].0.replace(':', "-"));
    let mut retag = Command::new(&crane);
    run(retag.args(["copy", index, &tag]).env("DOCKER_CONFIG", lane.dir.path())).ok();
    let said = lane.one_shot("v1.0.0", &both, &[]).fails();
    assert!(said.contains(".sig cannot be added to"), "{said}");
    assert_eq!(parse(manifest(&before[1].0))["manifests"].as_array().unwrap().len(), 2);
}
